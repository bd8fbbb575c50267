"""Neurons in the plane of the inputs, at the end."""

from collections.abc import Sequence
from typing import Any

import xarray
from jaxtyping import ArrayLike
from matplotlib.axes import Axes

from ..results import Solution
from ._axes import new_if_none
from ._networks import last_layers
from ._plane import label, name_signs, Neurons, SQUARE


def neurons(
    results: Solution | xarray.Dataset,
    name: str | None = None,
    *,
    member: int | None = None,
    plane: ArrayLike | Sequence[Sequence[Any]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the neurons of the first layer in the plane of the inputs, at the end.

    Neuron `j` lies in the direction of its incoming weights `w_j`, as far from the origin
    as its norm `‖(w_j, a_j)‖` is large, outgoing weights `a_j` included, over the norm of
    all neurons together. Where neurons condense, they lie on a few rays. Filled: a positive
    output weight; open: a negative one, if the network has one hidden layer and one output.

    Arguments:
        results: a `Solution`, of which the final networks are drawn; or its dataset, with a
            record of whole networks, of which the last is.
        name: of a record of whole networks, of which the last is drawn; `"weights"` for a
            dataset if not given.
        member: the number of the member, as in the coordinate `init`; the first if not
            given.
        plane: two directions, (2, inputs), that span it. For more than two inputs, and if
            not given, those are the leading right-singular directions of the weights; what
            is drawn is the projection.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for a dataset without such a record, a member that is none, and a first
            layer with one input.

    Source:
        Maennel, Bousquet and Gelly, arXiv:1803.08367.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((2, 9, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> solution = jf.gradient_flow(network, task, stop=jf.RescaledTime(1.0))
        >>> jf.plot.neurons(solution).get_xlabel()
        'along input $x_1$, in units of $\\|w\\|$'
    """
    layers = last_layers(results, name, member)
    shown = Neurons.of(layers, plane)
    ax = new_if_none(ax, SQUARE)
    shown.draw(ax, -1)
    label([ax], shown.words)
    ax.set_title(", ".join(filter(None, [layers.member, shown.titles[-1]])), fontsize=10)
    name_signs(ax)
    return ax
