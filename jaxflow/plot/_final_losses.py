"""The losses at which members ended."""

import math

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..results import decode, endings, Solution
from ._axes import dataset_of, new_if_none
from ._style import color_of, in_words, legend, spans_decades, with_symbol

_FEWEST, _MOST = 10, 60
"""Bars of a picture; between them as many as the root of twice the members. Chosen."""
_ALIKE = 1e-3
"""Losses that differ by a smaller part are shown in one place: a run ends within a
tolerance of the loss that it was asked for. Chosen."""
_SMALL = 0.03
"""The number is written over a bar that is such a part of the highest, or less. Chosen."""
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")


def final_losses(results: Solution | xarray.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the losses at which members ended, by what ended them.

    The scale is logarithmic where losses cover decades, and bars are of equal width on it.
    Losses that are no number, or are zero on a logarithmic scale, have no place there: the
    legend says how many there are.

    Arguments:
        results: a `Solution` or what `saddle_to_saddle` found, or the dataset of either.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for something without final losses.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
        >>> ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> solution = jf.gradient_flow(ensemble, task, stop=jf.RescaledTime(1.0))
        >>> jf.plot.final_losses(solution).get_ylabel()
        'members'
    """
    dataset = dataset_of("results", results, "a Solution, or its dataset", ["final_loss"])
    losses = np.asarray(dataset["final_loss"].values, float)
    status = dataset["status"] if "status" in dataset else None
    ends = [("members", np.full(len(losses), True))]
    if status is not None and "flag_values" in status.attrs:
        ends = [(end.label, end.rows) for end in endings(decode(status))][::-1]
    known = np.isfinite(losses)
    is_log = spans_decades(losses[known])
    drawn = known & (losses > 0) if is_log else known
    ax = new_if_none(ax)
    number = min(_MOST, max(_FEWEST, math.ceil(math.sqrt(2 * drawn.sum()))))
    edges = _edges(losses[drawn], number, is_log)
    below = np.zeros(len(edges) - 1)
    for place, (words, rows) in enumerate(ends):
        heights = np.histogram(losses[drawn & rows], edges)[0]
        ax.bar(
            edges[:-1],
            heights,
            np.diff(edges),
            below,
            align="edge",
            color=color_of(place),
            edgecolor="white",
            linewidth=0.4,
            hatch=_HATCHES[place % len(_HATCHES)],
            label=f"{words}: {rows.sum():,}",
        )
        below = below + heights
    for at in np.flatnonzero((below > 0) & (below < _SMALL * below.max())):
        middle = (
            math.sqrt(edges[at] * edges[at + 1]) if is_log else edges[at : at + 2].mean()
        )
        note = {"ha": "center", "va": "bottom", "rotation": 90, "fontsize": 8}
        ax.annotate(f" {below[at]:.0f}", (middle, below[at]), **note)
    for left_out, words in ((~known, "no number"), (known & ~drawn, "zero")):
        if left_out.any():
            ax.plot([], [], " ", label=f"loss is {words}: {left_out.sum():,}")
    if is_log:
        ax.set_xscale("log")
    ax.set_ylim(0, 1.08 * max(below.max(), 1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(with_symbol(dataset, in_words(dataset, "final_loss"), "final_loss"))
    ax.set_ylabel("members")
    ax.grid(alpha=0.25, axis="y")
    ax.set_axisbelow(True)
    legend(ax)
    return ax


def _edges(losses: np.ndarray, number: int, is_log: bool) -> np.ndarray:
    """The edges of so many bars."""
    if not losses.size:
        return np.linspace(0, 1, number + 1)
    least, most = float(losses.min()), float(losses.max())
    if is_log:
        edges = np.geomspace(least, most, number + 1)
        edges[[0, -1]] = least, most  # whatever the logarithm rounds
        return edges
    if most - least <= _ALIKE * max(abs(least), abs(most)):
        middle, half = (least + most) / 2, 0.05 * max(abs(least), abs(most)) or 0.5
        # An odd number of bars, of which the middle one holds them all.
        return np.linspace(middle - half, middle + half, 2 * (number // 2) + 2)
    return np.linspace(least, most, number + 1)
