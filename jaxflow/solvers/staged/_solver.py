"""Explicit steps that are made one evaluation of the vector field at a time.

Stabilized methods take five stages in one step and five hundred in the next, and members
of an ensemble want different numbers at the same moment. Under `vmap` a loop over the
stages of a step would run as long as the longest. So a step is a small machine here, which
goes from phase to phase:

    FRESH ──> ESTIMATING the spectral radius, where that is needed
          ──> RECURRING, the three-term recurrence of a stabilized method
          ──> FINISHING, the stages of a tableau <──> SOLVING its linear systems, if any
          ──> READY.

A move within each of the phases in the middle costs one evaluation of the vector field, so
members in different phases and with different methods advance side by side, and none waits
for another. Products with the Jacobian, which for gradient flow is `-∇²𝓛`, are differences
of the vector field for the same reason.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._work import Work
from ._quartic import QuarticInterpolation
from ._stage_table import StageTable

FRESH, ESTIMATING, RECURRING, FINISHING, SOLVING, READY = range(6)

_MOVES = 6  # between two looks at whether a step is ready: as many as Tsit5 needs
_RADIUS_AGE = 25  # accepted steps for which an estimate of the spectral radius is used
_RADIUS_SAFETY = 1.1
_RADIUS_TOLERANCE = 0.02
_MOST_POWER_ITERATIONS = 50
_LINEAR_TOLERANCE = 1e-6  # of a residual, relative to the right-hand side
_MOST_LINEAR_ITERATIONS = 100
_FIRST_GUESS = 40  # evaluations in a Rosenbrock step
_EARLY = 0.5  # share of a Rosenbrock step's cost from which its higher order pays
_LARGEST_NOISE = 1e-3  # of differences, relative to a vector that the Jacobian annuls
_OLD = 2**30


class System(NamedTuple):
    """`(I - h γ J) x = b` half solved by the method of conjugate residuals.

    Every iteration needs `J r`, a central difference: two evaluations.
    """

    residual: Float[Array, " n"]  # r
    direction: Float[Array, " n"]  # p
    image: Float[Array, " n"]  # q = (I - h γ J) p
    target: Float[Array, ""]  # for ‖r‖
    ahead: Float[Array, " n"]  # f(y_0 + ε r/‖r‖), in the second half of an iteration
    count: Int[Array, ""]  # evaluations so far


class StagedState(NamedTuple):
    """What is kept between two evaluations of the vector field."""

    slope: Float[Array, " n"]  # f_0
    phase: Int[Array, ""]
    row: Int[Array, ""]  # the method of this step
    stage: Int[Array, ""]  # within the phase
    newest: Float[Array, " n"]  # Y_j
    older: Float[Array, " n"]  # Y_{j-1}
    point: Float[Array, " n"]  # Y_k, kept for the error
    slopes: Float[Array, "slopes n"]  # K
    system: System  # for K_i, while SOLVING
    rosenbrock_cost: Float[Array, ""]  # evaluations in a Rosenbrock step, as last seen
    radius: Float[Array, ""]  # estimate of the spectral radius
    vector: Float[Array, " n"]  # that belongs to it, of unit norm
    age: Int[Array, ""]  # accepted steps since the radius was estimated
    stabilized: Bool[Array, ""]  # the kind of method for the next step
    evidence: Int[Array, ""]  # steps that spoke for the other kind
    begun: Int[Array, ""]  # evaluations before this step
    work: Work


class Verdict(NamedTuple):
    """Which kind of method comes next."""

    stabilized: Bool[Array, ""]
    evidence: Int[Array, ""]


class AbstractStagedSolver(diffrax.AbstractAdaptiveSolver):
    """A solver whose steps are made one evaluation of the vector field at a time.

    `step` makes a whole step, as with every diffrax solver. Who drives many members side
    by side calls `advance` until the step `is_ready`, then `finish`, and `settle` once it
    is known whether the step was accepted.

    The spectral radius of the Jacobian, `ρ`, is estimated by nonlinear power iteration:

        v ← (f(y_0 + ε v) - f(y_0)) / ε,    ρ ≈ ‖v‖,  v ← v / ‖v‖,

    from the last estimate's vector on, and only when an estimate is old or a step was
    rejected. For gradient flow the quotient is a Hessian-vector product.

    **Source:** B. P. Sommeijer, L. F. Shampine and J. G. Verwer, RKC: an explicit solver
    for parabolic PDEs, J. Comput. Appl. Math. 88 (1997) 315–326, section 3.
    """

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar = QuarticInterpolation

    drives: eqx.AbstractVar[Callable[[Any], Any] | None]
    """Which components of a state others depend on: a function from a state to numbers, one
    for those and zero for the rest, such as a clock that is integrated along with it.
    Norms are taken without the rest. All components, if `None`."""

    @property
    @abc.abstractmethod
    def table(self) -> StageTable:
        """The methods a step may be made with: a plain one in row 0, if there is one."""

    @abc.abstractmethod
    def judge(
        self, state: StagedState, step: Float[Array, ""], stiffness: Float[Array, ""]
    ) -> Verdict:
        """The kind of method that comes next, after an accepted step.

        **Arguments:** the `state`, the length of the `step`, and `stiffness`, its length
        times the spectral radius as the last two stages of a plain method show it.
        """

    @property
    def num_plain(self) -> int:
        """How many rows of the table are no stabilized methods: zero or one."""
        return int(np.sum((self.table.length == 0) & (self.table.gamma == 0)))

    # -- diffrax's interface --

    def init(self, terms, t0, t1, y0, args):
        del t1
        vector, _ = ravel_pytree(y0)
        slope, _ = ravel_pytree(terms.vf(t0, y0, args))
        zero = jnp.zeros((), jnp.int32)
        # Any vector will do that is not orthogonal to an eigenvector by its making.
        random = np.random.default_rng(0).standard_normal(vector.size)
        return StagedState(
            slope=slope,
            phase=zero + FRESH,
            row=zero,
            stage=zero,
            newest=vector,
            older=vector,
            point=vector,
            slopes=jnp.zeros((self.table.num_slopes, vector.size), vector.dtype),
            system=System(vector, vector, vector, 0 * vector[0], vector, zero),
            rosenbrock_cost=jnp.asarray(_FIRST_GUESS, vector.dtype),
            radius=jnp.zeros((), vector.dtype),
            vector=jnp.asarray(random / np.linalg.norm(random), vector.dtype),
            age=zero + _OLD,
            stabilized=jnp.asarray(self.num_plain == 0),
            evidence=zero,
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

        setting = _Setting(field, start, step, size, self._drives(y0))
        begun = self._begin(setting, state)
        state = _where(state.phase == FRESH, begun, state)
        move = lambda _, state: self._move(setting, state)
        return jax.lax.fori_loop(0, _MOVES, move, state)

    def _drives(self, y0):
        if self.drives is None:
            return jnp.asarray(1.0, ravel_pytree(y0)[0].dtype)
        return ravel_pytree(self.drives(y0))[0]

    def finish(self, t0, t1, y0, state: StagedState) -> tuple[Any, Any, Any]:
        """The end of a step that is ready, its error, and what its dense output needs."""
        start, unravel = ravel_pytree(y0)
        step = jnp.asarray(t1 - t0, start.dtype)
        row = self._row(state.row, start.dtype)
        end = state.newest + step * _combine(row.tableau[row.last], state.slopes)
        rises = step * state.slope, step * state.slopes[row.last]
        of_difference, of_sum = row.error_of_ends
        of_last_point, of_point = row.error_of_points
        error = (
            step * _combine(row.error, state.slopes)
            + of_difference * (start - end)
            + of_sum * (rises[0] + rises[1])
            + of_last_point * (state.newest - start)
            + of_point * (state.point - start)
        )
        # Too long for any method at hand: to be tried again, shorter.
        too_long = state.stabilized & (step > self.longest_step(state))
        error = jnp.where(too_long, jnp.inf, error)
        dense_info = {
            "y0": y0,
            "y1": unravel(end),
            "rise0": unravel(rises[0]),
            "rise1": unravel(rises[1]),
            "bulge": unravel(step * _combine(row.bulge, state.slopes)),
        }
        return unravel(end), unravel(error), dense_info

    def settle(
        self, t0, t1, y0, state: StagedState, accepted: Bool[Array, ""]
    ) -> StagedState:
        """The state before the next step."""
        step = jnp.asarray(t1 - t0, state.slope.dtype)
        row = self._row(state.row, state.slope.dtype)
        drives = self._drives(y0)
        last, before = state.slopes[row.last], state.slopes[row.last - 1]
        apart = step * _combine(
            row.tableau[row.last] - row.tableau[row.last - 1], state.slopes
        )
        distance = _norm(drives * apart)
        change = _norm(drives * (last - before))
        slope_rate = change / jnp.where(distance > 0, distance, 1.0)
        verdict = self.judge(state, step, step * slope_rate)
        verdict = _where(accepted, verdict, Verdict(state.stabilized, state.evidence))
        # The last two stages of a step at the limit of stability differ by the vector that
        # belongs to the largest eigenvalue.
        turns = verdict.stabilized & ~state.stabilized
        shown = drives * (last - before) / jnp.where(change > 0, change, 1.0)
        usable = turns & (change > 0)
        stays_young = accepted & ~turns
        cost = (state.work.num_evaluations - state.begun).astype(step.dtype)
        solved = accepted & (row.gamma > 0)
        # What is dear today is asked again later.
        guess = jnp.maximum(0.98 * state.rosenbrock_cost, _FIRST_GUESS)
        return state._replace(
            rosenbrock_cost=jnp.where(
                solved, cost, jnp.where(row.gamma > 0, 4 * cost, guess)
            ),
            slope=jnp.where(accepted, last, state.slope),
            phase=jnp.full_like(state.phase, FRESH),
            vector=jnp.where(usable, shown, state.vector),
            radius=jnp.where(usable, slope_rate, state.radius),
            age=jnp.where(stays_young, jnp.minimum(state.age + 1, _OLD), _OLD),
            stabilized=verdict.stabilized,
            evidence=verdict.evidence,
            work=state.work._replace(
                num_stabilized=state.work.num_stabilized
                + (accepted & state.stabilized).astype(jnp.int32)
            ),
        )

    def error_order_of(self, state: StagedState) -> Float[Array, ""]:
        """The order of the error of the step that is ready, whose method may be any."""
        return self._row(state.row, state.slope.dtype).error_order

    def longest_step(self, state: StagedState) -> Float[Array, ""]:
        """The longest step for which a stable method is at hand."""
        known = state.stabilized & (state.radius > 0)
        radius = jnp.where(known, state.radius, 1.0)
        longest = self._largest_interval(radius.dtype)
        return jnp.where(known, longest / radius, jnp.inf)

    def _largest_interval(self, dtype) -> float:
        """The largest `h ρ` for which a method is at hand."""
        largest = float(self.table.interval[self._explicit][-1])
        return max(largest, _most_for_differences(dtype)) if self._solves else largest

    @property
    def _explicit(self) -> slice:
        """The rows of stabilized methods."""
        return slice(self.num_plain, len(self.table.interval) - self._solves)

    @property
    def _solves(self) -> bool:
        """Whether the last row is a Rosenbrock method."""
        return bool(self.table.gamma[-1] > 0)

    # -- moves --

    def _begin(self, setting: "_Setting", state: StagedState) -> StagedState:
        state = state._replace(begun=state.work.num_evaluations)
        estimates = state.stabilized & (state.age >= _RADIUS_AGE)
        estimating = state._replace(
            phase=jnp.full_like(state.phase, ESTIMATING), stage=0 * state.stage
        )
        return _where(estimates, estimating, self._enter(setting, state))

    def _enter(self, setting: "_Setting", state: StagedState) -> StagedState:
        """Choose the method of this step, now that the spectral radius is known."""
        start, step = setting.start, setting.step
        number = jnp.where(state.stabilized, self._stabilized_row(state, step), 0)
        row = self._row(number, start.dtype)
        recurs = row.length > 0
        # After the first stage, whose slope f_0 is there already.
        newest = (
            start + step * jnp.where(recurs, row.coefficients(0).slope, 0.0) * state.slope
        )
        phase = jnp.where(row.length > 1, RECURRING, FINISHING)
        begins = jnp.where(recurs & (row.length == 1), 0, 1)
        explicit = state._replace(
            phase=phase.astype(state.phase.dtype),
            row=number.astype(state.row.dtype),
            stage=begins.astype(state.stage.dtype),
            newest=newest,
            older=start,
            point=start,
            slopes=jnp.zeros_like(state.slopes).at[0].set(state.slope),
        )
        if not self._solves:
            return explicit
        state = explicit._replace(stage=0 * state.stage, newest=start)
        posed = self._pose(setting, state, row, state.slope)
        return _where(row.gamma > 0, posed, explicit)

    def _stabilized_row(self, state: StagedState, step):
        """The method of fewest stages that is stable, or a Rosenbrock method if cheaper."""
        intervals = jnp.asarray(self.table.interval[self._explicit], step.dtype)
        stiffness = step * state.radius
        place = jnp.minimum(jnp.searchsorted(intervals, stiffness), len(intervals) - 1)
        number = self.num_plain + place
        if not self._solves:
            return number
        dear = (
            jnp.asarray(self.table.length, step.dtype)[number]
            > _EARLY * state.rosenbrock_cost
        )
        too_stiff = stiffness > intervals[-1]
        usable = stiffness < _most_for_differences(step.dtype)
        return jnp.where(usable & (dear | too_stiff), len(self.table.interval) - 1, number)

    def _move(self, setting: "_Setting", state: StagedState) -> StagedState:
        field, start, step, size, drives = setting
        row = self._row(state.row, start.dtype)
        estimating = state.phase == ESTIMATING
        finishing = state.phase == FINISHING
        solving = state.phase == SOLVING
        weights = jnp.where(finishing, row.tableau[state.stage], 0.0)
        point = state.newest + step * _combine(weights, state.slopes)
        probe = size * float(jnp.finfo(start.dtype).eps) ** 0.5
        point = jnp.where(estimating, start + probe * state.vector, point)
        if self._solves:
            reach = size * float(jnp.finfo(start.dtype).eps) ** (1 / 3)
            length = _norm(drives * state.system.residual)
            reach = reach / jnp.where(length > 0, length, 1.0)
            side = jnp.where(state.system.count % 2 == 0, reach, -reach)
            ahead = start + side * drives * state.system.residual
            point = jnp.where(solving, ahead, point)
        slope = field(point)
        moved = _where(
            estimating,
            self._after_estimate(setting, state, (slope - state.slope) / probe),
            _where(
                finishing,
                self._after_slope(setting, state, slope, row),
                self._after_recurrence(setting, state, slope, row),
            ),
        )
        if self._solves:
            moved = _where(
                solving, self._after_product(setting, state, slope, reach, row), moved
            )
        one = jnp.ones_like(state.stage)
        work = state.work._replace(
            num_evaluations=state.work.num_evaluations + one,
            num_power_iterations=state.work.num_power_iterations
            + jnp.where(estimating, one, 0),
        )
        return _where(self.is_ready(state), state, moved._replace(work=work))

    def _after_estimate(self, setting, state: StagedState, image) -> StagedState:
        image = setting.drives * image
        radius = _norm(image)
        usable = (radius > 0) & jnp.isfinite(radius)
        with_safety = _RADIUS_SAFETY * radius
        settled = jnp.abs(with_safety - state.radius) <= _RADIUS_TOLERANCE * with_safety
        done = (settled & (state.stage > 0)) | (state.stage >= _MOST_POWER_ITERATIONS)
        next_state = state._replace(
            stage=state.stage + 1,
            radius=jnp.where(usable, with_safety, state.radius),
            vector=jnp.where(usable, image / jnp.where(usable, radius, 1.0), state.vector),
        )
        entered = self._enter(setting, next_state._replace(age=0 * state.age))
        return _where(done | ~usable, entered, next_state)

    def _after_recurrence(self, setting, state: StagedState, slope, row):
        start, step = setting.start, setting.step
        c = row.coefficients(state.stage)
        newest = (
            c.start * start
            + c.newest * state.newest
            + c.older * state.older
            + step * (c.slope * slope + c.first_slope * state.slope)
        )
        stage = state.stage + 1
        ends = stage >= row.length
        return state._replace(
            phase=jnp.where(ends, FINISHING, state.phase).astype(state.phase.dtype),
            stage=jnp.where(ends, 0, stage),
            newest=newest,
            older=state.newest,
            point=jnp.where(stage == row.point, newest, state.point),
        )

    def _after_slope(self, setting, state: StagedState, slope, row) -> StagedState:
        ends = state.stage >= row.last
        explicit = state._replace(
            phase=jnp.where(ends, READY, state.phase).astype(state.phase.dtype),
            stage=jnp.where(ends, state.stage, state.stage + 1),
            slopes=jnp.where(self._here(state), slope[None], state.slopes),
        )
        if not self._solves:
            return explicit
        posed = self._pose(setting, state, row, slope)
        return _where((row.gamma > 0) & ~ends, posed, explicit)

    def _pose(self, setting, state: StagedState, row, slope) -> StagedState:
        """The linear system for the slope of this stage, with the first guess zero."""
        here = self._here(state)
        slopes = jnp.where(here, 0.0, state.slopes)
        given = row.gamma * (slope + _combine(row.coupling[state.stage], slopes))
        zero = jnp.zeros_like(given)
        target = _LINEAR_TOLERANCE * _norm(setting.drives * given)
        return state._replace(
            phase=jnp.full_like(state.phase, SOLVING),
            slopes=slopes,
            system=System(given, zero, zero, target, zero, 0 * state.stage),
        )

    def _after_product(self, setting, state: StagedState, slope, reach, row):
        system, step, drives = state.system, setting.step, setting.drives
        half = state._replace(system=system._replace(ahead=slope, count=system.count + 1))
        product = (system.ahead - slope) / (2 * reach)  # J r
        turned = system.residual - step * row.gamma * product
        old = drives * system.image
        overlap = _over(turned @ old, system.image @ old)
        direction = system.residual - overlap * system.direction
        image = turned - overlap * system.image
        new = drives * image
        length = _over(system.residual @ new, image @ new)
        residual = system.residual - length * image
        count = system.count + 1
        solved = ~(_norm(drives * residual) > system.target)
        # What does not drive the rest is found from it: its own Jacobian is left out.
        found = length * direction + jnp.where(solved, (1 - drives) * residual, 0.0)
        slopes = state.slopes + jnp.where(self._here(state), found[None], 0.0)
        fails = ~solved & (count >= 2 * _MOST_LINEAR_ITERATIONS)
        state = state._replace(
            slopes=jnp.where(fails, jnp.nan, slopes),
            phase=jnp.where(fails, READY, state.phase).astype(state.phase.dtype),
            system=System(residual, direction, image, system.target, slope, count),
        )
        whole = _where(solved, self._next_stage(setting, state, row), state)
        return _where(system.count % 2 == 0, half, whole)

    def _next_stage(self, setting, state: StagedState, row) -> StagedState:
        state = state._replace(
            phase=jnp.full_like(state.phase, FINISHING), stage=state.stage + 1
        )
        # A stage at the start of the step needs no evaluation.
        return _where(
            row.is_start[state.stage], self._pose(setting, state, row, state.slope), state
        )

    def _here(self, state: StagedState):
        stages = jnp.arange(state.slopes.shape[0], dtype=state.stage.dtype)
        return (stages == state.stage)[:, None]

    def _row(self, number, dtype) -> "_Row":
        return _Row(self.table, number, dtype)


class AbstractStabilizedSolver(AbstractStagedSolver):
    """A staged solver all of whose methods are stabilized."""

    drives: Callable[[Any], Any] | None = eqx.field(static=True, default=None)

    def judge(self, state, step, stiffness):
        return Verdict(state.stabilized, state.evidence)


class _Coefficients(NamedTuple):
    start: Any  # α
    newest: Any  # μ
    older: Any  # ν
    slope: Any  # κ
    first_slope: Any  # γ


class _Setting(NamedTuple):
    """What stays the same within a step."""

    field: Callable[[Any], Any]
    start: Any  # y_0
    step: Any  # h
    size: Any  # of the weights
    drives: Any


class _Row:
    """One method of a table, under a trace."""

    def __init__(self, table: StageTable, number, dtype):
        real = lambda array: jnp.asarray(array, dtype)[number]
        whole = lambda array: jnp.asarray(array, jnp.int32)[number]
        self.length = whole(table.length)
        self.last = whole(table.last)
        self.tableau = real(table.tableau)
        self.error = real(table.error)
        self.error_of_ends = real(table.error_of_ends)
        self.error_of_points = real(table.error_of_points)
        self.point = whole(table.point)
        self.bulge = real(table.bulge)
        self.gamma = real(table.gamma)
        self.coupling = real(table.coupling)
        self.is_start = jnp.all(self.tableau == 0, axis=1) & (self.gamma > 0)
        self.error_order = real(table.error_order)
        self._first = whole(table.first)
        self._recurrence = jnp.asarray(table.recurrence, dtype)

    def coefficients(self, stage) -> _Coefficients:
        return _Coefficients(*self._recurrence[self._first + stage])


def _size_of_weights(y0):
    """The norm of the largest array of a state, against which differences are short."""
    size = _norm(max(jax.tree_util.tree_leaves(y0), key=lambda leaf: leaf.size))
    return jnp.where(size > 0, size, 1.0)


def _most_for_differences(dtype) -> float:
    """The largest `h ρ` for which rounding in `h J x` is small beside `x`."""
    return _LARGEST_NOISE / float(jnp.finfo(dtype).eps) ** (2 / 3)


def _norm(vector):
    return jnp.linalg.norm(vector)


def _over(number, divisor):
    return jnp.where(divisor > 0, number / jnp.where(divisor > 0, divisor, 1.0), 0.0)


def _combine(weights, slopes):
    return jnp.tensordot(weights, slopes, axes=1)


def _where(condition, new, old):
    return jax.tree_util.tree_map(lambda a, b: jnp.where(condition, a, b), new, old)
