"""The moves of a step from phase to phase, each for one evaluation of the vector field.

FRESH <─> ESTIMATING the spectral radius, where that is needed
      ──> RECURRING, the three-term recurrence of a stabilized method
      ──> FINISHING, the stages of a tableau <──> SOLVING its linear systems, if any
      ──> READY.
"""

import jax.numpy as jnp

from ..._arrays import select
from ._linear import after_product, largest_interval, pose, reach_of, side_of
from ._row import combine, Row
from ._state import (
    ESTIMATING,
    FINISHING,
    FRESH,
    READY,
    RECURRING,
    SOLVING,
    StagedState,
    StepSetting,
)

_RADIUS_AGE = 25
"""Accepted steps for which an estimate of the spectral radius is used, as in the program
RKC that goes with the paper (see `AbstractStagedSolver`)."""

_MOST_POWER_ITERATIONS = 50
"""As in RKC; the last estimate is used if they do not settle before."""

_RADIUS_SAFETY, _RADIUS_TOLERANCE = 1.1, 0.02
"""By what an estimate is multiplied, and the relative change at which it has settled. RKC
has 1.2 and 0.01; these were chosen, and benchmarks/plateau.py was run with them."""

_EARLY = 0.5
"""Share of a Rosenbrock step's evaluations from which it is taken instead of a stabilized
step: its order is four and that one's two, so that its steps are longer. Chosen;
benchmarks/plateau.py was run with it."""


def begin(setting: StepSetting, state: StagedState) -> StagedState:
    """From FRESH to the first phase that costs something."""
    estimates = state.age >= _RADIUS_AGE
    estimating = state._replace(
        phase=jnp.full_like(state.phase, ESTIMATING), stage=0 * state.stage
    )
    return select(estimates, estimating, _enter(setting, state))


def _enter(setting: StepSetting, state: StagedState) -> StagedState:
    """Choose the method of this step, now that the spectral radius is known."""
    state = state._replace(begun=state.work.num_evaluations)
    start, step = setting.start, setting.step
    number = _row_for(setting, state)
    row = setting.row(number)
    recurs = row.length > 0
    # After the first stage, whose slope f_0 is there already.
    newest = start + step * jnp.where(recurs, row.coefficients(0).slope, 0.0) * state.slope
    phase = jnp.where(row.length > 1, RECURRING, FINISHING)
    begins = jnp.where(recurs & (row.length == 1), 0, 1)
    explicit = state._replace(
        phase=phase.astype(state.phase.dtype),
        row=number.astype(state.row.dtype),
        stage=begins.astype(state.stage.dtype),
    )
    slopes = jnp.zeros_like(state.now.slopes).at[0].set(state.slope)
    explicit = explicit.with_now(newest=newest, older=start, point=start, slopes=slopes)
    if not setting.table.has_rosenbrock:
        return explicit
    state = explicit._replace(stage=0 * state.stage).with_now(newest=start)
    posed = pose(setting, state, row, state.slope)
    return select(row.gamma > 0, posed, explicit)


def _row_for(setting: StepSetting, state: StagedState):
    """The method of fewest stages that is stable, or a Rosenbrock method if cheaper."""
    table, step = setting.table, setting.step
    intervals = jnp.asarray(table.interval[table.stabilized], step.dtype)
    stiffness = step * state.radius
    place = jnp.minimum(jnp.sum(intervals < stiffness), len(intervals) - 1)
    if not table.has_rosenbrock:
        return place
    dear = jnp.asarray(table.length, step.dtype)[place] > _EARLY * state.rosenbrock_cost
    too_stiff = stiffness > intervals[-1]
    usable = stiffness < largest_interval(step.dtype)
    return jnp.where(usable & (dear | too_stiff), len(table.interval) - 1, place)


def move(setting: StepSetting, state: StagedState) -> StagedState:
    """One evaluation of the vector field and what follows from it; none while READY, or
    FRESH until it is begun."""
    table, field, start, step, size, _ = setting
    row = setting.row(state.row)
    estimating = state.phase == ESTIMATING
    finishing = state.phase == FINISHING
    solving = state.phase == SOLVING
    coefficients = jnp.where(finishing, row.tableau[state.stage], 0.0)
    at = state.now.newest + step * combine(coefficients, state.now.slopes)
    probe = size * float(jnp.finfo(start.dtype).eps) ** 0.5
    at = jnp.where(estimating, start + probe * state.vector, at)
    reach = reach_of(setting, state.now.system) if table.has_rosenbrock else None
    if table.has_rosenbrock:
        at = jnp.where(solving, side_of(setting, state.now.system, reach), at)
    slope = field(at)
    moved = select(
        estimating,
        _after_estimate(setting, state, (slope - state.slope) / probe),
        select(
            finishing,
            _after_slope(setting, state, slope, row),
            _after_recurrence(setting, state, slope, row),
        ),
    )
    if table.has_rosenbrock:
        moved = select(solving, after_product(setting, state, slope, reach, row), moved)
    one = jnp.ones_like(state.stage)
    work = state.work._replace(
        num_evaluations=state.work.num_evaluations + one,
        num_power_iterations=state.work.num_power_iterations
        + jnp.where(estimating, one, 0),
    )
    rests = (state.phase == READY) | (state.phase == FRESH)
    return select(rests, state, moved._replace(work=work))


def _after_estimate(setting: StepSetting, state: StagedState, image) -> StagedState:
    image = setting.drives * image
    radius = jnp.linalg.norm(image)
    usable = (radius > 0) & jnp.isfinite(radius)
    with_safety = _RADIUS_SAFETY * radius
    settled = jnp.abs(with_safety - state.radius) <= _RADIUS_TOLERANCE * with_safety
    done = (settled & (state.stage > 0)) | (state.stage >= _MOST_POWER_ITERATIONS)
    next_state = state._replace(
        stage=state.stage + 1,
        radius=jnp.where(usable, with_safety, state.radius),
        vector=jnp.where(usable, image / jnp.where(usable, radius, 1.0), state.vector),
    )
    known = next_state._replace(phase=jnp.full_like(state.phase, FRESH), age=0 * state.age)
    return select(done | ~usable, known, next_state)


def _after_recurrence(
    setting: StepSetting, state: StagedState, slope, row: Row
) -> StagedState:
    start, step = setting.start, setting.step
    c = row.coefficients(state.stage)
    newest = (
        c.start * start
        + c.newest * state.now.newest
        + c.older * state.now.older
        + step * (c.slope * slope + c.first_slope * state.slope)
    )
    stage = state.stage + 1
    ends = stage >= row.length
    return state._replace(
        phase=jnp.where(ends, FINISHING, state.phase).astype(state.phase.dtype),
        stage=jnp.where(ends, 0, stage),
    ).with_now(
        newest=newest,
        older=state.now.newest,
        point=jnp.where(stage == row.point, newest, state.now.point),
    )


def _after_slope(setting: StepSetting, state: StagedState, slope, row: Row) -> StagedState:
    ends = state.stage >= row.last
    explicit = state._replace(
        phase=jnp.where(ends, READY, state.phase).astype(state.phase.dtype),
        stage=jnp.where(ends, state.stage, state.stage + 1),
    ).with_now(slopes=jnp.where(state.is_stage, slope[None], state.now.slopes))
    if not setting.table.has_rosenbrock:
        return explicit
    posed = pose(setting, state, row, slope)
    return select((row.gamma > 0) & ~ends, posed, explicit)
