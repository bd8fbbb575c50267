"""Early directional convergence, looked at for many scales and members at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike

from .._arrays import is_single
from .._checks import check_numbers, check_share, shown
from .._compiled import running
from .._signals import ends_on_signals
from .._telling import one_call, tell
from ..engine import Schedule
from ..errors import InputError
from ..kkt._find import begin_search, Search
from ..kkt._points import NOT_CONVERGED, ZERO_TYPE
from ..networks import as_jax, flatten_rows, Initializations, unflatten_rows
from ..observables import CosineTo, norm
from ..results import (
    AbstractResult,
    column,
    ended_by,
    median,
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
from ..runs import gradient_flow, ncf_flow
from ..stops import NormAbove, RescaledTime
from ..tasks import Task

_GRID_POINTS, _EARLY_POINTS = 120, 60
"""Points of the record of a flow, and those up to the early-phase time. Chosen."""

_LATER = 1e4
"""Times the end of the limit flow, after which a flow is given up. Chosen: members
that escape do so at about that end."""

_BOUND = 2.0
"""By what factor `‖w‖/δ` and `1 - cosine` may be larger than in the limit. Chosen;
`verify_early_convergence` says so."""

_SLACK = 1e-9
"""By how much `1 - cosine` may rise from rounding and errors of steps. Chosen."""

_NO_LIMIT = "no: the limit flow did not converge"

_BOTH = ("scale", MEMBERS)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class EarlyConvergence(AbstractResult):
    """What `verify_early_convergence` found. Printing it shows a table.

    Arrays over scales and members are (scales, members), largest scale first; those of a
    single member, such as `found[3]`, have no axis of members. The dataset has the
    dimensions `scale` and `init`; the two flows are groups of the tree.
    """

    counted: ClassVar[str] = "early_time"
    pictures: ClassVar[Sequence[str]] = ("early_convergence",)

    scales: np.ndarray = column("scale", "δ", name="scale", coordinate=True)
    """δ, (scales,), falling."""
    growth: np.ndarray = column(_BOTH, "largest ‖w‖/δ up to the early-phase time")
    """The largest `‖w‖/δ` up to the early-phase time."""
    cosine: np.ndarray = column(_BOTH, "cosine to the KKT point at the early-phase time")
    """The cosine between `w` and the member's KKT point at the early-phase time."""
    closest: np.ndarray = column(_BOTH, "1 - cosine where ‖w‖ = √δ")
    """`1 - cosine` where the weights have grown to `‖w‖ = √δ`, at the end of the flow: NaN
    for a member that never does."""
    escape_time: np.ndarray = column(_BOTH, "time of ‖w‖ = √δ, over δ^(2-L) or log(1/δ)")
    """The time at which `‖w‖ = √δ`, in units of `δ^(2-L)`; of `log(1/δ)` for `L = 2`."""
    early_time: np.ndarray = column(MEMBERS, "early-phase time over δ^(2-L)")
    """The early-phase time of every member, in units of `δ^(2-L)`, (members,): when the
    limit flow has come as close to the KKT point as was asked for."""
    limit_growth: np.ndarray = column(
        MEMBERS, "largest ‖u‖ of the limit flow up to that time"
    )
    """The largest `‖u‖` of the limit flow up to that time, (members,)."""
    rate: np.ndarray = column(MEMBERS, "measured exponent of the time of escape in δ")
    """The exponent `r` of the time of escape `t ~ δ^r`, measured by least squares over all
    scales, (members,); for `L = 2` the slope of `t` over `log(1/δ)`."""
    expected_rate: np.ndarray = column(MEMBERS, "its value in theory")
    """`2 - L`; for `L = 2`, where `‖w‖` grows like `e^(2Nt)`, `1/(4N)`; (members,)."""
    verdict: np.ndarray = column(MEMBERS, "whether and why")
    """(members,): `"converges"`, `"goes to zero"`, or `"no: …"` with the reason."""
    limit: Solution = within(Solution, scale="limit_scale")
    """The limit flow, with the recorded `cosine` to each member's KKT point."""
    flows: Solution = within(Solution, repeated=True, init="flow", scale="flow_scale")
    """The flows of all scales, one after the other, with the recorded `cosine`, `norm`."""
    settings: Mapping[str, Any] = settings_of("order")
    """The order of the networks, and the closeness asked for."""
    members: np.ndarray | None = numbers()
    """The number of each member, `None` for 0, 1, …; the coordinate `init`."""

    @property
    def verified(self) -> np.ndarray:
        """Whether the theorem was seen to hold, (members,)."""
        return np.isin(self.verdict, ["converges", "goes to zero"])

    def summary(self) -> Summary:
        """What printing the result shows."""
        return _summary(stacked(self))


