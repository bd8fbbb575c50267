"""Explicit steps that are made one evaluation of the vector field at a time.

Stabilized methods take five stages in one step and five hundred in the next, and members
of an ensemble want different numbers at the same moment. Under `vmap` a loop over the
stages of a step would run as long as the longest. So a step goes from phase to phase here,
as `_moves.py` says: estimating the spectral radius, a recurrence, the stages of a tableau,
its linear systems. A move in any of them costs one evaluation of the vector field, so
members in different phases and with different methods advance side by side, and none waits
for another. Products with the Jacobian, which for gradient flow is `-∇²𝓛`, are differences
of the vector field for the same reason.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..._arrays import select
from ..._checks import shown
from ...errors import InputError
from .._stepper import AbstractStepper, Scratch, Work
from ._linear import largest_interval
from ._moves import begin, move
from ._quartic import QuarticInterpolation
from ._row import combine, Row
from ._stage_table import StageTable
from ._state import FRESH, READY, StagedState, StepSetting, System, WithinStep
from ._steps import StagedSteps

_MOVES = 6
"""Moves between two looks at whether a step is ready: as many as Tsit5 needs."""

_FIRST_GUESS = 40
"""Evaluations that a Rosenbrock step is taken to cost before one has been made, and the
least that one is expected to cost while none is. Chosen."""

FORGOTTEN = 2**30
"""An age that no estimate reaches: there is none yet, or it may not be used any more."""


class AbstractStagedSolver(diffrax.AbstractAdaptiveSolver):
    """A solver whose steps are made one evaluation of the vector field at a time.

    `step` makes a whole step, as with every diffrax solver. For many members side by side,
    `advance` is called until the step `is_ready`, then `finish`, and `settle` once it is
    known whether the step was accepted.

    The spectral radius of the Jacobian, `ρ`, is estimated by nonlinear power iteration:

        v ← (f(y_0 + ε v) - f(y_0)) / ε,    ρ ≈ ‖v‖,  v ← v / ‖v‖,

    from the last estimate's vector on, and only when an estimate is old or a step was
    rejected. For gradient flow the quotient is a Hessian-vector product.

    Source:
        B. P. Sommeijer, L. F. Shampine and J. G. Verwer, RKC: an explicit solver for
        parabolic PDEs, J. Comput. Appl. Math. 88 (1997) 315–326, section 3.
    """

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar = QuarticInterpolation

    drives: eqx.AbstractVar[Callable[[Any], Any] | None]
    """Which components of a state others depend on: a function from a state to numbers, one
    for those and zero for the rest, such as a clock that is integrated along with it.
    Norms are taken without the rest. All components, if `None`."""

    def __check_init__(self):
        if self.drives is not None and not callable(self.drives):
            raise InputError("drives", shown(self.drives), "a function of a state, or None")

    @property
    @abc.abstractmethod
    def table(self) -> StageTable:
        """The methods a step may be made with."""

    def stepper(self, flow: Any) -> AbstractStepper:
        """The stepper for a flow, which tells which components drive the others."""
        own = dataclasses.replace(self, drives=flow.drives)
        return StagedSteps(own)  # pyright: ignore[reportCallIssue]

    # -- diffrax's interface --

    def init(self, terms, t0, t1, y0, args):
        del t1
        vector, _ = ravel_pytree(y0)
        slope, _ = ravel_pytree(terms.vf(t0, y0, args))
        zero = jnp.zeros((), jnp.int32)
        # A random vector, since one with a pattern may be orthogonal to an eigenvector.
        random = np.random.default_rng(0).standard_normal(vector.size)
        within = WithinStep(
            newest=vector,
            older=vector,
            point=vector,
            slopes=jnp.zeros((self.table.num_slopes, vector.size), vector.dtype),
            system=System(vector, vector, vector, 0 * vector[0], vector, zero),
        )
        return StagedState(
            slope=slope,
            phase=zero + FRESH,
            row=zero,
            stage=zero,
            within=Scratch(within),  # pyright: ignore[reportCallIssue]
            rosenbrock_cost=jnp.asarray(_FIRST_GUESS, vector.dtype),
            radius=jnp.zeros((), vector.dtype),
            vector=jnp.asarray(random / np.linalg.norm(random), vector.dtype),
            age=zero + FORGOTTEN,
            begun=zero,
            work=Work(zero + 1, zero, zero),
        )

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        del made_jump
        state = jax.lax.while_loop(
            lambda state: ~self.is_ready(state),
            lambda state: self.advance(terms, t0, t1, y0, args, state),
            solver_state,
        )
        y1, error, dense_info = self.finish(t0, t1, y0, state)
        state = self.settle(t0, t1, y0, state, jnp.asarray(True))
        return y1, error, dense_info, state, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

    # -- a step in parts --

    def is_ready(self, state: StagedState) -> Bool[Array, ""]:
        """Whether all evaluations of the step have been made."""
        return state.phase == READY

    def advance(self, terms, t0, t1, y0, args, state: StagedState) -> StagedState:
        """A few more evaluations; none once the step is ready."""
        start, unravel = ravel_pytree(y0)
        step = jnp.asarray(t1 - t0, start.dtype)
        size = _size_of_weights(y0)

        def field(point):
            return ravel_pytree(terms.vf(t0, unravel(point), args))[0]

        setting = StepSetting(self.table, field, start, step, size, self._drives(y0))
        begun = begin(setting, state)
        state = select(state.phase == FRESH, begun, state)
        return jax.lax.fori_loop(0, _MOVES, lambda _, state: move(setting, state), state)

    def _drives(self, y0):
        if self.drives is None:
            return jnp.asarray(1.0, ravel_pytree(y0)[0].dtype)
        return ravel_pytree(self.drives(y0))[0]

    def finish(self, t0, t1, y0, state: StagedState) -> tuple[Any, Any, Any]:
        """The end of a step that is ready, its error, and what its dense output needs."""
        start, unravel = ravel_pytree(y0)
        step = jnp.asarray(t1 - t0, start.dtype)
        row = Row(self.table, state.row, start.dtype)
        end = state.now.newest + step * combine(row.tableau[row.last], state.now.slopes)
        rises = step * state.slope, step * state.now.slopes[row.last]
        of_difference, of_sum = row.error_of_ends
        of_last_point, of_point = row.error_of_points
        error = (
            step * combine(row.error, state.now.slopes)
            + of_difference * (start - end)
            + of_sum * (rises[0] + rises[1])
            + of_last_point * (state.now.newest - start)
            + of_point * (state.now.point - start)
        )
        # Longer than the longest stable step: to be tried again, shorter.
        too_long = step > self.longest_step(state)
        error = jnp.where(too_long, jnp.inf, error)
        dense_info = {
            "y0": y0,
            "y1": unravel(end),
            "rise0": unravel(rises[0]),
            "rise1": unravel(rises[1]),
            "bulge": unravel(step * combine(row.bulge, state.now.slopes)),
        }
        return unravel(end), unravel(error), dense_info

    def settle(
        self, t0, t1, y0, state: StagedState, accepted: Bool[Array, ""]
    ) -> StagedState:
        """The state before the next step."""
        step = jnp.asarray(t1 - t0, state.slope.dtype)
        row = Row(self.table, state.row, step.dtype)
        cost = (state.work.num_evaluations - state.begun).astype(step.dtype)
        solved = accepted & (row.gamma > 0)
        # A solved step tells what the next will cost. After a failed one four times its
        # cost is assumed, which falls by two percent with every step, so that a Rosenbrock
        # step is tried again later. Both factors were chosen.
        guess = jnp.maximum(0.98 * state.rosenbrock_cost, _FIRST_GUESS)
        return state._replace(
            rosenbrock_cost=jnp.where(
                solved, cost, jnp.where(row.gamma > 0, 4 * cost, guess)
            ),
            slope=jnp.where(accepted, state.now.slopes[row.last], state.slope),
            phase=jnp.full_like(state.phase, FRESH),
            age=jnp.where(accepted, jnp.minimum(state.age + 1, FORGOTTEN), FORGOTTEN),
            work=state.work._replace(
                num_stabilized=state.work.num_stabilized + accepted.astype(jnp.int32)
            ),
        )

    def error_order_of(self, state: StagedState) -> Float[Array, ""]:
        """The order of the error of the step that is ready, whose method may be any."""
        return Row(self.table, state.row, state.slope.dtype).error_order

    def longest_step(self, state: StagedState) -> Float[Array, ""]:
        """The longest step for which the table has a stable method."""
        known = state.radius > 0
        radius = jnp.where(known, state.radius, 1.0)
        longest = self._largest_interval(radius.dtype)
        return jnp.where(known, longest / radius, jnp.inf)

    def _largest_interval(self, dtype) -> float:
        """The largest `h ρ` for which the table has a stable method."""
        table = self.table
        largest = float(table.interval[table.stabilized][-1])
        return max(largest, largest_interval(dtype)) if table.has_rosenbrock else largest


def _size_of_weights(y0):
    """The norm of the largest array of a state, against which differences are short."""
    size = jnp.linalg.norm(max(jax.tree_util.tree_leaves(y0), key=lambda leaf: leaf.size))
    return jnp.where(size > 0, size, 1.0)
