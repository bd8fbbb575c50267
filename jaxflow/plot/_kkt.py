"""KKT points, and which initializations flow to each."""

import math

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .._checks import check_positive
from ..errors import InputError
from ..kkt import KKTPoints
from ..kkt._points import NOT_CONVERGED, ZERO_TYPE
from ._axes import dataset_of, new_if_none
from ._style import BLUE, colors_of, legend, spans_decades

_MOST_NAMED = 8
"""Points that the legend of `stable_sets` names. Chosen."""


def kkt_points(points: KKTPoints | xarray.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw the value `N` of every KKT point against the share of the sphere it attracts.

    Bars are Wilson's 95% intervals. Filled: second-order points; open: points with ascent
    directions. Disks have rank one in every layer, squares have not.

    Arguments:
        points: of `find_kkt`, or their dataset.
        ax: matplotlib axes, new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for something else.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(3), jax.numpy.array([3.0, 0.0, 4.0]))
        >>> found = jf.find_kkt(jf.sample_ensemble(network, 4, key=jax.random.key(1)), task)
        >>> jf.plot.kkt_points(found).get_xlabel()
        'share of the sphere that flows there'
    """
    names = ("share", "value", "share_low", "share_high", "rank_one", "index")
    dataset = dataset_of("points", points, "what find_kkt found", names)
    share, value, low, high, of_rank_one, index = (dataset[n].values for n in names)
    ax = new_if_none(ax)
    for rank_one, marker in ((True, "o"), (False, "s")):
        for stable, fill in ((True, BLUE), (False, "white")):
            chosen = (of_rank_one == rank_one) & ((index <= 0) == stable)
            if not chosen.any():
                continue
            ax.errorbar(
                share[chosen],
                value[chosen],
                xerr=[(share - low)[chosen], (high - share)[chosen]],
                fmt=marker,
                color=BLUE,
                markerfacecolor=fill,
                elinewidth=1,
                capsize=2,
                label=("rank one" if rank_one else "higher rank")
                + ("" if stable else ", with ascent directions"),
            )
    if spans_decades(np.append(low, high), 1.0):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.4g}%"))
    if len(value) and value.max() > 30 * value.min():
        ax.set_yscale("log")
    ax.set_xlabel("share of the sphere that flows there")
    ax.set_ylabel("value $N(w)$")
    num_members = dataset.sizes["init"]
    found = f"{len(value)} KKT point{'s' * (len(value) != 1)}"
    ax.set_title(f"{found} from {num_members:,} initializations")
    legend(ax, edgecolor="0.7")  # its markers are none of the points
    ax.grid(alpha=0.25)
    return ax


def stable_sets(
    points: KKTPoints | xarray.Dataset, *, extent: float = 1.0, ax: Axes | None = None
) -> Axes:
    """Draw which KKT point every initialization of a plane flows to.

    Arguments:
        points: what `find_kkt` gives for a `slice_ensemble`, or its dataset.
        extent: that of the ensemble.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes. Colors run through the points, best first; white goes to zero, grey did
        not converge.

    Raises:
        InputError: if the number of members is not a square, and for something else than
            KKT points.

    Examples:
        >>> import jax, jaxflow as jf
        >>> c, p, q = (jf.DiagonalLinear(2, 2, key=jax.random.key(k)) for k in range(3))
        >>> plane = jf.slice_ensemble(c, p, q, extent=1.0, resolution=4)
        >>> found = jf.find_kkt(plane, jf.Task(jax.numpy.eye(2), jax.numpy.ones(2)))
        >>> jf.plot.stable_sets(found).get_xlabel()
        'a'
    """
    dataset = dataset_of("points", points, "what find_kkt found", ("value", "end"))
    extent = check_positive("extent", extent)
    value, ends = dataset["value"].values, dataset["end"].values
    side = math.isqrt(len(ends))
    if side**2 != len(ends):
        raise InputError("points", f"{len(ends)} members", "a square number")
    ax = new_if_none(ax)
    colors = np.array([to_rgb(color) for color in colors_of(len(value))]).reshape(-1, 3)
    colors = np.concatenate([colors, np.ones((1, 3))])  # if there is no point at all
    picture = colors[np.maximum(ends, 0) % len(colors)]
    picture[ends == ZERO_TYPE] = 1.0
    picture[ends == NOT_CONVERGED] = 0.5
    limits = (-extent, extent, -extent, extent)
    ax.imshow(picture.reshape(side, side, 3), origin="lower", extent=limits)
    places = np.linspace(-extent, extent, side + 1)
    ax.add_collection(_boundaries(ends.reshape(side, side), places))
    # The best, and the last where there are more than have a name.
    named = list(zip(colors, value))
    for color, height in named if len(named) <= _MOST_NAMED else named[: _MOST_NAMED - 1]:
        ax.plot([], [], "s", color=color, label=f"{height:.4g}")
    if len(named) > _MOST_NAMED:
        color, height = named[-1]
        label = f"… {height:.4g}, {len(named)} in all"
        ax.plot([], [], "s", color=color, label=label)
    if np.any(ends == ZERO_TYPE):
        ax.plot([], [], "s", color="white", markeredgecolor="k", label="goes to zero")
    ax.legend(title="$N$", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.set_xlabel("a")
    ax.set_ylabel("b")
    ax.set_title("the KKT point that each start flows to")
    return ax


def _boundaries(ends: np.ndarray, places: np.ndarray) -> LineCollection:
    """Lines between cells of different points, which grey keeps where colours are alike."""
    rows, columns = np.nonzero(ends[1:] != ends[:-1])
    y = places[rows + 1]
    level = np.stack([places[columns], y, places[columns + 1], y], axis=1)
    rows, columns = np.nonzero(ends[:, 1:] != ends[:, :-1])
    x = places[columns + 1]
    upright = np.stack([x, places[rows], x, places[rows + 1]], axis=1)
    segments = np.concatenate([level, upright]).reshape(-1, 2, 2)
    return LineCollection(list(segments), colors="white", linewidths=0.8)
