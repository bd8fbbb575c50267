"""A heat map of one layer's weights, with neurons in order of their alignment."""

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .._checks import check_whole
from ..errors import InputError
from ..results import Solution
from ._axes import new_if_none
from ._networks import last_layers
from ._style import MAP

_TICKS = 9
"""Rows that are named by their cosines. Chosen."""


def weights(
    results: Solution | xarray.Dataset,
    name: str | None = None,
    *,
    layer: int = 1,
    member: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the weights of one layer as a heat map, its neurons sorted by alignment.

    Rows are the incoming weights of neurons, from the one that is best aligned with the
    leading right-singular direction `v₁` of the layer, at the top, to the one that points
    the other way; the cosine is written beside them. A layer of rank one is a picture of
    columns, all of one sign above the row where cosines change theirs.

    Arguments:
        results: a `Solution`, of which the final networks are drawn; or its dataset, with a
            record of whole networks, of which the last is.
        name: of a record of whole networks, of which the last is drawn; `"weights"` for a
            dataset if not given.
        layer: its number, from 1 at the input.
        member: the number of the member, as in the coordinate `init`; the first if not
            given.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for a dataset without such a record, and for a layer or member that is
            none.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((2, 9, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> solution = jf.gradient_flow(network, task, stop=jf.RescaledTime(1.0))
        >>> jf.plot.weights(solution, layer=2).get_xlabel()
        'input of the layer'
    """
    layer = check_whole("layer", layer)
    layers = last_layers(results, name, member)
    num = len(layers.matrices)
    if layer > num:
        raise InputError("layer", f"{layer}", f"a number from 1 to {num}")
    matrix = layers.matrices[layer - 1][-1]
    largest = np.abs(matrix).max() or 1.0
    scaled = matrix / largest
    _, values, directions = np.linalg.svd(scaled, full_matrices=False)
    along = scaled @ directions[0]
    along = along if along.sum() >= 0 else -along
    sizes = np.linalg.norm(scaled, axis=1)
    cosine = along / np.where(sizes > 0, sizes, 1.0)
    order = np.argsort(-cosine, kind="stable")
    ax = new_if_none(ax)
    # In a unit that is a power of ten: a scale may be too small for any float.
    log_largest = (np.log(largest) + float(layers.log_unit[-1])) / np.log(10)
    exponent = int(np.floor(log_largest)) if abs(log_largest) > 2 else 0
    size = 10 ** (log_largest - exponent)
    image = ax.imshow(
        size * scaled[order],
        cmap=MAP,
        vmin=-size,
        vmax=size,
        aspect="auto",
        interpolation="nearest",
        extent=(0.5, matrix.shape[1] + 0.5, len(order) - 0.5, -0.5),
    )
    unit = f", in units of $10^{{{exponent}}}$" if exponent else ""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, label=f"weight in $W_{layer}${unit}")
    rows = np.unique(np.linspace(0, len(order) - 1, _TICKS).round().astype(int))
    ax.set_yticks(rows, [_signed(cosine[order[row]]) for row in rows])
    ax.xaxis.set_major_locator(MaxNLocator(min(matrix.shape[1], 8), integer=True))
    ax.set_xlabel("input of the layer")
    ax.set_ylabel("neuron, by the cosine between its weights and $v_1$")
    rank = np.sum(values**2) / values[0] ** 2 if values[0] else np.nan
    parts = (layers.member, layers.moments[-1], f"stable rank {rank:.3g}")
    ax.set_title(", ".join(filter(None, parts)), fontsize=10)
    return ax


def _signed(value: float) -> str:
    """With a sign as wide as a plus."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
