"""The linear systems of a Rosenbrock step, one product with the Jacobian at a time.

`(I - h γ J) x = b` is solved by the method of conjugate residuals, for which `J` has to be
symmetric, as that of gradient flow is. Every iteration needs one product `J r`, which is a
central difference of the vector field: two evaluations.

Source:
    Y. Saad, Iterative Methods for Sparse Linear Systems, section 6.8.
"""

import jax.numpy as jnp

from ..._arrays import ratio, select
from ._row import combine, Row
from ._state import FINISHING, READY, SOLVING, StagedState, StepSetting, System

_TOLERANCE = 1e-6
"""Of a residual, relative to the right-hand side. Chosen: near a saddle about seven
iterations are enough (docs/theory.md, Plateaus)."""

_MOST_ITERATIONS = 100
"""After these a step fails and is tried again, shorter. Chosen."""

_LARGEST_NOISE = 1e-3
"""The largest error that a difference may have in `h J x`, relative to `x`, where `J x` is
zero: there nothing else keeps the iteration from following rounding errors. Chosen."""


def largest_interval(dtype) -> float:
    """The largest `h ρ` for which rounding in `h J x` is small beside `x`."""
    return _LARGEST_NOISE / float(jnp.finfo(dtype).eps) ** (2 / 3)


def pose(setting: StepSetting, state: StagedState, row: Row, slope) -> StagedState:
    """The linear system for the slope of this stage, with the first guess zero.

    Arguments are as they are in a step, and the `slope` of the vector field at the stage.
    """
    here = state.is_stage
    slopes = jnp.where(here, 0.0, state.now.slopes)
    given = row.gamma * (slope + combine(row.coupling[state.stage], slopes))
    zero = jnp.zeros_like(given)
    target = _TOLERANCE * jnp.linalg.norm(setting.drives * given)
    return state._replace(phase=jnp.full_like(state.phase, SOLVING)).with_now(
        slopes=slopes, system=System(given, zero, zero, target, zero, 0 * state.stage)
    )


def reach_of(setting: StepSetting, system: System):
    """`ε/‖r‖`, by which the residual is scaled for a central difference."""
    eps = float(jnp.finfo(setting.start.dtype).eps)
    reach = setting.size * eps ** (1 / 3)
    return ratio(reach, jnp.linalg.norm(setting.drives * system.residual))


def side_of(setting: StepSetting, system: System, reach):
    """The end of the central difference that is evaluated next: `y_0 ± ε r/‖r‖`."""
    side = jnp.where(system.count % 2 == 0, reach, -reach)
    return setting.start + side * setting.drives * system.residual


def after_product(
    setting: StepSetting, state: StagedState, slope, reach, row: Row
) -> StagedState:
    """The state after one more evaluation: after half an iteration, or a whole one."""
    system, step, drives = state.now.system, setting.step, setting.drives
    half = state.with_now(system=system._replace(ahead=slope, count=system.count + 1))
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
    solved = ~(jnp.linalg.norm(drives * residual) > system.target)
    # Components that no others depend on, such as a clock, are found last, from the
    # others; derivatives with respect to them are left out of J.
    found = length * direction + jnp.where(solved, (1 - drives) * residual, 0.0)
    slopes = state.now.slopes + jnp.where(state.is_stage, found[None], 0.0)
    fails = ~solved & (count >= 2 * _MOST_ITERATIONS)
    state = state._replace(
        phase=jnp.where(fails, READY, state.phase).astype(state.phase.dtype)
    ).with_now(
        slopes=jnp.where(fails, jnp.nan, slopes),
        system=System(residual, direction, image, system.target, slope, count),
    )
    whole = select(solved, _next_stage(setting, state, row), state)
    return select(system.count % 2 == 0, half, whole)


def _next_stage(setting: StepSetting, state: StagedState, row: Row) -> StagedState:
    state = state._replace(
        phase=jnp.full_like(state.phase, FINISHING), stage=state.stage + 1
    )
    # A stage at the start of the step needs no evaluation.
    return select(row.is_start[state.stage], pose(setting, state, row, state.slope), state)


def _over(number, divisor):
    return jnp.where(divisor > 0, ratio(number, divisor), 0.0)
