"""The path that gradient flow follows after its escape, in the limit δ → 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from .._arrays import by_precision
from .._checks import check_flag, check_numbers, check_positive, check_whole, shown
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call, tell
from .._trained import parameters_of
from ..engine import check_schedule, Schedule
from ..errors import InputError
from ..flows import ncf
from ..networks import as_jax, flatten_rows, member, unflatten_rows
from ..observables import kkt_residual, loss as observe_loss, weights as observe_weights
from ..results import (
    AbstractResult,
    column,
    ended_by,
    has_failed,
    MEMBERS,
    Network_co,
    Reason,
    settings_of,
    shortfall,
    some_of,
    stacked,
    stacked_networks,
    status_column,
    Summary,
    Table,
)
from ..runs import (
    as_networks,
    check_alike,
    default_stepping,
    gradient_flow,
    order_of,
    Stepping,
)
from ..stops import NormAbove, Time
from ..tasks import check_task, Task
from ._kinds import SADDLE as IS_SADDLE
from ._saddle_to_saddle import saddle_to_saddle

_LEVEL, _BEGIN = 1e-2, (1e-10, 1e-6)
"""By which share the network's outputs change the residual where time begins, and where
the path itself does, in double and in single precision. To leading order in that share the
path is a straight line. Chosen."""

_RESIDUAL = 0.1
"""The largest relative KKT residual of what is taken for a KKT point. Chosen: kinks make
residuals of true points large, and directions drawn at random have one near 1."""

_VISITS = 4
"""Visits looked at for the first saddle: near misses may come before it. Chosen."""

_POINTS = 200
SADDLE = "saddle"

_ROWS = (MEMBERS, "path_point")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LimitingPath(AbstractResult, Generic[Network_co]):
    """What `limiting_path` found. Printing it shows a line for every path.

    Arrays have a leading axis of paths, one for each KKT point, and NaN behind the last
    point of a path that has fewer than others.
    """

    counted: ClassVar[str] = "level"
    pictures: ClassVar[Sequence[str]] = ("limiting_path",)

    time: np.ndarray = column(_ROWS, "time since the crossing of the level", fill=np.nan)
    """The time `t` since the norm crossed `level`, (paths, points)."""
    loss: np.ndarray = column(_ROWS, "loss, a sum over samples", fill=np.nan)
    """The loss there, (paths, points)."""
    norm: np.ndarray = column(_ROWS, "norm of the weights", fill=np.nan)
    """`‖w‖`, (paths, points)."""
    weights: np.ndarray = column(
        (*_ROWS, "parameter"),
        "weights along the path, in the order of the leaves",
        fill=np.nan,
        group="weights",
    )
    """The weights, in the order of the leaves, (paths, points, parameters)."""
    networks: Network_co = stacked_networks()
    """Where the paths end, stacked networks."""
    status: np.ndarray = status_column()
    """What is at the end of each path: `"saddle"`; a minimum, at rest (`"minimum"`,
    `"stays"`) or by its loss (`"LossBelow"`); `"max_saddles"` where there were only near
    misses; or how it failed to get to one."""
    level: np.ndarray = column(MEMBERS, "norm at time zero")
    """The norm at which time begins, (paths,)."""
    kkt_value: np.ndarray = column(MEMBERS, "N(w) of the KKT point")
    """`N` of the KKT point, (paths,)."""
    kkt_residual: np.ndarray = column(MEMBERS, "‖∇N - λw‖ / ‖∇N‖ of the KKT point")
    """Its relative residual, (paths,)."""
    end_time: np.ndarray = column(MEMBERS, "time at the end")
    """When the gradient is least at the first saddle, (paths,)."""
    end_loss: np.ndarray = column(MEMBERS, "loss at the end")
    """The loss there, (paths,)."""
    end_log_gradient: np.ndarray = column(MEMBERS, "log ‖∇𝓛‖ at the end")
    """`log ‖∇𝓛‖` there, NaN at a minimum that was recognized before, (paths,)."""
    settings: Mapping[str, Any] = settings_of("network", "num_parameters", "order")
    """How the path was computed."""

    @property
    def failed(self) -> np.ndarray:
        """Which paths have no end, (paths,)."""
        return has_failed(self.status)

    def summary(self) -> Summary:
        """What printing the result shows."""
        found, settings = stacked(self), self.settings
        head = (
            f"Limiting path: from {len(found):,} KKT points of {settings['network']} "
            f"({settings['num_parameters']:,} parameters, order {settings['order']:g})"
        )
        rows = [
            (
                f"{found.kkt_value[k]:.5g}",
                f"{found.level[k]:.3g}",
                f"{found.end_time[k]:.4g}",
                f"{found.end_loss[k]:.5g}",
                f"{np.exp(found.end_log_gradient[k]):.1e}".replace("nan", "–"),
                str(found.status[k]),
            )
            for k in range(min(len(found), _MOST_ROWS))
        ]
        header = ("N", "‖w‖ at t = 0", "t at the end", "loss", "‖∇𝓛‖", "ends at")
        parts = (f"ended by {ended_by(found.status)}", Table(tuple(rows), header))
        return Summary(head, parts)


_MOST_ROWS = 20


@running
@ends_on_signals()
@one_call()
def limiting_path(
    point: eqx.Module,
    task: Task,
    *,
    level: ArrayLike | None = None,
    times: ArrayLike | None = None,
    points: int = _POINTS,
    solver: diffrax.AbstractSolver | str | None = None,
    rtol: float | None = None,
    max_steps: int = 20_000,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    progress: bool | None = None,
) -> LimitingPath:
    """The path of gradient flow that leaves the origin along a KKT point, to a saddle.

    For small δ the weights stay near the origin for a time of order `δ^(2-L)` (`log 1/δ`
    for `L = 2`), and turn to a KKT point `w*` of the neural correlation function. What
    follows the escape tends to one path for all starts that turn there: the gradient flow
    `p(t)` with `p(t) → 0` and `p(t)/‖p(t)‖ → w*` for `t → -∞` (or to the finite time at
    which it leaves the origin). As it has no beginning, its time is measured from where
    `‖p‖ = level`; a flow at small δ comes near it if its time is measured from there too.

    Computed is the flow from `ε w*`, with `ε` so small that the outputs change the residual
    by a share of 1e-10 (1e-6 in single precision): so much is the path there off a straight
    line. If `w*` is no maximum of `N` on the sphere (its `index` is not zero) errors of
    `w*` grow on the way by a power of `level/ε`.

    Arguments:
        point: one KKT point with `N > 0`, or several: `jf.find_kkt(…).networks`. Its norm
            does not matter.
        task: the data and the loss.
        level: the norm at which time begins, scalar or (paths,); if not given, that at
            which the outputs change the residual by about 1%.
        times: at which the path is kept, increasing, from zero on; NaN is kept of those
            behind the end. If not given, points along the path.
        points: how many of these, about.
        solver: as for `gradient_flow`.
        rtol: the relative tolerance; 1e-8 if not given, 1e-5 in single precision.
        max_steps: attempted steps of each part of the way.
        ensemble: as for `gradient_flow`.
        schedule: as for `gradient_flow`.
        progress: as for `gradient_flow`.

    Returns:
        A `LimitingPath`.

    Raises:
        InputError: for arguments that do not fit, and points that are no KKT points with
            `N > 0`.
        NotHomogeneousError: for a network that is not homogeneous.

    Source:
        arXiv:2502.15952 (gradient flow beyond the origin).

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        >>> first = (jnp.array([[1.0, 0.0]]),) * 2
        >>> point = eqx.tree_at(lambda n: n.factors, network, first)
        >>> task = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))
        >>> path = jf.limiting_path(point, task)
        >>> path.status.tolist(), round(path.end_loss.item(), 4)
        (['saddle'], 0.5)
    """
    if not isinstance(point, eqx.Module):
        raise InputError("point", shown(point), "an equinox.Module")
    check_task(task)
    members = _as_points(point, task, ensemble)
    check_alike(members)
    if not members.num:
        raise InputError("point", "no KKT point", "at least one")
    dtype, num = members.dtype, members.num
    task = task.astype(dtype).shaped_for(members.one)
    points = check_whole("points", points, least=2)
    max_steps = check_whole("max_steps", max_steps)
    progress = check_flag("progress", progress, optional=True)
    rtol = by_precision(dtype, double=1e-8, single=1e-5) if rtol is None else rtol
    rtol = check_positive("rtol", rtol)
    given = None if level is None else _levels(level, num)
    grid = points if times is None else _times(times)
    schedule = check_schedule(schedule)
    Stepping(solver).settled(default_stepping(dtype), dtype)  # whether it can be used
    order = order_of(members, task)
    if order < 2:
        raise InputError("point", f"a network of order {order:g}", "2 or more")
    rows = flatten_rows(members.stacked(np.arange(num)))
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(norms > 0):
        raise InputError("point", "a network whose weights are all zero", "a direction")
    rows = (rows / norms).astype(rows.dtype)
    directions = as_jax(unflatten_rows(members.one, rows))
    value, residual, log_share = _looked_at(directions, task, order)
    least = by_precision(dtype, double=_BEGIN[0], single=_BEGIN[1])
    usual = np.exp(np.log(_LEVEL) / order - log_share)
    wanted = usual if given is None else given
    begin = np.minimum(np.exp(np.log(least) / order - log_share), 1e-2 * wanted)
    how: dict[str, Any] = {
        **{"solver": solver, "rtol": rtol, "max_steps": max_steps, "ensemble": True},
        **{"schedule": schedule, "progress": progress},
    }
    crossing = gradient_flow(
        directions, task, scale=begin, stop=NormAbove(wanted), coordinates="polar", **how
    )
    here = crossing.networks
    way = saddle_to_saddle(
        here,
        task,
        scale=np.ones(num),
        max_saddles=_VISITS,
        atol=1e-3 * rtol,
        **{**how, "solver": "auto" if solver is None else solver},
    )
    ends = _ends(way)
    path = gradient_flow(
        here,
        task,
        stop=Time(np.maximum(ends["time"], np.finfo(dtype).tiny)),  # pyright: ignore
        record={"loss": observe_loss, "weights": observe_weights},
        record_at=grid,
        record_over=None if times is None else "time",
        **how,
    )
    assert path.records is not None
    kept = _flat(path.records.values["weights"])
    time = path.dataset["time"].values if times is None else np.tile(grid, (num, 1))
    failed = has_failed(crossing.status)
    found = LimitingPath(
        time=time,
        loss=np.asarray(path.records.values["loss"]),
        norm=np.linalg.norm(kept, axis=2),
        weights=kept,
        networks=path.networks,
        status=np.where(failed, crossing.status, ends["status"]),
        level=np.asarray(wanted, float),
        kkt_value=value,
        kkt_residual=residual,
        end_time=ends["time"],
        end_loss=ends["loss"],
        end_log_gradient=ends["log_gradient"],
        settings={
            "network": type(members.one).__name__,
            "num_parameters": rows.shape[1],
            "order": order,
            "rtol": rtol,
        },
    )
    tell(_shortfall(found))
    return found


def _as_points(point: Any, task: Task, ensemble: Any) -> Any:
    try:
        return as_networks(point, task, ensemble)
    except InputError as error:
        name = "point" if error.argument == "networks" else error.argument
        raise InputError(name, error.found, error.expected) from error


def _looked_at(directions: eqx.Module, task: Task, order: Any) -> tuple[np.ndarray, ...]:
    """`N`, the relative residual, and by what log-norm outputs are as large as `z`."""
    at_zero = task.residuals(jnp.zeros_like(task.outputs(member(directions, 0))))

    def look(one):
        size = jnp.linalg.norm(task.outputs(one)) / jnp.linalg.norm(at_zero)
        return ncf(one, task), kkt_residual(one, task, relative=True), jnp.log(size) / order

    value, residual, log_share = map(np.asarray, eqx.filter_vmap(look)(directions))
    for one, off in zip(value, residual):
        if not one > 0:
            raise InputError("point", f"a direction with N = {one:.3g}", "N > 0")
        if not off <= _RESIDUAL:
            found = f"a direction of relative KKT residual {off:.2g}"
            raise InputError("point", found, "a KKT point, such as find_kkt finds")
    return value, residual, log_share


def _levels(level: Any, num: int) -> np.ndarray:
    fits = lambda x: (x > 0) & np.isfinite(x)
    given = check_numbers("level", level, "positive numbers", fits)
    if given.shape not in ((), (num,)):
        raise InputError("level", f"shape {given.shape}", f"a number, or shape ({num},)")
    return np.broadcast_to(np.asarray(given, float), num).copy()


def _times(times: Any) -> np.ndarray:
    given = check_numbers("times", times, "numbers >= 0", lambda x: x >= 0)
    if given.ndim != 1 or len(given) < 2 or not np.all(np.diff(given) > 0):
        raise InputError("times", shown(times), "two or more increasing numbers")
    return np.asarray(given, float)


def _ends(way: Any) -> dict[str, np.ndarray]:
    """The first saddle of each member after its start, or where it ended without one."""
    later = np.arange(way.kind.shape[1]) > 0
    is_saddle = (way.kind == IS_SADDLE) & later
    has, place = is_saddle.any(axis=1), np.argmax(is_saddle, axis=1)
    at = lambda values: values[np.arange(len(has)), place]
    return {
        "status": np.where(has, SADDLE, way.status),
        "time": np.exp(np.where(has, at(way.log_closest), way.final_log_time)),
        "loss": np.where(has, at(way.loss), way.final_loss),
        "log_gradient": np.where(has, at(way.log_gradient), np.nan),
    }


def _flat(recorded: Any) -> np.ndarray:
    """Recorded networks as (paths, points, parameters), in NumPy."""
    leaves = [np.asarray(x) for x in jax.tree_util.tree_leaves(parameters_of(recorded))]
    return np.concatenate([x.reshape(*x.shape[:2], -1) for x in leaves], axis=2)


def _shortfall(found: LimitingPath) -> str | None:
    failed = np.atleast_1d(found.failed)
    names = np.atleast_1d(found.status)[failed]
    reasons = [
        Reason(str(name), int(np.sum(names == name)), "", "Try a larger max_steps=.")
        for name in np.unique(names)
    ]
    who = some_of(int(failed.sum()), found.size)
    return shortfall(f"limiting_path: {who} have no end.", reasons)
