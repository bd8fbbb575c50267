"""Distinct KKT points, and which members of an ensemble end at each."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray

CONVERGED = 0
ZERO_TYPE = -1
NOT_CONVERGED = -2
_QUANTILE = 1.959963984540054  # z: 2.5% of the normal distribution lie above it
_MOST_ROWS = 30
_MOST_NAMED = 8


@dataclasses.dataclass(frozen=True, repr=False)
class KKTPoints:
    """Distinct KKT points of the constrained neural correlation function, best first.

    Printing it shows a table. Arrays have a leading axis of points.
    """

    networks: Any
    """The points, stacked networks of unit norm."""
    value: np.ndarray
    """`N(w)`, (points,)."""
    multiplier: np.ndarray
    """`λ = L N(w)`, (points,)."""
    residual: np.ndarray
    """`‖∇N - λw‖ / ‖∇N‖`, (points,); on kinks the distance of `λw` from the
    subdifferential instead of `‖∇N - λw‖`."""
    index: np.ndarray
    """The number of ascent directions, (points,): 0 at a second-order KKT point; -1 where
    the spectrum was not asked for."""
    spectrum: np.ndarray | None
    """Eigenvalues of the Riemannian Hessian `P (∇²N - λI) P`, largest first,
    (points, parameters - 1), with NaN behind them where a point has fewer."""
    num_kinks: np.ndarray
    """How many samples are on the kink of an active neuron, (points,)."""
    basin: np.ndarray
    """How many members end at each point, (points,)."""
    rank_one: np.ndarray
    """Whether every layer has rank one, (points,)."""
    ends: np.ndarray
    """(members,): the number of the point where each member ended, -1 for a member that
    goes to zero, -2 for one that did not converge."""
    member_residual: np.ndarray
    """The residual that each member reached, (members,)."""
    attrs: dict[str, Any]
    """The order, the tolerance, and how the points were found."""

    def __len__(self) -> int:
        return len(self.value)

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
        return self.basin / max(self.num_members, 1)

    @functools.cached_property
    def share_interval(self) -> np.ndarray:
        """Wilson's 95% interval for the share of the sphere that flows to each point,
        (points, 2)."""
        return np.array([wilson(int(k), self.num_members) for k in self.basin]).reshape(
            -1, 2
        )

    @functools.cached_property
    def dataset(self) -> xarray.Dataset:
        """All but the weights, with the dimensions `point`, `init` and `eigenvalue`."""
        point = {
            "value": (self.value, "N(w), the neural correlation function"),
            "multiplier": (self.multiplier, "λ = L N(w)"),
            "residual": (self.residual, "‖∇N - λw‖ / ‖∇N‖"),
            "index": (self.index, "number of ascent directions"),
            "num_kinks": (self.num_kinks, "samples on the kink of a neuron"),
            "basin": (self.basin, "members that end there"),
            "share": (self.share, "share of the members"),
            "share_low": (self.share_interval[:, 0], "lower end of the 95% interval"),
            "share_high": (self.share_interval[:, 1], "upper end of the 95% interval"),
            "rank_one": (self.rank_one, "whether every layer has rank one"),
        }
        variables: dict[str, Any] = {
            name: ("point", array, {"long_name": text, "units": "1"})
            for name, (array, text) in point.items()
        }
        meanings = "a point; -1: goes to zero; -2: did not converge"
        variables["end"] = ("init", self.ends, {"long_name": meanings, "units": "1"})
        variables["member_residual"] = (
            "init",
            self.member_residual,
            {"long_name": "residual that the member reached", "units": "1"},
        )
        if self.spectrum is not None:
            text = "eigenvalues of the Riemannian Hessian"
            variables["spectrum"] = (
                ("point", "eigenvalue"),
                self.spectrum,
                {"long_name": text, "units": "1"},
            )
        return xarray.Dataset(variables, attrs=self.attrs)

    def __repr__(self) -> str:
        return table(self)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95% interval for a probability; all of it where there were no trials.

    The probabilities `p` for which the share found is `z` standard deviations or less from
    `p`: E. B. Wilson, J. Amer. Statist. Assoc. 22 (1927), 209-212.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = _QUANTILE**2 / trials
    middle = share + spread / 2
    half = np.sqrt(spread * (share * (1 - share) + spread / 4))
    # With no successes, or nothing else, one end is 0 or 1 but for rounding.
    low = 0.0 if successes == 0 else (middle - half) / (1 + spread)
    high = 1.0 if successes == trials else (middle + half) / (1 + spread)
    return float(low), float(high)


def table(points: KKTPoints) -> str:
    """The text that printing KKT points shows."""
    attrs = points.attrs
    head = (
        f"KKT points: {len(points)} distinct, from {points.num_members:,} initializations "
        f"of {attrs['network']} ({attrs['num_parameters']:,} parameters, "
        f"order {attrs['order']:g})"
    )
    rows = [("value N", "λ", "residual", "index", "kinks", "rank one", "members", "share")]
    for k in range(min(len(points), _MOST_ROWS)):
        low, high = points.share_interval[k]
        rows.append(
            (
                f"{points.value[k]:.8g}",
                f"{points.multiplier[k]:.5g}",
                f"{points.residual[k]:.1e}",
                f"{points.index[k]}" if points.index[k] >= 0 else "?",
                f"{points.num_kinks[k]}",
                "yes" if points.rank_one[k] else "no",
                f"{points.basin[k]:,}",
                f"{points.share[k]:.1%} ({low:.1%} to {high:.1%})",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [head] if len(points) else [head + ": none with N > 0"]
    if len(points):
        lines += [
            "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths))
            for row in rows
        ]
    if len(points) > _MOST_ROWS:
        lines.append(f"  and {len(points) - _MOST_ROWS} more")
    missing = points.not_converged
    some = ", ".join(map(str, missing[:_MOST_NAMED]))
    more = ", …" if len(missing) > _MOST_NAMED else ""
    named = f" (members {some}{more})" if len(missing) else ""
    lines.append(
        f"  go to zero: {points.num_zero_type:,}; not converged: {len(missing):,}{named}"
    )
    return "\n".join(lines)


def same_points(invariants: Sequence[np.ndarray], tolerance: float) -> np.ndarray:
    """Number the rows so that rows with the same invariants have the same number.

    **Arguments:**

    - `invariants`: arrays with one row for each member; rows of one array are compared by
      their distance, relative to the longer of the two.
    - `tolerance`: the relative distance up to which two rows are the same.

    **Returns:** (members,) numbers from 0, in the order in which they first occur.
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
