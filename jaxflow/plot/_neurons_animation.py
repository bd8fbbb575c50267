"""Neurons in the plane of the inputs, as they move."""

from collections.abc import Sequence
from typing import Any

import xarray
from jaxtyping import ArrayLike
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes

from ..results import Solution
from ._axes import new_if_none
from ._networks import layers_on_the_way
from ._plane import label, name_signs, Neurons, SQUARE

_MILLISECONDS = 80
"""Between two frames. Chosen."""


def neurons_animation(
    results: Solution | xarray.Dataset,
    name: str | None = None,
    *,
    member: int | None = None,
    plane: ArrayLike | Sequence[Sequence[Any]] | None = None,
    ax: Axes | None = None,
) -> FuncAnimation:
    """Animate the neurons of the first layer in the plane of the inputs.

    A frame for every point that was recorded, each as `neurons` draws it. In a notebook
    `IPython.display.HTML(animation.to_jshtml())` shows it. matplotlib forgets an animation
    that has no name: keep what this gives until it is saved.

    Arguments:
        results: a `Solution`, or its dataset, with a record of whole networks.
        name: of that record; `"weights"` if not given.
        member: the number of the member, as in the coordinate `init`; the first if not
            given.
        plane: two directions, (2, inputs), that span it. For more than two inputs, and if
            not given, those are the leading right-singular directions of the last weights.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The animation.

    Raises:
        InputError: without such a record, for a member that is none or has come to no
            point, and for a first layer with one input.

    Examples:
        >>> import jax, jaxflow as jf, os, tempfile
        >>> network = jf.FeedForward((2, 9, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> solution = jf.gradient_flow(
        ...     network,
        ...     jf.Task(jax.numpy.eye(2), jax.numpy.ones(2)),
        ...     stop=jf.RescaledTime(1.0),
        ...     record={"weights": jf.weights},
        ...     record_at=[0.0, 0.5, 1.0],
        ... )
        >>> animation = jf.plot.neurons_animation(solution)
        >>> path = os.path.join(tempfile.mkdtemp(), "neurons.gif")
        >>> animation.save(path, writer="pillow", dpi=60)
        >>> os.path.exists(path)
        True
    """
    shown = Neurons.of(layers_on_the_way(results, name, member), plane)
    ax = new_if_none(ax, SQUARE)
    drawn = shown.draw(ax, 0)
    title = ax.set_title(shown.titles[0], fontsize=10)
    label([ax], shown.words)
    name_signs(ax)

    def show(point):
        title.set_text(shown.titles[point])
        return [*shown.move(drawn, point), title]

    figure = ax.get_figure(root=True)
    assert figure is not None
    return FuncAnimation(figure, show, len(shown.titles), interval=_MILLISECONDS)
