"""Curves of many members, and what lies in their middle."""

from typing import Any, NamedTuple

import numpy as np

_BAND = (0.1, 0.9)
_COMMON = 300
"""Places at which members with points of their own are compared. Chosen: the pixels of a
small picture."""


class Curves(NamedTuple):
    """Members, and places at which all of them have a value."""

    x: np.ndarray  # (members, points), NaN behind a member's end
    values: np.ndarray  # (members, points, entries)
    places: np.ndarray  # (places,)
    kept: np.ndarray  # (members, places, entries): the last value from the end on
    share: np.ndarray  # (places,): of the members that still run

    @classmethod
    def of(cls, x: np.ndarray, values: np.ndarray, x_log: bool, y_log: bool) -> "Curves":
        there = np.isfinite(x) & np.isfinite(values).any(axis=-1)
        if x_log:
            there &= x > 0
        some = there.any(axis=1)
        x, values, there = x[some], values[some], there[some]
        if not len(x):
            return cls(x, values, np.zeros(0), values[:, :0], np.zeros(0))
        last = there.shape[1] - 1 - np.argmax(there[:, ::-1], axis=1)
        if (x == x[:1]).all():  # all at the same places
            index = np.minimum(np.arange(x.shape[1]), last[:, None])
            kept = np.take_along_axis(values, index[..., None], axis=1)
            running = np.arange(x.shape[1]) <= last[:, None]
            return cls(x, values, x[0], kept, running.mean(axis=0))
        of_x = np.log if x_log else np.asarray
        of_y = (np.log, np.exp) if y_log else (np.asarray, np.asarray)
        first = np.argmax(there, axis=1)
        rows = np.arange(len(x))
        # Where the abscissa falls along the path, as the time that is left does.
        sign = 1.0 if np.sum(x[rows, last] - x[rows, first]) >= 0 else -1.0
        u = sign * of_x(np.where(there, x, 1.0))
        ends = u[rows, last]
        common = np.linspace(np.min(u[there]), np.max(u[there]), _COMMON)
        kept = np.full((len(x), _COMMON, values.shape[-1]), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            y = of_y[0](values)
            for row, entry in np.ndindex(len(x), values.shape[-1]):
                known = there[row] & np.isfinite(y[row, :, entry])
                if known.any():
                    at, of = u[row, known], y[row, known, entry]
                    kept[row, :, entry] = np.interp(common, at, of, left=np.nan)
            kept = of_y[1](kept)
        share = np.mean(common <= ends[:, None] + 1e-12 * np.abs(ends[:, None]), axis=0)
        places = sign * common
        return cls(x, values, np.exp(places) if x_log else places, kept, share)

    @property
    def num(self) -> int:
        return len(self.x)

    def middle(self, entry: int) -> np.ndarray:
        return _over_members(lambda kept: np.nanmedian(kept, axis=0), self.kept[..., entry])

    def band(self, entry: int) -> np.ndarray:
        return _over_members(
            lambda kept: np.nanquantile(kept, _BAND, axis=0), self.kept[..., entry]
        )


def _over_members(function: Any, kept: np.ndarray) -> np.ndarray:
    """A statistic over members, NaN where none has a value."""
    known = np.isfinite(kept).any(axis=0)
    return function(np.where(known, kept, 0.0)) + np.where(known, 0.0, np.nan)
