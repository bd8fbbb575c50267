"""A recorded quantity of all members."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import shown
from ..errors import InputError
from ..results import Solution
from ._along import Along, draw_share, logarithmic, over_of
from ._axes import dataset_of, MOST_LINES, new_if_none, rows_of
from ._curves import Curves
from ._style import (
    BLUE,
    color_of,
    colors_of,
    in_words,
    legend,
    name_colors,
    set_off,
    style_of,
    STYLES,
    styles_of,
    with_symbol,
)

_FIRST = 2
"""Colours before this one are those of all members and of their median."""


def recorded(
    results: Solution | xarray.Dataset,
    name: str,
    *,
    against: str | xarray.DataArray | np.ndarray | None = None,
    members: Sequence[int] | None = None,
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
            it, such as `"loss"`, `"log_norm"` or `"norm"`, or an array, (points,) or
            (init, points). `"time"`, `"log_time"` and `"rescaled_time"` are known from one
            another. What it was recorded over if not given.
        members: the numbers of members, as in the coordinate `init`, that are drawn by
            themselves and named, beside the median and band of all; no others are. Thin
            lines where the quantity has a further axis.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: if nothing was recorded under that name, if what to draw against is not
            known, and for members that are none.

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
        >>> jf.plot.recorded(solution, "norm", against="log_time").get_xlabel()
        'physical time t'
    """
    dataset = dataset_of("results", results, "a Solution, or its dataset")
    known = isinstance(name, str) and name in dataset and dataset[name].ndim >= 2
    if not known or over_of(dataset) is None:
        raise InputError("name", shown(name), f"a recorded function of {list(dataset)}")
    values = np.asarray(dataset[name].values, float)
    along = Along.of(dataset, against, values.shape)
    chosen = None if members is None else rows_of(dataset, members)
    ax = new_if_none(ax)
    entries, y_log = logarithmic(values.reshape(*values.shape[:2], -1))
    curves = Curves.of(along.x, entries, along.is_log, y_log)
    if values.ndim == 2:
        if curves.num > 1 or not chosen:
            _draw_members(ax, curves, chosen is None)
        for place, (number, row) in enumerate((chosen or {}).items()):
            (drawn,) = ax.plot(along.x[row], entries[row, :, 0], style_of(place + 1))
            drawn.set(color=color_of(place + _FIRST), linewidth=1.3)
            drawn.set_label(f"member {number}")
    else:
        dims = [str(dim) for dim in dataset[name].dims[2:]]
        if dims == [f"{name}_0"]:  # an axis without a name of its own
            dims = [name]
        looks = _draw_entries(ax, curves, values.shape[2:], dims)
        for row, (entry, look) in itertools.product((chosen or {}).values(), looks):
            ax.plot(along.x[row], entries[row, :, entry], linewidth=0.8, **look)
        if chosen:
            words = "member " + ", ".join(f"{number}" for number in chosen)
            ax.plot([], [], color="0.3", linewidth=0.8, label=f"thin: {words}")
    along.show(ax)
    if y_log:
        ax.set_yscale("log")
    draw_share(ax, curves)
    legend(ax)
    ax.set_ylabel(with_symbol(dataset, in_words(dataset, name), name))
    ax.grid(alpha=0.25)
    return ax


def _draw_members(ax: Axes, curves: Curves, each: bool) -> None:
    """The members, each by itself or not, and what lies in their middle."""
    if curves.num <= 1:
        for x, y in zip(curves.x, curves.values[..., 0]):
            ax.plot(x, y, color=BLUE, linewidth=1.5)
        return
    for x, y in list(zip(curves.x, curves.values[..., 0]))[: MOST_LINES if each else 0]:
        ax.plot(x, y, color=BLUE, alpha=0.3, linewidth=0.6)
    if curves.num > MOST_LINES or not each:
        low, high = curves.band(0)
        ax.fill_between(
            curves.places, low, high, color=BLUE, alpha=0.2, linewidth=0, label="10–90 %"
        )
    look = {"color": color_of(1), "linewidth": 2, "label": "median"}
    set_off(*ax.plot(curves.places, curves.middle(0), **look))


def _draw_entries(
    ax: Axes, curves: Curves, sizes: tuple[int, ...], dims: list
) -> list[tuple[int, dict[str, Any]]]:
    """A colour for each place on the last axis, a style for each on those before it."""
    names = [str(dim).replace("_", " ") for dim in dims]
    colors, rows = colors_of(sizes[-1]), math.prod(sizes[:-1])
    styles = styles_of(sizes[-1]) if rows == 1 else [style_of(0)] * sizes[-1]
    looks = []
    for entry in range(rows * sizes[-1]):
        row, place = divmod(entry, sizes[-1])
        style = styles[place] if rows == 1 else style_of(row)
        look = {"color": colors[place], "linestyle": style}
        if curves.num > 1 and rows == 1:
            low, high = curves.band(entry)
            options = {"color": colors[place], "alpha": 0.2, "linewidth": 0}
            ax.fill_between(curves.places, low, high, **options)
        ax.plot(curves.places, curves.middle(entry), linewidth=1.8, **look)
        looks.append((entry, look))
    name_colors(ax, sizes[-1], names[-1], styles)
    if 1 < rows <= len(STYLES):
        for row, style in enumerate(STYLES[:rows], start=1):
            ax.plot([], [], style, color="0.3", label=f"{' × '.join(names[:-1])} {row}")
    return looks
