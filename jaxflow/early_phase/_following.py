"""The early phase of every member at one scale, beside the limit δ → 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
import xarray

from .._checks import check_share
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call, tell
from ..engine import Schedule
from ..errors import InputError
from ..flows import ncf
from ..networks import Initializations
from ..observables import cosine, CosineTo, kkt_residual, loss, norm, stable_rank
from ..results import (
    AbstractResult,
    column,
    ended_by,
    MEMBERS,
    numbers,
    Reason,
    settings_of,
    shortfall,
    Solution,
    some_of,
    stacked,
    Summary,
    Table,
    within,
)
from ..runs import as_networks, gradient_flow, ncf_flow
from ..stops import NormAbove
from ..tasks import Task

_GRID_POINTS = 40
"""Points of the record, which come closer to `T*` by a constant factor. Chosen."""
_ALIKE = 6
"""Decimals up to which values are those of one KKT point. Chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class EarlyPhase(AbstractResult):
    """What `follow_early_phase` found. Printing it shows a line for each KKT point.

    Arrays have a leading axis of members, (members,). The flow and its limit are groups of
    the tree.
    """

    counted: ClassVar[str] = "blow_up_time"
    pictures: ClassVar[Sequence[str]] = ("early_phase",)

    blow_up_time: np.ndarray = column(
        MEMBERS, "T*, the time of the escape; that of the δ → 0 limit if none"
    )
    """`T*`, the rescaled time of the escape; that of the δ → 0 limit if it has none."""
    kkt_value: np.ndarray = column(MEMBERS, "value N of the member's KKT point")
    """`N` of the KKT point that the δ → 0 limit from the same start reaches."""
    kkt_residual: np.ndarray = column(
        MEMBERS, "relative KKT residual of the member's KKT point"
    )
    """Its KKT residual, relative to the gradient."""
    cosine: np.ndarray = column(
        MEMBERS,
        "cosine to the KKT point that the δ → 0 limit reaches",
        name="final_cosine",
    )
    """The cosine between the weights at the end and that point."""
    residual: np.ndarray = column(
        MEMBERS, "KKT residual relative to the gradient", name="final_kkt_residual"
    )
    """The KKT residual of the direction at the end, relative to the gradient."""
    stable_rank: np.ndarray = column(
        (MEMBERS, "layer"), "stable rank of each layer", name="final_stable_rank"
    )
    """The stable rank of each layer at the end, (members, layers)."""
    flow: Solution = within(Solution)
    """The flow to `‖w‖ = √δ`, with the records norm, cosine, loss and stable_rank."""
    limit: Solution = within(Solution)
    """The δ → 0 limit from the same starts."""
    settings: Mapping[str, Any] = settings_of("order", "scale")
    """The order of the networks, and δ."""
    members: np.ndarray | None = numbers()
    """The number of each member, `None` for 0, 1, …; the coordinate `init`."""

    @property
    def curves(self) -> xarray.Dataset:
        """The dataset of the flow with the columns of this result, for pictures."""
        return self.flow.dataset.assign(self.dataset.data_vars)

    def summary(self) -> Summary:
        """What printing the result shows."""
        return _summary(stacked(self))


def _summary(found: EarlyPhase) -> Summary:
    scale, order = found.settings["scale"], found.settings["order"]
    keys = np.round(found.kkt_value / np.abs(found.kkt_value).max(), _ALIKE)
    rows = []
    for key in np.unique(keys)[::-1]:
        some = keys == key
        flow = found.flow[some]
        grown = np.exp(np.median(flow.log_norm) - np.log(scale))
        ranks = np.median(found.stable_rank[some], axis=0)
        cells = (
            f"{np.median(found.kkt_value[some]):.6f}",
            str(some.sum()),
            f"{grown:.0e}",
            f"{np.median(1 - found.cosine[some]):.0e}",
            f"{np.median(found.residual[some]):.0e}",
            " ".join(f"{rank:.2f}" for rank in ranks),
            f"10^{np.median(flow.log_time) / np.log(10):.1f}",
        )
        rows.append(cells)
    header = ("N", "members", "‖w‖/δ", "1 - cos", "residual", "ranks", "time")
    return Summary(
        f"Early phase at δ = {scale:g}: {len(found):,} initializations of order {order:g}",
        (
            f"ended: {ended_by(found.flow.status)}",
            Table(tuple(rows), header),
            "One row for each KKT point (value N); medians over the members that go there.",
            "Residual: of the KKT equations, relative; ranks: stable, of each layer.",
        ),
    )