def _summary(found: EarlyConvergence) -> Summary:
    verdicts, counts = np.unique(found.verdict.astype(str), return_counts=True)
    # Those that do not converge go first.
    ordered = sorted(zip(verdicts, counts), key=lambda pair: not pair[0].startswith("no"))
    order = found.settings["order"]
    going = found.verdict != "goes to zero"
    rows = []
    for row, scale in enumerate(found.scales):
        some = lambda values, row=row: median(values[row][going])
        cells = (
            f"{scale:.0e}",
            f"{some(found.growth):.4g}",
            f"{some(1 - found.cosine):.2e}",
            f"{some(found.closest):.2e}",
            f"{some(found.escape_time):.4g}",
        )
        rows.append(tuple(cell.replace("nan", "–") for cell in cells))
    unit = "log(1/δ)" if order == 2 else "δ^(2-L)"
    table = Table(
        tuple(rows),
        header=("δ", "max ‖w‖/δ", "1 - cosine", "at ‖w‖ = √δ", "escape"),
        widths=(8, 10, 10, 11, 9),
    )
    return Summary(
        f"Early directional convergence: {found.size:,} initializations, order {order:g}",
        (
            *(f"{count:,}: {verdict}" for verdict, count in ordered),
            table,
            f"medians over members with a KKT point; escape in units of {unit}; "
            f"rate {median(found.rate[going]):.6g}, in theory "
            f"{median(found.expected_rate[going]):.6g}",
        ),
    )


def _shortfall(found: EarlyConvergence, max_steps: int) -> str | None:
    """What to tell a caller of members that could not be followed to the end."""
    lost = np.char.startswith(found.verdict.astype(str), _NO_LIMIT)
    gave_up = found.flows.failed.reshape(len(found.scales), -1) & ~found.verified
    reasons = []
    if lost.any():
        residual = f" by max_steps={max_steps:,}"
        advice = "Try a larger max_steps=."
        reasons.append(Reason("no limit flow to a KKT point", lost.sum(), residual, advice))
    gone = gave_up.any(axis=0) & ~lost
    if gone.any():
        flows = found.flows[gave_up.ravel()]
        where = f", in flows that ended by {ended_by(flows.status)}"
        advice = "Try a larger max_steps=; look at flows[flows.failed] of the result."
        reasons.append(Reason("flows that gave up", gone.sum(), where, advice))
    who = some_of(int((lost | gone).sum()), found.size)
    return shortfall(f"verify_early_convergence: {who} could not be followed.", reasons)


@running
@ends_on_signals()
@one_call()
def verify_early_convergence(
    networks: eqx.Module | Initializations,
    task: Task,
    scales: ArrayLike | Sequence[float] = (1e-2, 1e-4, 1e-6, 1e-8),
    *,
    closeness: float = 1e-3,
    max_steps: int = 10_000,
    ensemble: bool | None = None,
    schedule: Schedule | None = None,
    progress: bool | None = None,
    trainable: Any = None,
) -> EarlyConvergence:
    """Check the theorem on early directional convergence, member by member.

    For `L > 2` and small δ there is a time `T`, in units of `δ^(2-L)` and independent of δ,
    until which `‖w‖/δ` stays bounded while `w/‖w‖` comes close to a non-negative KKT point
    of the constrained neural correlation function; or the weights go to zero. For `L = 2`
    the times of escape are of order `log(1/δ)`.

    The KKT point is the one that the δ → 0 flow reaches from the same start. The
    early-phase time is that at which this flow has come within `closeness` of it. Every
    scale is then followed to `‖w‖ = √δ`.

    A member converges if, at every scale, `‖w‖/δ` up to the early-phase time is at most
    twice that of the limit; if at the smallest scale `1 - cosine` is at most twice the
    `closeness` there, or at `‖w‖ = √δ` where the escape is too near to tell the two apart;
    and if `1 - cosine` at `‖w‖ = √δ` never grows as δ falls, beyond errors of the steps.

    Arguments:
        networks: an ensemble (or one network), or `Initializations`.
        task: the data and the loss.
        scales: two or more different δ below one, (scales,).
        closeness: the `1 - cosine` that ends the early phase of the limit flow.
        max_steps: as for `gradient_flow`.
        ensemble: as for `gradient_flow`.
        schedule: as for `gradient_flow`.
        progress: as for `gradient_flow`.
        trainable: as for `gradient_flow`.

    Returns:
        `EarlyConvergence`, with a verdict for every member and its reason.

    Raises:
        InputError: for arguments that do not fit.
        NotHomogeneousError: for a network that is not homogeneous.

    Source:
        arXiv:2403.08121, section 4 (early directional convergence); arXiv:2402.09226 for
        `L = 2`.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
        >>> x = jf.data.sphere_points(8, 3, key=jax.random.key(1))
        >>> task = jf.data.teacher_student(network, x, target_norm=1.0)
        >>> ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(2))
        >>> jf.verify_early_convergence(ensemble, task, [1e-2, 1e-6]).verdict.tolist()
        ['converges', 'converges']
    """
    checked = _check_scales(scales)
    closeness = check_share("closeness", closeness)
    search, starts = begin_search(
        networks, task, None, max_steps, ensemble, schedule, progress, trainable
    )
    if search.order < 2:
        raise InputError("networks", f"networks of order {search.order:g}", "2 or more")
    found = _Verification(search, starts, checked, closeness).run()
    tell(_shortfall(found, search.max_steps))
    return found


