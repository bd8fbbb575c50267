"""A recorded quantity of all members."""

import math
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import check_numbers, shown
from ..errors import InputError
from ..results import Solution
from ._axes import dataset_of, MOST_LINES, new_if_none
from ._curves import Curves
from ._style import (
    BLUE,
    color_of,
    colors_of,
    in_words,
    is_logarithm,
    legend,
    name_colors,
    of_logarithm,
    show_powers,
    spans_decades,
)

_CROWDED = 30
"""A scale is logarithmic where half of the points lie in such a part of it. Chosen."""
_MOST_OF_IT = 0.98
"""Members that get so far along a picture have come to its end. Chosen."""
_STYLES = ("-", "--", ":", "-.")
_STRIP = 0.08
"""The height of the strip below that shows how many members still run. Chosen."""


def recorded(
    results: Solution | xarray.Dataset,
    name: str,
    *,
    against: str | xarray.DataArray | np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a recorded quantity of all members against what it was recorded over.

    Each member is a thin line, up to 60 of them; the median is thick. Of more members, and
    of a quantity with a further axis (such as one value for each layer), the band is drawn
    that holds 80% of the members; a quantity with more entries than colours gets a colour
    bar. Members that have ended keep their last value in median and band, and the share
    that still runs is the height of the grey strip below. Scales are logarithmic where
    numbers cover decades.

    Arguments:
        results: a `Solution`, or its dataset.
        name: of the recorded function.
        against: what to draw it against: the name of a quantity that was recorded beside
            it, such as `"log_norm"`, or an array, (points,) or (init, points). What it was
            recorded over if not given.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: if nothing was recorded under that name.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
        >>> ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
        >>> solution = jf.gradient_flow(
        ...     ensemble,
        ...     jf.Task(jax.numpy.eye(2), jax.numpy.ones(2)),
        ...     scale=0.1,
        ...     stop=[jf.RescaledTime(1.0)],
        ...     record={"norm": jf.norm},
        ...     record_at=20,
        ... )
        >>> jf.plot.recorded(solution, "norm").get_ylabel()
        'norm'
    """
    dataset = dataset_of("results", results, "a Solution, or its dataset")
    over = _over(dataset)
    known = isinstance(name, str) and name in dataset and dataset[name].ndim >= 2
    if not known or over is None:
        raise InputError("name", shown(name), f"a recorded function of {list(dataset)}")
    values = np.asarray(dataset[name].values, float)
    x, words, in_powers = _abscissa(dataset, over if against is None else against, values)
    ax = new_if_none(ax)
    entries = values.reshape(*values.shape[:2], -1)
    entries, y_log = _logarithmic(entries)
    x_log = not in_powers and _is_crowded(x)
    curves = Curves.of(x, entries, x_log, y_log)
    if values.ndim == 2:
        _draw_members(ax, curves)
        legend(ax)
    else:
        dims = [str(dim) for dim in dataset[name].dims[2:]]
        if dims == [f"{name}_0"]:  # an axis without a name of its own
            dims = [name]
        _draw_entries(ax, curves, values.shape[2:], dims)
    if x_log:
        ax.set_xscale("log")
    if in_powers:
        show_powers(ax.xaxis)
    if y_log:
        ax.set_yscale("log")
    _draw_share(ax, curves)
    ax.set_xlabel(words)
    ax.set_ylabel(in_words(dataset, name))
    ax.grid(alpha=0.25)
    return ax


def _draw_members(ax: Axes, curves: Curves) -> None:
    if curves.num <= 1:
        for x, y in zip(curves.x, curves.values[..., 0]):
            ax.plot(x, y, color=BLUE, linewidth=1.5)
        return
    for x, y in list(zip(curves.x, curves.values[..., 0]))[:MOST_LINES]:
        ax.plot(x, y, color=BLUE, alpha=0.3, linewidth=0.6)
    if curves.num > MOST_LINES:
        low, high = curves.band(0)
        ax.fill_between(
            curves.places, low, high, color=BLUE, alpha=0.2, linewidth=0, label="10–90 %"
        )
    ax.plot(curves.places, curves.middle(0), color=color_of(1), linewidth=2, label="median")


def _draw_entries(ax: Axes, curves: Curves, sizes: tuple[int, ...], dims: list) -> None:
    """A colour for each place on the last axis, a style for each on those before it."""
    names = [str(dim).replace("_", " ") for dim in dims]
    colors, rows = colors_of(sizes[-1]), math.prod(sizes[:-1])
    for entry in range(rows * sizes[-1]):
        color, style = colors[entry % sizes[-1]], _STYLES[entry // sizes[-1] % len(_STYLES)]
        if curves.num > 1 and rows == 1:
            low, high = curves.band(entry)
            ax.fill_between(curves.places, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(curves.places, curves.middle(entry), style, color=color, linewidth=1.8)
    name_colors(ax, sizes[-1], names[-1])
    if 1 < rows <= len(_STYLES):
        for row, style in enumerate(_STYLES[:rows], start=1):
            ax.plot([], [], style, color="0.3", label=f"{' × '.join(names[:-1])} {row}")
    legend(ax)


def _draw_share(ax: Axes, curves: Curves) -> None:
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
    legend(ax)


def _over(dataset: xarray.Dataset) -> str | None:
    """What the records of a dataset run over."""
    about = dataset.attrs.get("jaxflow", {})
    over = about.get("records", {}).get("over") if isinstance(about, dict) else None
    if over in dataset.coords:
        return over
    others = [str(name) for name in dataset.coords if name != "init"]
    return others[0] if others else None


def _abscissa(
    dataset: xarray.Dataset, against: Any, values: np.ndarray
) -> tuple[np.ndarray, str, bool]:
    """What to draw against, for each member; in words; whether these are exponents."""
    words, in_powers = "", False
    if isinstance(against, str):
        if against not in dataset.variables:
            expected = f"an array, or one of {[str(name) for name in dataset.coords]}"
            raise InputError("against", shown(against), expected)
        words, in_powers = in_words(dataset, against), is_logarithm(dataset, against)
        x = np.asarray(dataset[against].values)
    else:
        x = check_numbers("against", against, "numbers", lambda x: np.full(x.shape, True))
    if x.shape not in (values.shape[1:2], values.shape[:2]):
        found, expected = f"shape {x.shape}", f"(points,) or {values.shape[:2]}"
        raise InputError("against", found, expected)
    x = np.broadcast_to(np.asarray(x, float), values.shape[:2])
    if in_powers:
        words, x = of_logarithm(words), x / math.log(10)
    return x, words, in_powers


def _logarithmic(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Values, and whether they cover decades; zeros are then nowhere."""
    if not spans_decades(values):
        return values, False
    return np.where(values > 0, values, np.nan), True


def _is_crowded(x: np.ndarray) -> bool:
    known = x[np.isfinite(x) & (x > 0)]
    return spans_decades(x) and bool(_CROWDED * np.median(known) < np.max(known))