@running
@ends_on_signals()
@one_call()
def follow_early_phase(
    networks: eqx.Module | Initializations,
    task: Task,
    scale: float = 1e-8,
    *,
    schedule: Schedule | None = None,
    progress: bool | None = None,
) -> EarlyPhase:
    """Follow members through their early phase, beside the KKT points they go to.

    Every member runs to `‖w‖ = √δ`, the end of its early phase, and is compared with the
    KKT point that the δ → 0 limit from the same start reaches. What is recorded is dense
    near `T*`, where everything happens: `norm`, `cosine`, `loss`, `stable_rank`.

    Arguments:
        networks: an ensemble, or `Initializations`, of order above two.
        task: the data and the loss.
        scale: the initialization scale δ, below 1.
        schedule: as for `gradient_flow`.
        progress: as for `gradient_flow`.

    Returns:
        An `EarlyPhase`, which `jaxflow.plot.early_phase` draws.

    Raises:
        InputError: for arguments that do not fit, and if no member escapes.
        NotHomogeneousError: for networks that are not homogeneous.

    Source:
        arXiv:2403.08121, section 4 (early directional convergence).

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
        >>> x = jf.data.sphere_points(8, 3, key=jax.random.key(1))
        >>> task = jf.data.teacher_student(network, x, target_norm=1.0)
        >>> ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(2))
        >>> found = jf.follow_early_phase(ensemble, task, 1e-6)
        >>> bool((found.cosine > 0.999).all())
        True
    """
    scale = check_share("scale", scale)
    if as_networks(networks, task, None).is_single:
        raise InputError("networks", "a single network", "an ensemble")
    how: dict[str, Any] = {"schedule": schedule, "progress": progress}
    limit = ncf_flow(networks, task, **how)
    assert limit.blow_up_time is not None

    def followed(blow_up_time):
        return gradient_flow(
            networks,
            task,
            scale=scale,
            stop=NormAbove(scale**0.5),
            record={
                "norm": norm,
                "cosine": CosineTo(limit.directions, per_member=True),
                "loss": loss,
                "stable_rank": stable_rank,
            },
            record_at=_grid(blow_up_time),
            **how,
        )

    # The grid comes much closer to T* than the limit flow's tolerance lets anybody know it.
    # What counts is the T* of these very steps: the same program makes them again.
    escape = followed(limit.blow_up_time)
    escaped = escape.status == NormAbove.__name__
    blow_up_time = np.where(escaped, escape.rescaled_time, limit.blow_up_time)
    flow = followed(blow_up_time)
    order = flow.settings["order"]
    found = EarlyPhase(
        blow_up_time=blow_up_time,
        flow=flow,
        limit=limit,
        settings={"order": order, "scale": scale},
        members=flow.members,
        **_compared(flow, limit, task),  # pyright: ignore[reportArgumentType]
    )
    tell(_shortfall(found))
    return found


def _grid(blow_up_time) -> np.ndarray:
    """Rescaled times that come closer to each member's T* by a constant factor."""
    finite = np.isfinite(blow_up_time)
    if not finite.any():
        raise InputError(
            "networks", "not one that reaches a positive KKT point", "more of them"
        )
    # A member that goes to zero has no T* of its own.
    end = np.where(finite, blow_up_time, np.max(blow_up_time[finite]))
    closest = np.log10(1e4 * np.finfo(end.dtype).eps)
    left = np.concatenate([[1.0], np.logspace(-0.05, closest, _GRID_POINTS)])
    return end[:, None] * (1 - left)


def _compared(flow: Solution, limit: Solution, task: Task) -> dict[str, np.ndarray]:
    """Where each member stands beside its KKT point."""

    def compare(pair):
        ended, point = pair
        return {
            "cosine": cosine(ended, point),
            "residual": kkt_residual(ended, task, relative=True),
            "stable_rank": stable_rank(ended),
            "kkt_value": ncf(point, task),
            "kkt_residual": kkt_residual(point, task, relative=True),
        }

    # One member after the other: see docs/guides/performance.md on batched decompositions.
    found = jax.lax.map(compare, (flow.directions, limit.directions))
    return {name: np.asarray(values) for name, values in found.items()}


def _shortfall(found: EarlyPhase) -> str | None:
    reasons = []
    for name, solution in (("limit", found.limit), ("flow", found.flow)):
        if solution.failed.any():
            where = f", which ended by {ended_by(solution.status[solution.failed])}"
            advice = f"Look at {name}[{name}.failed] of the result."
            num = int(solution.failed.sum())
            reasons.append(Reason(f"{name}s that gave up", num, where, advice))
    gave_up = found.limit.failed | found.flow.failed
    who = some_of(int(gave_up.sum()), found.size)
    return shortfall(f"follow_early_phase: {who} could not be followed.", reasons)
