"""The loss along the way from saddle to saddle, for pictures."""

import numpy as np

from ..engine import Schedule
from ..networks import as_jax, flatten_rows, unflatten_rows
from ..observables import loss as observe_loss
from ..runs import AbstractNetworks, gradient_flow, Stepping
from ..stops import LogTime
from ..tasks import Task
from ._state import State


def loss_curve(
    members: AbstractNetworks,
    task: Task,
    scales: np.ndarray,
    state: State,
    points: int,
    stepping: Stepping,
    schedule: Schedule,
    progress: bool | None,
) -> tuple[np.ndarray, np.ndarray]:
    """A second pass through the same flow, recorded densely where the loss falls.

    Given the ensemble, its task and scales; the `state` at the end of the first pass; the
    number of `points`; how it is integrated, with `max_steps` for all legs.

    Returns:
        `log t` and the loss there, (members, points) each.
    """
    num = len(state.mode)
    grid = np.stack([_grid(state, member, points) for member in range(num)])
    rows = flatten_rows(members.stacked(np.arange(num))).astype(members.dtype)
    solution = gradient_flow(
        as_jax(unflatten_rows(members.one, rows)),
        task,
        scale=scales,
        stop=LogTime(grid[:, -1]),  # pyright: ignore[reportCallIssue]
        stepping=stepping,
        coordinates="polar",
        record={"loss": observe_loss},
        record_at=grid,
        record_over="log_time",
        ensemble=True,
        schedule=schedule,
        progress=progress,
    )
    assert solution.records is not None
    return grid, np.asarray(solution.records.values["loss"])


def _grid(state: State, member: int, points: int) -> np.ndarray:
    """Increasing times, half of them while the member falls from saddle to saddle."""
    end = state.log_time[member]
    end = end if np.isfinite(end) else 0.0
    falls = []
    mine = state.visits[member]
    for visit, following in zip(mine, [*mine[1:], None]):
        if not np.isfinite(visit.log_departure):
            continue
        until = end if following is None else following.log_arrival
        falls.append((visit.log_departure, min(until, end)))
    ahead = np.exp(np.array(falls).reshape(-1, 2) - end)
    times = [np.linspace(0, 1, points + 1)[1:]]
    for first, last in ahead:
        width = max(last - first, 1e-6)
        times.append(np.linspace(first - width, last + width, points))
    times = np.sort(np.concatenate(times))
    times = times[(times > 0) & (times <= 1)]
    # The same number of times for every member, all different.
    chosen = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(times)), times)
    return np.log(chosen) + end
