"""The initialization scale."""

from typing import Any

import equinox as eqx
import numpy as np

from ..errors import InputError
from ._numbers import number_or_one_each, of_rows


class Scale(eqx.Module):
    """δ and log δ: one number, or one for each member."""

    values: np.ndarray
    logarithms: np.ndarray

    def of(self, rows: np.ndarray) -> "Scale":
        """Those of these members."""
        return Scale(of_rows(self.values, rows), of_rows(self.logarithms, rows))


def as_scale(scale: Any, num: int | None, dtype: Any) -> Scale:
    """Positive numbers. Logarithms are taken in double precision."""
    values = number_or_one_each("scale", scale, num)
    if np.any(values <= 0):
        raise InputError("scale", f"{values.min():g}", "positive numbers")
    return Scale(values, np.asarray(np.log(values), dtype))


def no_scale(dtype: Any) -> Scale:
    """The scale of an equation that has none, such as the limit δ → 0."""
    return Scale(np.zeros(()), np.zeros((), dtype))
