"""One method of a table, as a trace sees it."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp

from ._stage_table import StageTable


class Coefficients(NamedTuple):
    start: Any  # α
    newest: Any  # μ
    older: Any  # ν
    slope: Any  # κ
    first_slope: Any  # γ


def _looked_up(name: str, dtype: Any = None) -> Any:
    """A column of the table, at the row's number; real numbers if no type is given."""

    def look_up(self: "Row"):
        column = jnp.asarray(getattr(self._table, name), dtype or self._dtype)
        return column[self._number]

    return functools.cached_property(look_up)


class Row:
    """One method of a table, under a trace. What is asked for is looked up once."""

    def __init__(self, table: StageTable, number, dtype):
        self._table, self._number, self._dtype = table, number, dtype

    length = _looked_up("length", jnp.int32)
    last = _looked_up("last", jnp.int32)
    point = _looked_up("point", jnp.int32)
    tableau = _looked_up("tableau")
    error = _looked_up("error")
    error_of_ends = _looked_up("error_of_ends")
    error_of_points = _looked_up("error_of_points")
    bulge = _looked_up("bulge")
    gamma = _looked_up("gamma")
    coupling = _looked_up("coupling")
    error_order = _looked_up("error_order")
    _first = _looked_up("first", jnp.int32)

    @functools.cached_property
    def is_start(self):
        """Which stages are at the start of the step, of those that need a slope there."""
        return jnp.all(self.tableau == 0, axis=1) & (self.gamma > 0)

    def coefficients(self, stage) -> Coefficients:
        recurrence = jnp.asarray(self._table.recurrence, self._dtype)
        return Coefficients(*recurrence[self._first + stage])


def combine(coefficients, slopes):
    """`Σ_l a_l K_l`."""
    return jnp.tensordot(coefficients, slopes, axes=1)
