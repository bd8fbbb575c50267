"""Which saddles each member visited, when, and what it saw there."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..results import (
    AbstractResult,
    Column,
    column,
    ended_by,
    endings,
    GRID_POINTS,
    has_failed,
    median,
    MEMBERS,
    numbers,
    power_of_ten,
    Reason,
    settings_of,
    shortfall,
    some_of,
    stacked,
    status_column,
    Summary,
    Table,
)
from ._kinds import kinds_column, NEAR_MISS, ORIGIN, SADDLE, START

STAYS, MINIMUM = "stays", "minimum"
"""The status of a member that has come to rest at a saddle, or at a minimum."""


_BOTH = (MEMBERS, "saddle")
_ROWS = (*_BOTH, "parameter")
_CURVE = (MEMBERS, GRID_POINTS)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SaddleToSaddle(AbstractResult):
    """What `saddle_to_saddle` found. Printing it shows a table.

    Arrays over members and saddles are (num, saddles), with NaN (-1 for counts) behind the
    last saddle of a member. The first is the start of a member, at the origin if it is
    small there. Times are natural logarithms of `t`.
    """

    counted: ClassVar[str] = "num_saddles"
    pictures: ClassVar[Sequence[str]] = ("saddle_to_saddle",)
    derived: ClassVar[Mapping[str, Column]] = {
        "escape_error": Column(_BOTH, "relative error of the predicted waiting time")
    }

    num_saddles: np.ndarray = column(
        MEMBERS, "number of visits, the start and near misses among them"
    )
    """How many saddles each member visited, (num,): its start and near misses are counted
    too, so that it is the number of its visits."""
    kind: np.ndarray = kinds_column()
    """What each visit is: `"origin"` or `"start"` for the first one, `"saddle"`,
    `"near_miss"` where a member became slow and left again because what had grown still
    moved, `""` behind the last visit. Members are at a saddle where `steadiness` is 0.1 at
    most, or 0.5 where the `small_share` is 0.5 or more, or where errors of steps hide both
    and the wait is as predicted, to a tenth."""
    steadiness: np.ndarray = column(
        _BOTH, "least ‖∇𝓛‖² over its mean until the departure", fill=np.nan
    )
    """`‖∇𝓛‖² W / (𝓛 - 𝓛_departure)`, the least `‖∇𝓛‖²` over its mean from there to the
    departure: near one for a steady descent, small where something grows from almost
    nothing. `W` is the wait, or the predicted one where that is longer."""
    small_share: np.ndarray = column(
        _BOTH, "share of the pull on the small parts in ‖∇𝓛‖²", fill=np.nan
    )
    """`‖∇N_r‖²` of the small parts over `‖∇𝓛‖²` where that is least: near one where all
    that has grown is at rest, NaN where the network has no small parts."""
    status: np.ndarray = status_column()
    """What ended each member, (num,): `"LossBelow"`, `"minimum"` (at rest, where the loss
    has no descent), `"stays"` (at rest at a saddle, which its weights in floating
    point never leave), `"max_saddles"`, `"max_steps"`, or another failure."""
    log_arrival: np.ndarray = column(_BOTH, "log t at the arrival", "log time", fill=np.nan)
    """`log t` at the arrival; minus infinity at the start."""
    log_closest: np.ndarray = column(
        _BOTH, "log t where ‖∇𝓛‖ is least", "log time", fill=np.nan
    )
    """`log t` where `‖∇𝓛‖` is least during the visit; everything below is as seen there."""
    log_departure: np.ndarray = column(
        _BOTH, "log t at the departure", "log time", fill=np.nan
    )
    """`log t` at the departure; infinity for a member that stays, NaN for one that was
    stopped before."""
    predicted_log_departure: np.ndarray = column(
        _BOTH, "log t predicted", "log time", fill=np.nan
    )
    """`log t` at the departure, predicted at `log_closest` from the small parts alone;
    infinity where they never leave, NaN where the network has no small parts, and at a
    start that is neither at the origin nor near a saddle."""
    loss: np.ndarray = column(_BOTH, "loss, a sum over samples", fill=np.nan)
    """The level of the loss."""
    log_gradient: np.ndarray = column(_BOTH, "log ‖∇𝓛‖", fill=np.nan)
    """`log ‖∇𝓛‖`, the least of the visit."""
    index: np.ndarray = column(
        _BOTH, "number of negative eigenvalues of the Hessian", fill=-1
    )
    """The number of negative eigenvalues of the Hessian, -1 where it was not computed."""
    lowest_curvature: np.ndarray = column(
        _BOTH, "lowest eigenvalue of the Hessian", fill=np.nan
    )
    """The lowest eigenvalue of the Hessian."""
    largest_curvature: np.ndarray = column(
        _BOTH, "largest eigenvalue of the Hessian", fill=np.nan
    )
    """Its largest eigenvalue."""
    active: np.ndarray = column(
        (*_BOTH, "neuron"), "whether a neuron has grown", fill=False
    )
    """Which hidden neurons (or coordinates) have grown, (num, saddles, neurons)."""
    rank: np.ndarray = column(_BOTH, "number of parts that have grown", fill=-1)
    """How many parts have grown: singular directions of the fullest layer of a linear
    network, active neurons of others, -1 where nothing is known of the network."""
    log_small: np.ndarray = column(_BOTH, "log of the norm of the small parts", fill=np.nan)
    """The logarithm of the norm `a` of the small parts; minus infinity if they are zero."""
    kkt_value: np.ndarray = column(
        _BOTH, "N_r at the KKT point of the residual", fill=np.nan
    )
    """`N_r` at the KKT point of the residual's correlation function to which the small
    parts' direction flows."""
    cosine: np.ndarray = column(
        _BOTH, "cosine of small parts and KKT point at departure", fill=np.nan
    )
    """The cosine between that point and the small parts at the departure."""
    kkt_residual: np.ndarray = column(
        _BOTH, "relative KKT residual at departure", fill=np.nan
    )
    """How far the small parts' direction is from a KKT point at the departure,
    `‖∇N_r - λv‖/‖∇N_r‖`."""
    weights: np.ndarray = column(
        _ROWS,
        "weights at the saddle, in the order of the leaves",
        fill=np.nan,
        group="weights",
    )
    """The weights there, in the order of the leaves, (num, saddles, parameters)."""
    small: np.ndarray = column(
        _ROWS, "direction of the small parts at the departure", fill=np.nan, group="weights"
    )
    """The direction of the small parts at the departure, (num, saddles, parameters)."""
    kkt_direction: np.ndarray = column(
        _ROWS, "the KKT point of the residual", fill=np.nan, group="weights"
    )
    """The KKT point, (num, saddles, parameters)."""
    loss_curve: np.ndarray | None = column(_CURVE, "loss along the way", optional=True)
    """The loss at `log_time_curve`, (num, points), if it was asked for."""
    log_time_curve: np.ndarray | None = column(
        _CURVE, "log t of the loss curve", "log time", optional=True
    )
    """(num, points)."""
    scale: np.ndarray = column(MEMBERS, "initialization scale δ")
    """δ, (num,)."""
    final_log_time: np.ndarray = column(MEMBERS, "log t at the end", "log time")
    """`log t` where each member was ended, (num,)."""
    final_loss: np.ndarray = column(MEMBERS, "loss at the end")
    """The loss there, (num,)."""
    num_steps: np.ndarray = column(MEMBERS, "attempted steps", "steps")
    """Attempted steps, (num,)."""
    num_vjps: np.ndarray | None = column(
        MEMBERS, "vector-Jacobian products of the network", "evaluations", optional=True
    )
    """Vector-Jacobian products, (num,), where the solver counts them."""
    settings: Mapping[str, Any] = settings_of("network", "num_parameters", "order")
    """How the saddles were looked for."""
    members: np.ndarray | None = numbers()
    """The number of each member, `None` for 0, 1, …; the coordinate `init`."""

    @property
    def failed(self) -> np.ndarray:
        """Which members gave up on their way, (num,)."""
        return has_failed(self.status)

    @property
    def visited(self) -> np.ndarray:
        """Whether a member has a saddle of this number, (num, saddles)."""
        return np.arange(self.loss.shape[-1]) < self.num_saddles[..., None]

    @property
    def escape_error(self) -> np.ndarray:
        """The relative error of the predicted waiting time, (num, saddles).

        `(t_predicted - t_departure) / (t_departure - t_closest)`.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            ahead = np.expm1(self.predicted_log_departure - self.log_departure)
            waited = -np.expm1(self.log_closest - self.log_departure)
            known = np.isfinite(self.log_departure)
            return np.where(known, ahead / waited, np.nan)

    def summary(self) -> Summary:
        """What printing the result shows."""
        return _summary(stacked(self))


def _summary(found: SaddleToSaddle) -> Summary:
    settings, num = found.settings, len(found)
    low, high = float(np.min(found.scale)), float(np.max(found.scale))
    scale = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    head = (
        f"Saddle to saddle: {num:,} initializations of {settings['network']} "
        f"({settings['num_parameters']:,} parameters, order {settings['order']:g}), "
        f"δ = {scale}"
    )
    rows = []
    groups = [
        (k, kind, found.kind[:, k] == kind)
        for k in range(found.loss.shape[1])
        for kind in (ORIGIN, START, SADDLE, NEAR_MISS)
        if np.any(found.kind[:, k] == kind)
    ]
    for k, kind, here in groups:
        some = lambda values, here=here, k=k: median(values[here, k])
        error = np.abs(found.escape_error[here, k])
        rows.append(
            (
                f"{k}",
                kind.replace("_", " "),
                f"{int(here.sum()):,}",
                f"{some(found.loss):.5g}",
                _number(some(found.log_gradient)),
                _count(some(found.index)),
                _count(some(found.rank)),
                _number(some(found.log_arrival)),
                _number(some(found.log_departure)),
                _number(some(found.predicted_log_departure)),
                "–" if np.isnan(error).all() else f"{np.nanmax(error):.2%}",
                f"{1 - some(found.cosine):.1e}".replace("nan", "–"),
            )
        )
    header = (
        *("visit", "", "members", "loss", "‖∇𝓛‖", "index", "grown"),
        *("arrival", "departure", "predicted", "wrong by", "1 - cosine"),
    )
    return Summary(
        head,
        (
            f"ended by {ended_by(found.status)}",
            Table(tuple(rows), header),
            "medians; errors at most",
        ),
    )


def _count(value: float) -> str:
    return "–" if not value >= 0 else f"{value:g}"


def _number(logarithm: float) -> str:
    """A number given by its natural logarithm."""
    if math.isnan(logarithm):
        return "–"
    if math.isinf(logarithm):
        return "never" if logarithm > 0 else "0"
    return power_of_ten(logarithm / math.log(10))


_ADVICE = {
    "max_steps": "Try a larger max_steps=, or a looser rtol=.",
    "non_finite": "Weights or loss are no numbers there: look for NaN in the data.",
    "step_too_small": (
        "The vector field jumps there, as at a kink, or tolerances are below rounding "
        "errors: try a looser rtol= or atol=."
    ),
    "solver_failed": 'Try another solver=, such as "auto".',
}


def shortfall_of_saddles(found: SaddleToSaddle) -> str | None:
    """What to tell a caller of members that gave up on their way."""
    reasons = []
    for end in endings(found.status):
        if end.failed:
            saddles = np.ravel(found.num_saddles)[end.rows]
            time = _number(median(np.ravel(found.final_log_time)[end.rows]))
            loss = median(np.ravel(found.final_loss)[end.rows])
            where = (
                f" at time {time}, loss {loss:.4g}, after {median(saddles):g} saddles "
                f"(medians) and at most {found.settings['max_steps']:,} steps on a leg"
            )
            advice = _ADVICE[end.name]
            reasons.append(Reason(end.name, int(end.rows.sum()), where, advice))
    who = some_of(int(found.failed.sum()), found.size)
    look = "They are those of found[found.failed], if found is the result."
    return shortfall(f"saddle_to_saddle: {who} gave up on the way.", reasons, look)
