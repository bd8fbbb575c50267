"""One method of a table, as a trace sees it."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from ._stage_table import StageTable


class Coefficients(NamedTuple):
    start: Any  # α
    newest: Any  # μ
    older: Any  # ν
    slope: Any  # κ
    first_slope: Any  # γ


class Row:
    """One method of a table, under a trace."""

    def __init__(self, table: StageTable, number, dtype):
        real = lambda array: jnp.asarray(array, dtype)[number]
        whole = lambda array: jnp.asarray(array, jnp.int32)[number]
        self.length = whole(table.length)
        self.last = whole(table.last)
        self.tableau = real(table.tableau)
        self.error = real(table.error)
        self.error_of_ends = real(table.error_of_ends)
        self.error_of_points = real(table.error_of_points)
        self.point = whole(table.point)
        self.bulge = real(table.bulge)
        self.gamma = real(table.gamma)
        self.coupling = real(table.coupling)
        self.is_start = jnp.all(self.tableau == 0, axis=1) & (self.gamma > 0)
        self.error_order = real(table.error_order)
        self._first = whole(table.first)
        self._recurrence = jnp.asarray(table.recurrence, dtype)

    def coefficients(self, stage) -> Coefficients:
        return Coefficients(*self._recurrence[self._first + stage])


def combine(coefficients, slopes):
    """`Σ_l a_l K_l`."""
    return jnp.tensordot(coefficients, slopes, axes=1)
