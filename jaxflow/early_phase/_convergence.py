"""What `verify_early_convergence` found: a verdict for every member, and its figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..results import (
    AbstractResult,
    column,
    median,
    MEMBERS,
    numbers,
    settings_of,
    Solution,
    stacked,
    Summary,
    Table,
    within,
)

CONVERGES, GOES_TO_ZERO = "converges", "goes to zero"
SLOW, NO = "slow", "no"
"""How verdicts begin."""

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
    """The largest `‖w‖/δ` up to the early-phase time, or to 99% of the blow-up time `T*`
    where that comes first: later `‖w‖/δ` at a given time hangs on the last digits of
    time."""
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
    """The largest `‖u‖` of the limit flow up to the same time, (members,)."""
    needed_scale: np.ndarray = column(
        MEMBERS, "δ from which on the early phase ends before ‖w‖ = √δ"
    )
    """`‖u‖⁻²` of the limit flow at the early-phase time, (members,): for smaller δ the
    early phase ends before `‖w‖ = √δ`. NaN where the limit flow came close later than its
    clock resolves, in the last 1e-12 before the blow-up, or not at all."""
    fitted_order: np.ndarray = column(MEMBERS, "measured order of 1 - cosine in δ")
    """The order `q` of `1 - cosine ~ δ^q` where `‖w‖ = √δ`, (members,): by least squares in
    logarithms over the scales from `fitted_from` to `fitted_to`, NaN for fewer than two."""
    fitted_from: np.ndarray = column(MEMBERS, "largest δ that this is measured over")
    """The largest of these scales, (members,): the first from which on `1 - cosine` stays
    below 0.01, or the largest of all for a member that is not there at two scales."""
    fitted_to: np.ndarray = column(MEMBERS, "smallest δ that this is measured over")
    """The smallest of these scales, (members,): the last at which the accuracy of the KKT
    point does not hide `1 - cosine`."""
    expected_order: np.ndarray = column(MEMBERS, "its value in theory")
    """`min(μ/λ, L)`, (members,), with `-μ` the eigenvalue of the Riemannian Hessian at the
    KKT point that is nearest to zero; NaN where it is not known: on kinks, or without
    `spectrum`."""
    kkt_value: np.ndarray = column(MEMBERS, "N at the KKT point")
    """`N` at the member's KKT point, (members,); NaN where there is none with `N > 0`."""
    rank_one: np.ndarray = column(MEMBERS, "whether every layer of that point has rank one")
    """Whether every layer of that KKT point has rank one, (members,)."""
    rate: np.ndarray = column(MEMBERS, "measured exponent of the time of escape in δ")
    """The exponent `r` of the time of escape `t ~ δ^r`, measured by least squares over all
    scales, (members,); for `L = 2` the slope of `t` over `log(1/δ)`."""
    expected_rate: np.ndarray = column(MEMBERS, "its value in theory")
    """`2 - L`; for `L = 2`, where `‖w‖` grows like `e^(2Nt)`, `1/(4N)`; (members,)."""
    verdict: np.ndarray = column(MEMBERS, "whether and why")
    """(members,): `"converges"`, `"goes to zero"`, `"slow: …"` for a member that smaller δ
    would bring closer, or `"no: …"` with the reason."""
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
        return np.isin(self.verdict, [CONVERGES, GOES_TO_ZERO])

    @property
    def slow(self) -> np.ndarray:
        """Whether `1 - cosine` is not small yet, but falls with δ, (members,)."""
        return np.char.startswith(self.verdict.astype(str), SLOW)

    def summary(self) -> Summary:
        """What printing the result shows."""
        return _summary(stacked(self))


def _summary(found: EarlyConvergence) -> Summary:
    verdicts, counts = np.unique(found.verdict.astype(str), return_counts=True)
    # Those that do not converge go first, then those that are slow.
    place = lambda verdict: 2 - 2 * verdict.startswith(NO) - verdict.startswith(SLOW)
    ordered = sorted(zip(verdicts, counts), key=lambda pair: place(pair[0]))
    order = found.settings["order"]
    going = found.verdict != GOES_TO_ZERO
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
            f"order of 1 - cosine in δ {median(found.fitted_order[going]):.3g}, in theory "
            f"{median(found.expected_order[going]):.3g}".replace("nan", "unknown"),
        ),
    )
