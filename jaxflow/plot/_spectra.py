"""Spectra of layers over time."""

import itertools
from collections.abc import Sequence

import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import shown
from ..errors import InputError
from ..results import Solution
from ._along import Along, draw_share, over_of
from ._axes import check_axes, dataset_of, panels
from ._curves import Curves
from ._networks import variables_of_networks
from ._style import (
    colors_of,
    legend,
    name_colors,
    spans_decades,
    styles_of,
    with_symbol,
)


def spectra(
    results: Solution | xarray.Dataset,
    name: str | None = None,
    *,
    against: str | xarray.DataArray | np.ndarray | None = None,
    axes: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Draw the singular values of each layer over time: medians over members, and bands.

    One panel for each layer and one line for each singular value, with the band that holds
    80% of the members. Values below the rounding error of the largest at the same moment,
    `ε σ₁`, are drawn there. Members that have ended keep their last values, and the share
    that still runs is the height of the grey strip below.

    Arguments:
        results: a `Solution`, or its dataset, with a record such as
            `record={"singular_values": jf.singular_values}`.
        name: of that record, which has two axes behind the points: one of layers (or of
            matrices of any kind), and one of values; `"singular_values"` if not given.
        against: what to draw it against, as for `recorded`.
        axes: one matplotlib axes for each layer, a new figure if not given.

    Returns:
        The axes.

    Raises:
        InputError: without such a record, for another number of axes, and if what to draw
            against is not known.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 3, 2), jf.LeakyReLU(1.0), key=jax.random.key(0))
        >>> x = jax.numpy.eye(3)
        >>> solution = jf.gradient_flow(
        ...     network,
        ...     jf.Task(x, x[:, :2]),
        ...     stop=jf.RescaledTime(1.0),
        ...     record={"singular_values": jf.singular_values},
        ...     record_at=20,
        ... )
        >>> [ax.get_title() for ax in jf.plot.spectra(solution)]
        ['layer 1', 'layer 2']
    """
    dataset = dataset_of("results", results, "a Solution, or its dataset")
    expected = 'a record such as record={"singular_values": jf.singular_values}'
    argument, found = "name", shown(name)
    if name is None:
        argument, found, name = "results", "a dataset without spectra", "singular_values"
    networks = itertools.chain(*variables_of_networks(dataset).values())
    known = isinstance(name, str) and name in dataset and name not in networks
    if not known or dataset[name].ndim != 4 or over_of(dataset) is None:
        raise InputError(argument, found, expected)
    dtype = dataset[name].dtype
    values = np.asarray(dataset[name].values, float)
    along = Along.of(dataset, against, values.shape)
    with np.errstate(invalid="ignore"):
        largest = np.max(np.where(np.isnan(values), -np.inf, values), axis=-1)
        least = np.finfo(dtype).eps * largest[..., None]
        values = np.where(np.isnan(values), np.nan, np.maximum(values, least))
    num = values.shape[2]
    if axes is None:
        axes = panels(1, num, (min(1.0 + 3.2 * num, 14), 3.6), sharex=True, sharey=True)
    axes = check_axes(axes, num)
    y_log = spans_decades(values)
    most, styles = values.shape[3], styles_of(values.shape[3])
    for layer, ax in enumerate(axes):
        entries = values[:, :, layer]
        entries = np.where(entries > 0, entries, np.nan) if y_log else entries
        curves = Curves.of(along.x, entries, along.is_log, y_log)
        for entry, color in enumerate(colors_of(most)):
            if not np.isfinite(entries[..., entry]).any():
                continue
            if curves.num > 1:
                low, high = curves.band(entry)
                options = {"color": color, "alpha": 0.2, "linewidth": 0}
                ax.fill_between(curves.places, low, high, **options)
            look = {"color": color, "linestyle": styles[entry], "linewidth": 1.5}
            ax.plot(curves.places, curves.middle(entry), **look)
        along.show(ax)
        if y_log:
            ax.set_yscale("log")
        draw_share(ax, curves)
        ax.set_title(f"layer {layer + 1}")
        ax.grid(alpha=0.25)
    axes[0].set_ylabel(with_symbol(dataset, "singular value", name))
    name_colors(axes[-1], most, "singular value", styles)
    legend(axes[-1], fontsize=8)
    return axes
