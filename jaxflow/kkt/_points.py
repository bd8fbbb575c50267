"""Distinct KKT points, and which members of an ensemble end at each."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic

import numpy as np

from ..results import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractResult,
    AbstractSource,
    Column,
    column,
    declared,
    Index,
    joined,
    MEMBERS,
    Network_co,
    Reason,
    same_bits,
    settings_of,
    Sheet,
    shortfall,
    some_of,
    stacked,
    stacked_networks,
    Summary,
    Table,
)

CONVERGED = 0
ZERO_TYPE = -1
NOT_CONVERGED = -2
_QUANTILE = 1.959963984540054  # z: 2.5% of the normal distribution lie above it
OTHER = -3
"""The end of a member at a point that was left out."""
POINT = "point"
_MOST_ROWS, _MOST_NAMED = 30, 8
"""Points and members that printing a result names; chosen for a screen."""


@dataclasses.dataclass(frozen=True)
class _OfMembers(AbstractDeclaration):
    """An array over the members, all of which stay when points are picked.

    Arguments:
        column: how it stands in the dataset.
        are_points: whether it holds numbers of points, which change with the points.
    """

    column: Column
    are_points: bool = False

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        if not self.are_points:
            return value
        kept = np.ravel(np.arange(owner.size)[index])
        renumbered = np.full(owner.size, OTHER)
        renumbered[kept[::-1]] = np.arange(len(kept))[::-1]  # the first of equal ones
        at_points = value >= 0
        found = value.copy()
        found[at_points] = renumbered[value[at_points]]
        return found

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        if self.are_points:
            firsts = np.cumsum([0, *(owner.size for owner in owners)])
            values = [np.where(v >= 0, v + first, v) for v, first in zip(values, firsts)]
        if not _same_members(owners):
            return joined(name, values, 0)
        # A member that one piece of the points leaves out is at a point of another.
        return np.max(values, axis=0) if self.are_points else values[0]

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        self.column.write(name, value, owner, sheet)

    def read(self, name: str, source: AbstractSource) -> Any:
        return self.column.read(name, source)


def _same_members(pieces: Sequence[Any]) -> bool:
    """Whether these are points of the same members, and not of one ensemble after another.

    Then every member reached the same residual, and is at a point of one piece at most.
    Where no member of any piece is at a point, nothing else tells them apart.
    """
    if len({len(piece.ends) for piece in pieces}) > 1:
        return False
    residuals = [piece.member_residual for piece in pieces]
    if any(not same_bits(residuals[0], other) for other in residuals[1:]):
        return False
    ends = np.array([piece.ends for piece in pieces])
    others = np.sum(ends == OTHER, axis=0)
    elsewhere = others >= len(pieces) - 1
    return bool(np.all(elsewhere | np.all((ends == ends[0]) & (ends < 0), axis=0)))


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class KKTPoints(AbstractResult, Generic[Network_co]):
    """Distinct KKT points of the constrained neural correlation function, best first.

    Printing it shows a table. Arrays have a leading axis of points. `points[0]` is the best
    one, `points[points.index == 0]` are those of second order; the members stay all there
    are, and those that end at points left out are marked so in `ends`.
    """

    dimension: ClassVar[str] = POINT
    counted: ClassVar[str] = "value"
    pictures: ClassVar[Sequence[str]] = ("kkt_points",)
    derived: ClassVar[Mapping[str, Column]] = {
        "share": Column((POINT,), "share of the members"),
        "share_low": Column((POINT,), "lower end of the 95% interval"),
        "share_high": Column((POINT,), "upper end of the 95% interval"),
    }

    networks: Network_co = stacked_networks()
    """The points, stacked networks of unit norm."""
    value: np.ndarray = column(POINT, "N(w), the neural correlation function")
    """`N(w)`, (points,)."""
    multiplier: np.ndarray = column(POINT, "λ = L N(w)")
    """`λ = L N(w)`, (points,)."""
    residual: np.ndarray = column(POINT, "‖∇N - λw‖ / ‖∇N‖")
    """`‖∇N - λw‖ / ‖∇N‖`, (points,); on kinks the distance of `λw` from the
    subdifferential instead of `‖∇N - λw‖`."""
    index: np.ndarray = column(POINT, "number of ascent directions")
    """The number of ascent directions, (points,): 0 at a second-order KKT point; -1 where
    the spectrum was not asked for."""
    spectrum: np.ndarray | None = column(
        (POINT, "eigenvalue"),
        "eigenvalues of the Riemannian Hessian",
        optional=True,
        fill=np.nan,
    )
    """Eigenvalues of the Riemannian Hessian `P (∇²N - λI) P`, largest first,
    (points, parameters - 1), with NaN behind them where a point has fewer."""
    num_kinks: np.ndarray = column(POINT, "samples on the kink of a neuron")
    """How many samples are on the kink of an active neuron, (points,)."""
    basin: np.ndarray = column(POINT, "members that end there")
    """How many members end at each point, (points,)."""
    rank_one: np.ndarray = column(POINT, "whether every layer has rank one")
    """Whether every layer has rank one, (points,)."""
    rank_one_missed: np.ndarray | None = column(
        POINT, "by how much the conditions for rank one are missed", optional=True
    )
    """By how much the exact conditions for a rank-one KKT point are missed, (points,), as
    `jaxflow.kkt.rank_one_conditions` says it; NaN on kinks, and for networks that are no
    chains of matrices."""
    ends: np.ndarray = declared(
        _OfMembers(
            Column(
                (MEMBERS,),
                "a point; -1: goes to zero; -2: did not converge; -3: at a point left out",
                name="end",
            ),
            are_points=True,
        )
    )
    """(members,): the number of the point where each member ended, -1 for a member that
    goes to zero, -2 for one that did not converge, -3 for one at a point that was left
    out."""
    member_residual: np.ndarray = declared(
        _OfMembers(Column((MEMBERS,), "residual that the member reached"))
    )
    """The residual that each member reached, (members,)."""
    settings: Mapping[str, Any] = settings_of("network", "num_parameters", "order")
    """The order, the tolerance, and how the points were found."""

    @property
    def num_members(self) -> int:
        """How many members the ensemble had."""
        return len(self.ends)

    @property
    def num_zero_type(self) -> int:
        """How many members go to zero: their flow reaches no KKT point with `N > 0`."""
        return int(np.sum(self.ends == ZERO_TYPE))

    @property
    def not_converged(self) -> np.ndarray:
        """The numbers of the members that did not converge to `tol`."""
        return np.flatnonzero(self.ends == NOT_CONVERGED)

    @property
    def share(self) -> np.ndarray:
        """The share of the members that end at each point, (points,)."""
        return np.asarray(self.basin / max(self.num_members, 1))

    @functools.cached_property
    def share_interval(self) -> np.ndarray:
        """Wilson's 95% interval for the share of the sphere that flows to each point,
        (points, 2)."""
        found = [wilson(int(k), self.num_members) for k in np.ravel(self.basin)]
        return np.array(found).reshape(*np.shape(self.basin), 2)

    @property
    def share_low(self) -> np.ndarray:
        """The lower ends of these intervals, (points,)."""
        return self.share_interval[..., 0]

    @property
    def share_high(self) -> np.ndarray:
        """Their upper ends, (points,)."""
        return self.share_interval[..., 1]

    def summary(self) -> Summary:
        """What printing the points shows."""
        return _summary(stacked(self))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95% interval for a probability; from 0 to 1 where there were no trials.

    The probabilities `p` for which the share found is `z` standard deviations or less from
    `p`: E. B. Wilson, J. Amer. Statist. Assoc. 22 (1927), 209-212.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = _QUANTILE**2 / trials
    middle = share + spread / 2
    half = np.sqrt(spread * (share * (1 - share) + spread / 4))
    # Without successes the lower end is 0, without failures the upper end is 1; the
    # formulas would give these with rounding errors.
    low = 0.0 if successes == 0 else (middle - half) / (1 + spread)
    high = 1.0 if successes == trials else (middle + half) / (1 + spread)
    return float(low), float(high)


def _summary(points: KKTPoints) -> Summary:
    settings, num = points.settings, len(points)
    head = (
        f"KKT points: {num} distinct, from {points.num_members:,} initializations "
        f"of {settings['network']} ({settings['num_parameters']:,} parameters, "
        f"order {settings['order']:g})"
    )
    if not num:
        return Summary(head + ": none with N > 0", (_others(points),))
    table = Table(
        tuple(_row(points, k) for k in range(min(num, _MOST_ROWS))),
        header=(
            *("value N", "λ", "residual", "index", "kinks"),
            *("rank one", "members", "share"),
        ),
    )
    more = (f"and {num - _MOST_ROWS} more",) if num > _MOST_ROWS else ()
    if len(points.not_converged):  # what failed goes first
        return Summary(head, (_others(points), table, *more))
    return Summary(head, (table, *more, _others(points)))


def _row(points: KKTPoints, k: int) -> tuple[str, ...]:
    """The cells of one point."""
    low, high = points.share_interval[k]
    return (
        f"{points.value[k]:.8g}",
        f"{points.multiplier[k]:.5g}",
        f"{points.residual[k]:.1e}",
        f"{points.index[k]}" if points.index[k] >= 0 else "?",
        f"{points.num_kinks[k]}",
        "yes" if points.rank_one[k] else "no",
        f"{points.basin[k]:,}",
        f"{points.share[k]:.1%} ({low:.1%} to {high:.1%})",
    )


def _others(points: KKTPoints) -> str:
    """Of members that end at none of the points."""
    missing = points.not_converged
    some = ", ".join(map(str, missing[:_MOST_NAMED]))
    more = ", …" if len(missing) > _MOST_NAMED else ""
    named = f" (members {some}{more})" if len(missing) else ""
    left_out = int(np.sum(points.ends == OTHER))
    elsewhere = f"; at points left out: {left_out:,}" if left_out else ""
    return (
        f"not converged: {len(missing):,}{named}; go to zero: {points.num_zero_type:,}"
        f"{elsewhere}"
    )


def shortfall_of_points(points: KKTPoints, max_steps: int) -> str | None:
    """What to tell a caller of members that did not converge."""
    reached = points.member_residual[points.not_converged]
    tol = points.settings["tol"]
    far, unfinished = int(np.sum(reached <= tol)), reached[~(reached <= tol)]
    reasons = []
    if len(unfinished):
        known = unfinished[np.isfinite(unfinished)]
        at = f" at residuals {known.min():.1e} to {known.max():.1e}" if len(known) else ""
        where = f"{at}, where tol is {tol:.0e}"
        advice = f"Try more than max_steps={max_steps:,}, or a larger tol=."
        reasons.append(Reason("not converged", len(unfinished), where, advice))
    if far:
        where = ", at the end of which the nearest KKT point is another's"
        advice = f"Try more than max_steps={max_steps:,}."
        reasons.append(Reason("a flow that ended too early", far, where, advice))
    who = some_of(len(reached), points.num_members)
    head = f"find_kkt: {who} came to no KKT point."
    return shortfall(head, reasons, "Their numbers are points.not_converged.")


def same_points(invariants: Sequence[np.ndarray], tolerance: float) -> np.ndarray:
    """Number the rows so that rows with the same invariants have the same number.

    Arguments:
        invariants: arrays with one row for each member; rows of one array are compared by
            their distance, relative to the longer of the two.
        tolerance: the relative distance up to which two rows are the same.

    Returns:
        (members,) numbers from 0, in the order in which they first occur.
    """
    count = len(invariants[0])
    numbers = np.full(count, -1)
    lengths = [np.linalg.norm(rows, axis=1) for rows in invariants]
    found = 0
    while (left := np.flatnonzero(numbers < 0)).size:
        first = left[0]
        same = np.ones(len(left), bool)
        for rows, length in zip(invariants, lengths):
            away = np.linalg.norm(rows[left] - rows[first], axis=1)
            same &= away <= tolerance * np.maximum(length[left], length[first])
        same[0] = True
        numbers[left[same]] = found
        found += 1
    return numbers
