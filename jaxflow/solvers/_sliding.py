"""Explicit Runge–Kutta steps with a tolerance of their own where they slide along kinks.

Where a vector field jumps across a surface and points at it from both sides, the solution
slides along the surface (Filippov). An explicit method steps across it, back, and across
again. Each crossing is an error of size `h · jump` at any order of the method, so a tight
tolerance gets its error only by tiny steps. But these errors have both signs and the field
itself takes the state back to the surface: they do not add up. Held to a looser tolerance,
the state chatters about the surface with an amplitude of `h · jump`, and the step is
nearly as long as stability allows.

Crossing a kink once is another matter. Its error stays, and with a loose tolerance for
every step with a crossing nothing would be held to the tight one: a network of 40 neurons
on 50 samples crosses some kink in nearly every step.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ._kinks import KinkMemory, no_switch_yet, switched_in_stages
from ._stepper import AbstractStepper
from ._whole_steps import WholeSteps
from ._written_out import WrittenOut


class SlidingState(NamedTuple):
    slope: Any
    kinks: KinkMemory


def _unchanged(state):
    return state


class SlidingSteps(diffrax.AbstractAdaptiveSolver):
    """Divides the error estimate of a step that slides along a kink by `factor`.

    A step slides if a pair of a neuron and a sample switches in it that has switched in two
    of the ten steps before.

    Arguments:
        method: a `diffrax.AbstractERK`, whose steps these are.
        sides: a function of the weights that tells for every pair the side of its kink.
        factor: how much looser the tolerance is for steps that slide.
        weights: the weights at which a flow evaluates its network, from a state.
            `gradient_flow` puts in what belongs to its coordinates.
    """

    method: diffrax.AbstractERK
    sides: Callable[[Any], Bool[Array, "*pairs"]]
    factor: Any
    weights: Callable[[Any], Any] = eqx.field(static=True, default=_unchanged)
    term_structure: ClassVar = diffrax.AbstractTerm

    @property
    def steps(self) -> WrittenOut:
        """The method with its stages written out."""
        return WrittenOut(self.method)  # pyright: ignore[reportCallIssue]

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.method.interpolation_cls

    @property
    def tableau(self) -> diffrax.ButcherTableau:
        """The coefficients of the method."""
        return self.steps.tableau

    def stepper(self, flow: Any) -> AbstractStepper:
        """The stepper for the coordinates of a flow."""
        own = dataclasses.replace(self, weights=flow.weights)
        return WholeSteps(own)  # pyright: ignore[reportCallIssue]

    def order(self, terms):
        return self.steps.order(terms)

    def init(self, terms, t0, t1, y0, args):
        sides = self._sides_at(y0)
        return SlidingState(self.steps.init(terms, t0, t1, y0, args), no_switch_yet(sides))

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        known: SlidingState = solver_state
        end, error, dense_info, slope, result = self.steps.step(
            terms, t0, t1, y0, args, known.slope, made_jump
        )
        sides = self._sides_at(end)
        switched = switched_in_stages(
            known.kinks, self._sides_at, self.tableau, y0, sides, dense_info["k"]
        )
        share = jnp.where(known.kinks.slides(switched), 1 / self.factor, 1.0)
        error = jax.tree_util.tree_map(lambda e: e * share.astype(e.dtype), error)
        seen = SlidingState(slope, known.kinks.after(sides, switched))
        return end, error, dense_info, seen, result

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

    def _sides_at(self, state):
        return self.sides(self.weights(state))
