"""What records are drawn along, and which members have come so far."""

import math
from typing import Any, NamedTuple

import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import check_numbers, shown
from ..errors import InputError
from ._curves import Curves
from ._style import (
    in_words,
    is_logarithm,
    of_logarithm,
    show_powers,
    spans_decades,
    with_symbol,
)

_CROWDED = 30
"""A scale is logarithmic where half of the points lie in such a part of it. Chosen."""
_MOST_OF_IT = 0.98
"""Members that get so far along a picture have come to its end. Chosen."""
_STRIP = 0.08
"""The height of the strip below that shows how many members still run. Chosen."""
_TIMES = ("time", "log_time", "rescaled_time")


class Along(NamedTuple):
    """What a record is drawn against."""

    x: np.ndarray  # (members, points)
    words: str
    in_powers: bool  # whether x are exponents of ten

    @classmethod
    def of(cls, dataset: xarray.Dataset, against: Any, shape: tuple[int, ...]) -> "Along":
        """By a name or an array; by what the records run over if not given.

        Arguments:
            shape: (members, points).

        Raises:
            InputError: for what is neither.
        """
        name, words, in_powers = "", "", False
        against = over_of(dataset) if against is None else against
        if isinstance(against, str):
            name, x = _named(dataset, against)
            words, in_powers = in_words(dataset, name), is_logarithm(dataset, name)
        else:
            anything = lambda x: np.full(x.shape, True)
            x = check_numbers("against", against, "numbers", anything)
        if x.shape not in (shape[1:2], shape[:2]):
            found, expected = f"shape {x.shape}", f"(points,) or {shape[:2]}"
            raise InputError("against", found, expected)
        x = np.broadcast_to(np.asarray(x, float), shape[:2])
        if in_powers:
            words, x = of_logarithm(words), x / math.log(10)
        words = with_symbol(dataset, words, name) if name else words
        return cls(x, words, in_powers)

    @property
    def is_log(self) -> bool:
        """Whether a logarithmic scale shows more of it."""
        if self.in_powers:
            return False
        known = self.x[np.isfinite(self.x) & (self.x > 0)]
        wide = spans_decades(self.x)
        return wide and bool(_CROWDED * np.median(known) < np.max(known))

    def show(self, ax: Axes) -> None:
        """Scale, ticks and label of the axis."""
        if self.is_log:
            ax.set_xscale("log")
        if self.in_powers:
            show_powers(ax.xaxis)
        ax.set_xlabel(self.words)


def over_of(dataset: xarray.Dataset) -> str | None:
    """What the records of a dataset run over."""
    about = dataset.attrs.get("jaxflow", {})
    over = about.get("records", {}).get("over") if isinstance(about, dict) else None
    if over in dataset.variables:  # a store of a run has it for a variable
        return over
    others = [str(name) for name in dataset.coords if name != "init"]
    return others[0] if others else None


def _named(dataset: xarray.Dataset, name: str) -> tuple[str, np.ndarray]:
    """A quantity by its name, recorded or known from one that was: its name and values."""
    if name in dataset.variables:
        return name, np.asarray(dataset[name].values)
    if name == "norm" and "log_norm" in dataset.variables:
        return "log_norm", np.asarray(dataset["log_norm"].values)
    log_time = _log_time(dataset) if name in _TIMES else None
    unit = _log_unit(dataset) if name == "rescaled_time" else 0.0
    if log_time is None or unit is None:
        others = [str(coordinate) for coordinate in dataset.coords]
        expected = f"an array, or one of {others} or of what was recorded beside it"
        raise InputError("against", shown(name), expected)
    if name == "log_time":
        return name, log_time
    with np.errstate(over="ignore"):
        time = np.exp(log_time + unit)
    # What no float can hold is shown by its logarithm.
    return ("log_time", log_time) if np.isposinf(time).any() else (name, time)


def _log_time(dataset: xarray.Dataset) -> np.ndarray | None:
    """The natural logarithm of the time of records, by what they run over."""
    known = next((name for name in _TIMES if name in dataset.variables), None)
    if known is None:
        return None
    values = np.asarray(dataset[known].values, float)
    if known == "log_time":
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(values)
    unit = _log_unit(dataset) if known == "rescaled_time" else 0.0
    return None if unit is None else log - unit


def _log_unit(dataset: xarray.Dataset) -> np.ndarray | None:
    """`log δ^(L-2)`, (members, 1), of which `s = δ^(L-2) t` is a multiple; `None` if there
    is no δ, as in the limit δ → 0."""
    about = dataset.attrs.get("jaxflow", {})
    order = about.get("settings", {}).get("order") if isinstance(about, dict) else None
    scale = dataset["scale"].values if "scale" in dataset else np.zeros(1)
    if order is None or not (np.isfinite(scale) & (scale > 0)).all():
        return None
    return (float(order) - 2) * np.log(scale)[:, None]


def logarithmic(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Values, and whether they cover decades; zeros are then nowhere."""
    if not spans_decades(values):
        return values, False
    return np.where(values > 0, values, np.nan), True


def draw_share(ax: Axes, curves: Curves) -> None:
    """A strip along the lower edge, as high as the share of members that still run."""
    num = len(curves.share)
    # Members that end where the picture does have hardly ended.
    if not num or curves.share[: math.ceil(_MOST_OF_IT * num)].min() == 1:
        return
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        room = (high / low) ** (1.3 * _STRIP)
        ax.set_ylim(low / room, high)
    else:
        ax.set_ylim(low - 1.3 * _STRIP * (high - low), high)
    ax.fill_between(
        curves.places,
        0.0,
        _STRIP * curves.share,
        transform=ax.get_xaxis_transform(),
        color="0.45",
        alpha=0.35,
        linewidth=0,
        step="mid",
        label="share that still runs",
    )
