"""Explicit steps while accuracy limits them, stabilized ones while stability does.

Members side by side may be in either. What an explicit step costs is paid in an attempt
only if some member of the pool makes one: where nothing is stiff, a pool works as one with
the explicit method alone. Stabilized steps, which cost more, are made when enough members
wait for one. Which members are side by side changes when a step is made, never the step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..._arrays import ratio, select
from .._kinks import KinkMemory, no_switch_yet, Sides, switched_in_stages
from .._resting import Resting, resting_at
from .._stepper import AbstractStepper, select_state, Step
from .._whole_steps import count_evaluations
from .._written_out import WrittenOut
from ._quartic import QuarticInterpolation
from ._rkc import rkc2_table
from ._rosenbrock import rodasp_table
from ._solver import AbstractStagedSolver, FORGOTTEN
from ._stage_table import join, StageTable
from ._state import StagedState
from ._turns import Turns

_STIFF, _NOT_STIFF = 2.5 / 3.5, 2.0 / 3.5
"""Shares of the interval in which the explicit method is stable. A step with a larger `h ρ`
than the first is taken to be limited by stability. A stabilized step with a smaller one
than the second could have been explicit; that is less, so that members do not change to and
fro. Chosen; benchmarks/plateau.py was run with them."""

_EVIDENCE = 6
"""How many more steps than not must have found the other kind of method better before it
takes over. Hairer and Wanner's DOPRI5 waits for 15 such steps before it calls a problem
stiff, and for 6 others to forget them; six was chosen for both ways."""

_SLIDING_FACTOR = 30.0
"""How much looser the tolerance is for steps that slide. Chosen; scripts/kinks.py."""

_SHORT_SLIDE, _LONG_SLIDE = 100, 1000
"""Steps that slide for which the factor stays what it is, and after which it grows no more.
Between them it grows in proportion, so that a member that slides to its end gets there: of
eight networks of two hidden neurons one needed 9,955 steps without that. Chosen: the factor
becomes 300 at most, with which a state is within a hundredth of the surface."""


class _Explicit(NamedTuple):
    """An explicit method, for paths with kinks or without."""

    method: diffrax.AbstractERK
    interval: float  # stable where -h λ lies in [0, interval]
    bulge: tuple[float, ...]  # of its dense output, see `QuarticInterpolation`


_TSIT5 = _Explicit(
    diffrax.Tsit5(),
    interval=3.5,
    bulge=(
        -1.0530884977290216,
        0.1017,
        2.490627285651252793,
        -16.54810288924490272,
        47.37952196281928122,
        -34.87065786149660974,
        2.5,
    ),  # the coefficients of θ⁴ in the weights of its dense output, as diffrax has them
)
_BOSH3 = _Explicit(diffrax.Bosh3(), interval=2.5, bulge=(0.0,) * 4)


class Stabilized(AbstractStagedSolver):
    """RKC2, and a Rosenbrock method where that is cheaper."""

    drives: Callable[[Any], Any] | None = eqx.field(static=True, default=None)

    @property
    def table(self):
        return _table()

    def order(self, terms):
        return 2

    def error_order(self, terms):
        return 3


@functools.cache
def _table() -> StageTable:
    return join([rkc2_table(), rodasp_table()])


class AutomaticState(NamedTuple):
    """What is kept between two attempts."""

    stabilized: Bool[Array, ""]  # the kind of method of the step
    evidence: Int[Array, ""]  # steps for which the other kind was better, less the others
    waited: Int[Array, ""]  # attempts of others, for a stabilized one to be made
    staged: StagedState  # the slope at the start and the work done, in either kind
    kinks: KinkMemory | None
    slid: Int[Array, ""]  # steps that slid, less those since that did not
    resting: Resting | None  # where there are kinks


class _Made(NamedTuple):
    """A step of one kind, before it is accepted or rejected."""

    candidate: Any
    error: Any
    error_order: Float[Array, ""]
    dense_info: Any
    switched: Bool[Array, "*pairs"] | None


class _Seen(NamedTuple):
    """What an explicit step shows of the Jacobian."""

    slope: Float[Array, " n"]  # at its end
    radius: Float[Array, ""]  # spectral radius, from the last two stages
    vector: Float[Array, " n"]  # that belongs to it, of unit norm or zero


class AutomaticSteps(AbstractStepper):
    """The steps of `Automatic`: an explicit one in one attempt, others in several.

    Arguments:
        drives: as for `Automatic`.
        sides: as for `Automatic`.
        weights: of a state, whose direction may come to rest; all of it if `None`.
        live: as for `among`.
        lanes: as for `among`.
    """

    drives: Callable[[Any], Any] | None = eqx.field(static=True)
    sides: Sides | None
    weights: Callable[[Any], Any] | None = eqx.field(static=True, default=None)
    live: Bool[Array, ""] | None = None
    lanes: str | None = eqx.field(static=True, default=None)
    divisible = True
    estimates_error = True
    evaluations_per_attempt = None
    is_light = False

    def among(self, live, lanes):
        return dataclasses.replace(self, live=live, lanes=lanes)

    def init(self, terms, t0, t1, y0, args):
        sides = self.sides
        return AutomaticState(
            stabilized=jnp.asarray(False),
            evidence=jnp.zeros((), jnp.int32),
            waited=jnp.zeros((), jnp.int32),
            staged=self._stabilized.init(terms, t0, t1, y0, args),
            kinks=None if sides is None else no_switch_yet(sides(y0, args)),
            slid=jnp.zeros((), jnp.int32),
            resting=None if sides is None else resting_at(self._weights(y0)),
        )

    def attempt(self, terms, t0, t1, y0, args, state: AutomaticState):
        stabilized, kinks = state.stabilized, state.kinks
        turns = Turns(self.live, self.lanes)
        explicit = functools.partial(self._explicit, terms, t0, t1, y0, args, state)
        made, seen = jax.lax.cond(
            turns.any_wants(~stabilized),
            lambda _: explicit(),
            lambda zero: zero,
            _zeros(explicit),
        )

        def staged(known):
            _, _, made = known
            progress, ready, other = self._staged(terms, t0, t1, y0, args, state)
            return (
                progress,  # of no use unless it is stabilized
                ready | ~stabilized,
                select(stabilized, other, made),
            )

        stabilizes = turns.enough_want(stabilized, state.waited)
        progress, ready, made = jax.lax.cond(
            stabilizes,
            staged,
            lambda known: known,
            (state.staged, ~stabilized, made),
        )
        error, slides = made.error, jnp.asarray(False)
        if kinks is not None:
            slides = kinks.slides(made.switched)
            share = jnp.where(slides, 1 / _sliding_factor(state.slid), 1.0)
            error = jax.tree_util.tree_map(lambda e: e * share.astype(e.dtype), error)

        def settle(accepted):
            waits = stabilized & ~stabilizes
            waited = jnp.where(waits, state.waited + 1, 0).astype(state.waited.dtype)
            before = state._replace(staged=progress, waited=waited)
            step = jnp.asarray(t1 - t0, seen.slope.dtype)
            explicit = self._settled_explicit(state, step, seen, made.switched, accepted)
            staged = self._settled_staged(before, t0, t1, y0, accepted)
            staged = select_state(ready, staged, before)
            after = select_state(stabilized, staged, explicit)
            if kinks is None:
                return after
            remembered = kinks.after(self._sides(made.candidate, args), made.switched)
            slid = jnp.clip(state.slid + jnp.where(slides, 1, -1), 0, _LONG_SLIDE)
            ends = self._weights(y0), self._weights(made.candidate)
            resting = cast(Resting, state.resting).after(*ends)
            old = kinks, state.slid, state.resting
            new = select(ready & accepted, (remembered, slid, resting), old)
            return after._replace(kinks=new[0], slid=new[1], resting=new[2])

        return Step(
            candidate=made.candidate,
            error=error,
            error_order=made.error_order,
            dense_info=made.dense_info,
            result=diffrax.RESULTS.successful,
            ready=ready,
            settle=settle,
        )

    def interpolation(self, t0, t1, dense_info):
        return QuarticInterpolation(t0=t0, t1=t1, **dense_info)

    def again(self, state):
        return state._replace(staged=state.staged.again())

    def steps_spent(self, state, num_steps):
        return state.staged.steps_spent(num_steps)

    def rests(self, state):
        return None if state.resting is None else state.resting.rests

    def longest_step(self, state):
        longest = self._stabilized.longest_step(state.staged)
        return jnp.where(state.stabilized, longest, jnp.inf)

    def cost(self, state, num_attempts):
        return state.staged.work

    def error_order(self, terms):
        return self.explicit.error_order(terms)

    # -- one kind and the other --

    def _explicit(self, terms, t0, t1, y0, args, state) -> tuple[_Made, _Seen]:
        steps, tables = self.explicit, self._explicit_one
        _, unravel = ravel_pytree(y0)
        end, error, dense_info, slope, _ = steps.step(
            terms, t0, t1, y0, args, unravel(state.staged.slope), False
        )
        increments = dense_info["k"]
        combined = lambda row: jax.tree_util.tree_map(
            lambda k: jnp.tensordot(jnp.asarray(row, k.dtype), k, axes=1), increments
        )
        leaf_of = lambda place: jax.tree_util.tree_map(lambda k: k[place], increments)
        dense = {
            "y0": y0,
            "y1": end,
            "rise0": leaf_of(0),
            "rise1": leaf_of(-1),
            "bulge": combined(tables.bulge),
        }
        flat = lambda tree: ravel_pytree(tree)[0]
        drives = self._drives(y0)
        step = jnp.asarray(t1 - t0, state.staged.slope.dtype)
        *_, before_last, last = steps.tableau.a_lower
        apart = list(last)
        for place, weight in enumerate(before_last):
            apart[place] -= weight
        distance = jnp.linalg.norm(drives * flat(combined([*apart, 0.0])))
        change = drives * flat(jax.tree_util.tree_map(lambda k: k[-1] - k[-2], increments))
        size = jnp.linalg.norm(change)
        # The last two stages of a step at the limit of stability differ by the vector that
        # belongs to the largest eigenvalue.
        seen = _Seen(flat(slope), ratio(ratio(size, step), distance), ratio(change, size))
        made = _Made(
            end,
            error,
            jnp.asarray(steps.error_order(terms), step.dtype),
            dense,
            self._switched_in_stages(state.kinks, args, y0, end, increments),
        )
        return made, seen

    def _staged(self, terms, t0, t1, y0, args, state):
        solver = self._stabilized
        progress = solver.advance(terms, t0, t1, y0, args, state.staged)
        end, error, dense = solver.finish(t0, t1, y0, progress)
        switched = None
        if state.kinks is not None:
            switched = self._sides(end, args) != state.kinks.sides
        made = _Made(end, error, solver.error_order_of(progress), dense, switched)
        return progress, solver.is_ready(progress), made

    def _settled_explicit(self, state, step, seen: _Seen, switched, accepted):
        stiff = step * seen.radius > _STIFF * self._explicit_one.interval
        if switched is not None:
            # A jump between the last two stages is no large eigenvalue.
            stiff &= ~jnp.any(switched)
        turns, evidence = _weighed(state.evidence, stiff)
        turns &= accepted
        staged, used = state.staged, count_evaluations(self.explicit).per_attempt
        usable = turns & jnp.any(seen.vector != 0)
        work = staged.work
        return state._replace(
            stabilized=turns,
            evidence=jnp.where(accepted, evidence, state.evidence),
            staged=staged._replace(
                slope=jnp.where(accepted, seen.slope, staged.slope),
                vector=jnp.where(usable, seen.vector, staged.vector),
                radius=jnp.where(usable, seen.radius, staged.radius),
                age=jnp.full_like(staged.age, FORGOTTEN),
                work=work._replace(num_evaluations=work.num_evaluations + used),
            ),
        )

    def _settled_staged(self, state, t0, t1, y0, accepted):
        step = jnp.asarray(t1 - t0, state.staged.slope.dtype)
        limit = _NOT_STIFF * self._explicit_one.interval
        turns, evidence = _weighed(state.evidence, step * state.staged.radius < limit)
        turns &= accepted
        return state._replace(
            stabilized=~turns,
            evidence=jnp.where(accepted, evidence, state.evidence),
            staged=self._stabilized.settle(t0, t1, y0, state.staged, accepted),
        )

    # -- kinks --

    def _sides(self, state, args):
        return cast(Sides, self.sides)(state, args)

    def _switched_in_stages(self, kinks, args, start, end, increments):
        if kinks is None:
            return None
        tableau, sides = self.explicit.tableau, lambda at: self._sides(at, args)
        return switched_in_stages(kinks, sides, tableau, start, sides(end), increments)

    def _weights(self, state):
        return ravel_pytree(state)[0] if self.weights is None else self.weights(state)

    def _drives(self, y0):
        drives = self.drives
        if drives is None:
            return jnp.asarray(1.0, ravel_pytree(y0)[0].dtype)
        return ravel_pytree(drives(y0))[0]

    @property
    def explicit(self) -> WrittenOut:
        """The explicit method."""
        return WrittenOut(self._explicit_one.method)  # pyright: ignore[reportCallIssue]

    @property
    def _explicit_one(self) -> _Explicit:
        return _TSIT5 if self.sides is None else _BOSH3

    @property
    def _stabilized(self) -> Stabilized:
        return Stabilized(self.drives)


def _sliding_factor(slid: Int[Array, ""]) -> Float[Array, ""]:
    growth = jnp.maximum(slid, _SHORT_SLIDE).astype(float) / _SHORT_SLIDE
    return _SLIDING_FACTOR * growth


def _weighed(evidence, better):
    """Whether the other kind of method takes over, and the evidence after this step."""
    evidence = jnp.where(better, evidence + 1, jnp.maximum(evidence - 1, 0))
    turns = evidence >= _EVIDENCE
    return turns, jnp.where(turns, 0, evidence)


def _zeros(function: Callable) -> Any:
    """Zeros of the shapes of what a function gives."""
    shapes = jax.eval_shape(function)
    return jax.tree_util.tree_map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