def _check_scales(scales: Any) -> np.ndarray:
    expected = "two or more different numbers between 0 and 1"
    within = lambda values: (values > 0) & (values < 1)
    values = np.unique(check_numbers("scales", scales, expected, within))[::-1]
    if values.size < 2:
        raise InputError("scales", shown(scales), expected)
    return values


@dataclasses.dataclass(frozen=True)
class _Verification:
    """The steps of `verify_early_convergence`; members are rows of parameters."""

    search: Search
    starts: np.ndarray
    scales: np.ndarray
    closeness: float

    def run(self) -> EarlyConvergence:
        ends = self.search.ends(self.starts, past_kinks=False)
        known = np.isfinite(ends.finish.vector).all(axis=1)
        points = np.where(known[:, None], ends.finish.vector, ends.rows)
        points = np.where(np.isfinite(points), points, self.starts)
        limit, end = self._limit_flow(points)
        early, limit_growth = self._early_phase(limit, ends.kind == ZERO_TYPE)
        flows = self._flows(points, early, end)

        shape = (len(self.scales), len(self.starts))
        assert flows.records is not None
        norms = np.asarray(flows.records.values["norm"]).reshape(*shape, -1)
        cosines = np.asarray(flows.records.values["cosine"]).reshape(*shape, -1)
        growth = np.nanmax(norms[..., :_EARLY_POINTS], axis=-1) / self.scales[:, None]
        away = flatten_rows(flows.directions) - np.tile(points, (shape[0], 1))
        escaped = (flows.status == NormAbove.__name__).reshape(shape)
        closest = (np.sum(away**2, axis=1) / 2).reshape(shape)
        log_time = flows.log_time.reshape(shape)
        if self.search.order > 2:
            times = flows.rescaled_time.reshape(shape)
            rate = _slope(np.log(self.scales), log_time)
            expected = np.full(shape[1], 2.0 - self.search.order)
        else:
            times = np.exp(log_time) / np.log(1 / self.scales)[:, None]
            rate = _slope(np.log(1 / self.scales), np.exp(log_time))
            expected = 1 / (4 * ends.finish.value)
        result = EarlyConvergence(
            scales=self.scales,
            growth=growth,
            cosine=cosines[..., _EARLY_POINTS - 1],
            closest=np.where(escaped, closest, np.nan),
            escape_time=np.where(escaped, times, np.nan),
            early_time=early,
            limit_growth=limit_growth,
            rate=np.where(escaped.all(axis=0), rate, np.nan),
            expected_rate=expected,
            verdict=np.empty(shape[1], object),
            limit=limit,
            flows=flows,
            settings={"order": self.search.order, "closeness": self.closeness},
        )
        verdict = [self._judge(result, int(k), m) for m, k in enumerate(ends.kind)]
        return dataclasses.replace(result, verdict=np.array(verdict))

    def _networks(self, rows: np.ndarray) -> eqx.Module:
        return as_jax(unflatten_rows(self.search.one, rows))

    def _limit_flow(self, points: np.ndarray) -> tuple[Solution, np.ndarray]:
        """The recorded limit flow, and the rescaled time of its end, `T*` if it has one."""
        networks, task = self._networks(self.starts), self.search.task
        options: dict[str, Any] = self.search.options(self.search.one)
        options["stop"] = self.search.near_rest
        before = ncf_flow(networks, task, **options)
        end = before.rescaled_time
        assert before.blow_up_time is not None
        end = np.where(np.isfinite(before.blow_up_time), before.blow_up_time, end)
        end = np.where(end > 0, end, 1.0)  # any time will do for what never moves
        single = is_single(end.dtype)
        if self.search.order > 2:
            # Everything happens close to T*.
            left = np.geomspace(1.0, 1e-5 if single else 1e-12, _GRID_POINTS)
        else:
            left = np.linspace(1.0, 0.0, _GRID_POINTS)
        grid = end[:, None] * (1 - left)
        record = {"cosine": CosineTo(self._networks(points), per_member=True), "norm": norm}
        limit = ncf_flow(networks, task, record=record, record_at=grid, **options)
        return limit, end

    def _early_phase(self, limit: Solution, zero: np.ndarray):
        """When the limit flow comes close for good, and how large it has become by then."""
        assert limit.records is not None
        cosine = np.asarray(limit.records.values["cosine"])
        norms, grid = np.asarray(limit.records.values["norm"]), limit.records.grid
        far = np.isfinite(cosine) & ~(1 - cosine <= self.closeness)
        points = np.arange(grid.shape[1])
        last_far = np.max(np.where(far, points, -1), axis=1)
        first = np.minimum(last_far + 1, grid.shape[1] - 1)
        # A member that goes to zero is followed half way to the end of the limit flow.
        first = np.where(zero, grid.shape[1] // 2, np.maximum(first, 1))
        early = np.take_along_axis(grid, first[:, None], axis=1)[:, 0]
        so_far = np.where(points <= first[:, None], norms, -np.inf)
        return early, np.nanmax(np.where(np.isfinite(so_far), so_far, 0.0), axis=1)

    def _flows(self, points, early, end) -> Solution:
        """All scales at once, recorded up to the early-phase time and on to the escape."""
        times = len(self.scales)
        until = early[:, None] * np.linspace(0.0, 1.0, _EARLY_POINTS)
        beyond = np.maximum(end - early, 1e-3 * early)
        left = np.geomspace(0.9, 1e-5, _GRID_POINTS - _EARLY_POINTS)
        after = early[:, None] + beyond[:, None] * (1 - left)
        grid = np.concatenate([until, after], axis=1)
        scales = np.repeat(self.scales, len(points))
        last = np.tile(_LATER * end, times)
        tile = lambda rows: np.tile(rows, (times, 1))
        return gradient_flow(
            self._networks(tile(self.starts)),
            self.search.task,
            scale=scales,
            # A member that has not escaped long after the limit flow's end never will.
            stop=[NormAbove(scales**0.5), RescaledTime(last)],  # pyright: ignore
            record={
                "cosine": CosineTo(self._networks(tile(points)), per_member=True),
                "norm": norm,
            },
            record_at=tile(grid),
            **self.search.options(self.search.one),
        )

    def _judge(self, found: EarlyConvergence, kind: int, m: int) -> str:
        if kind == NOT_CONVERGED:
            return _NO_LIMIT
        escaped = np.isfinite(found.closest[:, m])
        large = found.growth[:, m] > _BOUND * found.limit_growth[m]
        if kind == ZERO_TYPE:
            if escaped.any() or large.any():
                return "no: it grows, though the limit flow goes to zero"
            return "goes to zero"
        if not escaped.all():
            return f"no: ‖w‖ does not reach √δ at δ = {self.scales[~escaped][0]:.0e}"
        if large.any():
            return f"no: ‖w‖/δ depends on δ, at δ = {self.scales[large][0]:.0e}"
        nearest = np.fmin(1 - found.cosine[-1, m], found.closest[-1, m])
        if nearest > _BOUND * self.closeness:
            return f"no: 1 - cosine is still {nearest:.1g} at δ = {self.scales[-1]:.0e}"
        closest = found.closest[:, m]
        growing = closest[1:] > closest[:-1] + _SLACK
        if growing.any():
            return f"no: 1 - cosine grows at δ = {self.scales[1:][growing][0]:.0e}"
        return "converges"


def _slope(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The least-squares slope of every column over `x`."""
    x = x - x.mean()
    return x @ (columns - columns.mean(axis=0)) / (x @ x)
