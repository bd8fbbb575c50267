"""Neurons in the plane of the inputs, at some moments."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray
from jaxtyping import ArrayLike
from matplotlib.axes import Axes

from .._checks import check_items
from ..errors import InputError
from ..results import Solution
from ._axes import check_axes, panels
from ._networks import layers_on_the_way
from ._plane import label, Neurons
from ._style import legend

_PANELS, _COLUMNS = 6, 3
"""Panels of a new figure. Chosen."""


def neurons_over_time(
    results: Solution | xarray.Dataset,
    name: str | None = None,
    *,
    member: int | None = None,
    plane: ArrayLike | Sequence[Sequence[Any]] | None = None,
    axes: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Draw the neurons of the first layer in the plane of the inputs, at some moments.

    One panel for each of so many of the points that were recorded, spread evenly over them,
    the first and the last included, each as `neurons` draws it: all in the same units, of
    the norm of all neurons at that moment, which the title gives.

    Arguments:
        results: a `Solution`, or its dataset, with a record of whole networks.
        name: of that record; `"weights"` if not given.
        member: the number of the member, as in the coordinate `init`; the first if not
            given.
        plane: two directions, (2, inputs), that span it. For more than two inputs, and if
            not given, those are the leading right-singular directions of the last weights.
        axes: matplotlib axes, not more than points; a new figure of up to six if not given.

    Returns:
        The axes.

    Raises:
        InputError: without such a record, for a member that is none or has come to no
            point, and for a first layer with one input.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((2, 9, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> solution = jf.gradient_flow(
        ...     network,
        ...     jf.Task(jax.numpy.eye(2), jax.numpy.ones(2)),
        ...     stop=jf.RescaledTime(1.0),
        ...     record={"weights": jf.weights},
        ...     record_at=[0.0, 0.5, 1.0],
        ... )
        >>> len(jf.plot.neurons_over_time(solution))
        3
    """
    layers = layers_on_the_way(results, name, member)
    shown = Neurons.of(layers, plane)
    num = len(shown.titles)
    own = axes is None
    if axes is None:
        axes = _new(min(num, _PANELS))
    axes = check_axes(axes, len(check_items("axes", axes, "matplotlib axes")))
    if not 1 <= len(axes) <= num:
        raise InputError("axes", f"{len(axes)} of them", f"1 to {num}, as there are points")
    points = np.linspace(0, num - 1, len(axes)).round().astype(int).tolist()
    for ax, point in zip(axes, points):
        shown.draw(ax, point)
        ax.set_title(shown.titles[point], fontsize=9)
    label(axes, shown.words)
    if own:
        for ax in axes:
            plt.setp([ax.xaxis.label, ax.yaxis.label], fontsize=9)
            ax.label_outer(remove_inner_ticks=True)
        handles, words = axes[0].get_legend_handles_labels()
        figure = axes[0].get_figure(root=True)
        assert figure is not None
        figure.suptitle(layers.member, fontsize=10)
        figure.set_layout_engine("constrained", h_pad=0.08)
        figure.legend(handles, words, loc="outside lower center", ncols=2, frameon=False)
    else:
        legend(axes[0], fontsize=8)
    return axes


def _new(num: int) -> list[Axes]:
    """So many axes of a new figure, with one unit for all."""
    columns = min(num, _COLUMNS)
    rows = -(-num // columns)
    size = (3.1 * columns + 0.4, 3.2 * rows + 0.6)
    axes = panels(rows, columns, size, sharex=True, sharey=True)
    for ax in axes[num:]:
        ax.remove()
    return axes[:num]
