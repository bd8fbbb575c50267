"""The path after the escape, in the limit δ → 0."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from ..saddles import LimitingPath
from ._axes import dataset_of, MOST_LINES, new_if_none
from ._style import color_of, legend


def limiting_path(found: LimitingPath | xarray.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw the loss along the limiting path of every KKT point, to the first saddle.

    Time zero is where the norm crosses `level`. Points mark the ends, and what is there.

    Arguments:
        found: what `limiting_path` found, or its dataset.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for something else.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        >>> first = (jnp.array([[1.0, 0.0]]),) * 2
        >>> point = eqx.tree_at(lambda n: n.factors, network, first)
        >>> task = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))
        >>> ax = jf.plot.limiting_path(jf.limiting_path(point, task))
        >>> ax.get_ylabel()
        'loss'
    """
    needed = ("time", "loss", "end_time", "end_loss", "kkt_value")
    dataset = dataset_of("found", found, "what limiting_path found", needed)
    ax = new_if_none(ax)
    for k in range(min(dataset.sizes["init"], MOST_LINES)):
        one, color = dataset.isel(init=k), color_of(k)
        label = f"N = {float(one['kkt_value']):.4g}"
        ax.plot(one["time"].values, one["loss"].values, color=color, label=label)
        ax.plot(float(one["end_time"]), float(one["end_loss"]), "o", color=color)
    ax.plot([], [], "o", color="0.3", label="end: the first saddle")
    ax.set_ylim(bottom=0)
    if np.any(np.isfinite(dataset["time"].values)):
        ax.set_xlim(left=0)
    ax.set_xlabel(r"time since $\|w\|$ crossed its level")
    ax.set_ylabel("loss")
    legend(ax)
    ax.grid(alpha=0.25)
    return ax
