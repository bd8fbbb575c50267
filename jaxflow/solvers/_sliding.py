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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int8

from ._written_out import WrittenOut

_MEMORY = 10
"""Steps within which a pair that switches again is on its way back."""


class SlidingState(NamedTuple):
    slope: Any
    last: Int8[Array, "*pairs"]  # accepted steps since the last switch
    before: Int8[Array, "*pairs"]  # since the last but one


class SlidingSteps(WrittenOut):
    """Divides the error estimate of a step that slides along a kink by `factor`.

    A pair of a neuron and a sample switches in a step if not all stages are on the same
    side of its kink. A step slides if a pair switches in it that has switched in two of
    the ten steps before.

    **Arguments:**

    - `method`: a `diffrax.AbstractERK`.
    - `sides`: a function of the state that tells for every pair the side of its kink.
    - `factor`: how much looser the tolerance is for steps that slide.
    """

    sides: Callable[[Any], Bool[Array, "*pairs"]]
    factor: Any

    def init(self, terms, t0, t1, y0, args):
        pairs = jax.eval_shape(self.sides, y0).shape
        never = jnp.full(pairs, _MEMORY, jnp.int8)
        return SlidingState(super().init(terms, t0, t1, y0, args), never, never)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        known: SlidingState = solver_state
        end, error, dense_info, slope, result = super().step(
            terms, t0, t1, y0, args, known.slope, made_jump
        )
        switched = self._switched(y0, end, dense_info["k"])
        slides = jnp.any(switched & (known.before < _MEMORY))
        share = jnp.where(slides, 1 / self.factor, 1.0)
        error = jax.tree_util.tree_map(lambda e: e * share.astype(e.dtype), error)
        seen = SlidingState(
            slope,
            last=jnp.where(switched, jnp.int8(0), _older(known.last)),
            before=_older(jnp.where(switched, known.last, known.before)),
        )
        return end, error, dense_info, seen, result

    def _switched(self, start, end, increments) -> Bool[Array, "*pairs"]:
        """Whether the stages of a step are on both sides.

        Their states are computed again from the increments, and the network with them: a
        compiler that sees both computations does each once.
        """
        tableau = self._tableau
        first = self.sides(start)
        switched = self.sides(end) != first
        for row in tableau.a_lower[: -1 if tableau.ssal else None]:
            stage = jax.tree_util.tree_map(
                lambda y, k, row=row: y + _combination(row, k), start, increments
            )
            switched |= self.sides(stage) != first
        return switched


def _combination(row, increments):
    terms = [float(a) * increments[j] for j, a in enumerate(row) if a != 0]
    return sum(terms[1:], start=terms[0])


def _older(age):
    return jnp.minimum(age + 1, _MEMORY).astype(jnp.int8)
