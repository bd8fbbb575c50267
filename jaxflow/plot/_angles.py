"""Neurons on the circle of angles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray
from jaxtyping import ArrayLike
from matplotlib.axes import Axes
from matplotlib.patches import Wedge

from ..results import Solution
from ._axes import MOST_LINES, new_if_none
from ._networks import last_layers
from ._plane import name_signs, Neurons, SIGNS

_SIZE = (5.0, 5.5)
"""Inches of a new figure. Chosen."""
_BINS = 72
"""Parts of the circle, of five degrees each. Chosen."""
_LONGEST = 0.75
"""The length of the longest bar, in radii of the circle. Chosen."""
_LARGEST = 600.0
"""The area of the disk of a neuron that has all of the norm, in square points. Chosen."""
_NAMED = (("0", 0), (r"$\pi/2$", 1), (r"$\pi$", 2), (r"$-\pi/2$", 3))


def angles(
    results: Solution | xarray.Dataset,
    name: str | None = None,
    *,
    member: int | None = None,
    plane: ArrayLike | Sequence[Sequence[Any]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the neurons of the first layer on the circle of their angles, at the end.

    Each neuron is a disk at the angle of its incoming weights in the plane of the inputs,
    whose area is its share of `‖w‖²`, outgoing weights included. The bar outside is the
    share of all neurons within five degrees, on average over members: their sum is one.
    Filled: neurons of a positive output weight; open or hatched: of a negative one, if the
    network has one hidden layer and one output.

    Arguments:
        results: a `Solution`, of which the final networks are drawn; or its dataset, with a
            record of whole networks, of which the last are.
        name: of a record of whole networks, of which the last is drawn; `"weights"` for a
            dataset if not given.
        member: the number of the member, as in the coordinate `init`; all of them if not
            given, with disks for the first 60.
        plane: two directions, (2, inputs), that span it. For more than two inputs, and if
            not given, those are the leading right-singular directions of the weights of all
            members that are drawn.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for a dataset without such a record, a member that is none, and a first
            layer with one input.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((2, 9, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> solution = jf.gradient_flow(network, task, stop=jf.RescaledTime(1.0))
        >>> jf.plot.angles(solution).get_aspect()
        1.0
    """
    layers = last_layers(results, name, member, or_all=True)
    shown = Neurons.of(layers, plane, of_all=True)
    ax = new_if_none(ax, _SIZE)
    round_ = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(round_), np.sin(round_), color="0.7", linewidth=0.8)
    seen = np.any(shown.direction != 0, axis=-1) & (shown.share > 0)
    angle = np.arctan2(shown.direction[..., 1], shown.direction[..., 0])
    longest = _draw_bars(ax, shown, angle, seen)
    for sign, _, edge, face in SIGNS:
        some = seen & (shown.sign == sign)
        some[MOST_LINES:] = False
        at = angle[some]
        ax.scatter(
            np.cos(at),
            np.sin(at),
            s=_LARGEST * shown.share[some] ** 2,
            edgecolors=edge,
            facecolors=face,
            alpha=0.6,
            zorder=3,
        )
    for words, quarter in _NAMED:
        at = quarter * np.pi / 2
        ax.text(0.82 * np.cos(at), 0.82 * np.sin(at), words, ha="center", va="center")
    reach = 1.1 + _LONGEST
    ax.update_datalim([(-reach, -reach), (reach, reach)])
    ax.set(xmargin=0, ymargin=0, xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")  # without a frame a box has no meaning
    ax.set_frame_on(False)
    words = f"angle in the plane of {shown.words[0]} and {shown.words[1]}"
    ax.set_xlabel(f"{words}\nlongest bar: {longest:.0%} of the neurons", fontsize=9)
    where = shown.titles[0] if len(shown.titles) == 1 else ""
    ax.set_title(", ".join(filter(None, [layers.member, where])), fontsize=10)
    name_signs(ax)
    return ax


def _draw_bars(ax: Axes, shown: Neurons, angle: np.ndarray, seen: np.ndarray) -> float:
    """How many neurons are at each angle, from the circle outwards: the largest share."""
    places = np.round(angle / (2 * np.pi) * _BINS).astype(int) % _BINS
    if not seen.any():
        return 0.0
    with_sign = [seen & (shown.sign == sign) for sign, *_ in SIGNS]
    counts = [np.bincount(places[some], minlength=_BINS) for some in with_sign]
    shares = [count / seen.sum() for count in counts]
    longest = np.sum(shares, axis=0).max()
    inner, width = np.full(_BINS, 1.1), 360 / _BINS
    for share, (_, words, edge, face) in zip(shares, SIGNS):
        drawn = {"edgecolor": edge, "facecolor": face, "linewidth": 0.6}
        drawn["hatch"] = "" if face == edge else "//////"
        length = _LONGEST * share / longest
        for place in np.flatnonzero(share):
            outer, at = inner[place] + length[place], place * width
            options = {"width": length[place], **drawn}
            half = 0.4 * width
            ax.add_patch(Wedge((0, 0), outer, at - half, at + half, **options))
        inner = inner + length
        if share.any():
            ax.scatter([], [], edgecolors=edge, facecolors=face, label=words)
    return float(longest)
