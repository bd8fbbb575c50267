"""The weights of one network."""

from collections.abc import Sequence

import equinox as eqx
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..observables import layer_matrices, stable_rank
from ._axes import check_axes, panels
from ._style import MAP


def layers(network: eqx.Module, *, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the layers of one network as heat maps, dark below and light above zero.

    Arguments:
        network: one network.
        axes: one matplotlib axes for each layer, a new figure if not given.

    Returns:
        The axes.

    Raises:
        InputError: for an ensemble, and for another number of axes.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> len(jf.plot.layers(network))
        2
    """
    matrices = [np.asarray(matrix) for matrix in layer_matrices(network)]
    if axes is not None:
        axes = check_axes(axes, len(matrices))
    ranks = np.asarray(stable_rank(network))  # which knows an ensemble when it sees one
    if axes is None:
        columns = [max(matrix.shape[1], 3) for matrix in matrices]
        size = (min(2.2 + 0.22 * sum(columns), 14), 4.0)
        axes = panels(1, len(matrices), size, width_ratios=columns)
    for number, (ax, matrix, rank) in enumerate(zip(axes, matrices, ranks), start=1):
        size = np.abs(matrix).max() or 1.0
        image = ax.imshow(matrix, cmap=MAP, vmin=-size, vmax=size, aspect="auto")
        plt.colorbar(image, ax=ax, shrink=0.8)
        ax.set_title(f"$W_{number}$, stable rank {rank:.3g}", fontsize=10)
        ax.set_xlabel("input")
        for axis, size in zip((ax.yaxis, ax.xaxis), matrix.shape):
            axis.set_major_locator(MaxNLocator(min(size, 8), integer=True))
            if size == 1:
                axis.set_ticks([0])
    axes[0].set_ylabel("neuron")
    return axes
