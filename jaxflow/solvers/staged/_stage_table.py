"""Coefficients of explicit methods of any number of stages, one method in each row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class StageTable(NamedTuple):
    """Methods side by side, in NumPy arrays.

    With `f_0 = f(y_0)`, a method is a recurrence

        Y_0 = y_0,  Y_1 = y_0 + h κ_1 f_0,
        Y_j = α_j y_0 + μ_j Y_{j-1} + ν_j Y_{j-2} + h (κ_j f(Y_{j-1}) + γ_j f_0),

    `j = 2 … m`, and from its end a tableau whose last point is that of the step:

        K_i = f(Y_m + h Σ_{l<i} a_il K_l),    y_1 = Y_m + h Σ_l a_il K_l for the last i,
        error = h Σ_i e_i K_i + d_y (y_0 - y_1) + d_f h (f_0 + f_1)
                + d_m (Y_m - y_0) + d_k (Y_k - y_0).

    The last slope is the next step's first. A Rosenbrock method (`γ > 0`) has `m = 0`. All
    but its last slope, which again is `f_1`, solve linear systems with the Jacobian `J` at
    the start:

        (I - h γ J) K_i = γ (f(y_0 + h Σ_{l<i} a_il K_l) + Σ_{l<i} c_il K_l).

    Recurrences are of different lengths and stand one after another: row `r` has
    `recurrence[first[r] : first[r] + length[r]]`.
    """

    interval: np.ndarray  # (rows,): stable where -h λ lies in [0, interval]
    length: np.ndarray  # (rows,): m
    first: np.ndarray  # (rows,)
    recurrence: np.ndarray  # (sum of lengths, 5): α, μ, ν, κ, γ
    error_order: np.ndarray  # (rows,): the local error estimate is of order h to this
    last: np.ndarray  # (rows,): the index of the last K
    tableau: np.ndarray  # (rows, slopes, slopes): a
    error: np.ndarray  # (rows, slopes): e
    error_of_ends: np.ndarray  # (rows, 2): d_y, d_f
    error_of_points: np.ndarray  # (rows, 2): d_m, d_k
    point: np.ndarray  # (rows,): k, zero for none
    bulge: np.ndarray  # (rows, slopes): see QuarticInterpolation
    gamma: np.ndarray  # (rows,): γ, zero for explicit methods
    coupling: np.ndarray  # (rows, slopes, slopes): c

    @property
    def num_slopes(self) -> int:
        """How many slopes have to be kept in a step."""
        return self.tableau.shape[1]

    @property
    def stabilized(self) -> slice:
        """The rows of stabilized methods."""
        return slice(0, len(self.interval) - self.has_rosenbrock)

    @property
    def has_rosenbrock(self) -> bool:
        """Whether the last row is a Rosenbrock method."""
        return bool(self.gamma[-1] > 0)


def stage_table(
    *,
    interval: np.ndarray,
    error_order: int,
    tableau: np.ndarray,
    recurrences: Sequence[np.ndarray] | None = None,
    **parts: np.ndarray,
) -> StageTable:
    """A table of methods of one kind.

    Given one recurrence for each row, if the methods have them; of the other `parts`, those
    that are not zero. Every tableau is used to its last row.
    """
    num, slopes, _ = tableau.shape
    made = recurrences or [np.zeros((0, 5))] * num
    length = np.array([len(recurrence) for recurrence in made])
    absent = {
        "error": np.zeros((num, slopes)),
        "error_of_ends": np.zeros((num, 2)),
        "error_of_points": np.zeros((num, 2)),
        "point": np.zeros(num, int),
        "bulge": np.zeros((num, slopes)),
        "gamma": np.zeros(num),
        "coupling": np.zeros((num, slopes, slopes)),
    }
    return StageTable(
        interval=interval,
        length=length,
        first=np.cumsum(length) - length,
        recurrence=np.concatenate(made),
        error_order=np.full(num, error_order),
        last=np.full(num, slopes - 1),
        tableau=tableau,
        **{**absent, **parts},
    )


def join(tables: list[StageTable]) -> StageTable:
    """The rows of several tables, one after another."""
    num = max(table.num_slopes for table in tables)
    offsets = np.cumsum([0, *(len(table.recurrence) for table in tables)])

    def padded(array, axes):
        missing = num - array.shape[-1]
        return np.pad(array, [(0, 0)] + [(0, missing)] * axes)

    together = lambda name: np.concatenate([getattr(table, name) for table in tables])
    return StageTable(
        interval=together("interval"),
        length=together("length"),
        first=np.concatenate([t.first + offset for t, offset in zip(tables, offsets)]),
        recurrence=together("recurrence"),
        error_order=together("error_order"),
        last=together("last"),
        tableau=np.concatenate([padded(table.tableau, 2) for table in tables]),
        error=np.concatenate([padded(table.error, 1) for table in tables]),
        error_of_ends=together("error_of_ends"),
        error_of_points=together("error_of_points"),
        point=together("point"),
        bulge=np.concatenate([padded(table.bulge, 1) for table in tables]),
        gamma=together("gamma"),
        coupling=np.concatenate([padded(table.coupling, 2) for table in tables]),
    )


def stage_numbers(least: int, most: int, ratio: float = 1.06) -> list[int]:
    """Numbers of stages to choose from: all small ones, then a geometric sequence.

    With a `ratio` of 1.06 a step has at most six percent more stages than it needs."""
    numbers = [least]
    while numbers[-1] < most:
        numbers.append(min(most, max(numbers[-1] + 1, round(ratio * numbers[-1]))))
    return numbers
