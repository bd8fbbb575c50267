"""The neurons of a first layer in a plane of the inputs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from .._checks import check_numbers, shown
from ..errors import InputError
from ._networks import Layers
from ._style import BLUE, exponential_in_words, legend, ORANGE

SIGNS = (
    (1, "positive output weight", BLUE, BLUE),
    (-1, "negative output weight", ORANGE, "white"),
    (0, "neuron", BLUE, BLUE),
)
"""Of neurons: the sign, its name, and the colours of edge and face. Filled and open ones
can be told apart in grey."""
_ROOM = 1.12
"""How far a picture reaches beyond the largest neuron. Chosen."""
SQUARE = (5.0, 5.5)
"""Inches of a figure with one plane. Chosen."""
_LARGE, _SMALL = 6.0, 2.5
"""Sizes of markers for a few neurons and for thousands. Chosen."""


class Neurons(NamedTuple):
    """The neurons of a first layer, at some points of a path."""

    direction: np.ndarray  # (points, neurons, 2): of the incoming weights, in the plane
    share: np.ndarray  # (points, neurons): the norm of each over that of all
    sign: np.ndarray  # (points, neurons): of the output weight, 0 where there is no one
    titles: list[str]  # of each point: where it is, and the norm of all
    words: tuple[str, str]  # for the axes

    @classmethod
    def of(cls, layers: Layers, plane: Any, *, of_all: bool = False) -> "Neurons":
        """The neurons of the first layer.

        Arguments:
            plane: two directions in the space of inputs, or `None`.
            of_all: whether the plane is found from the weights of all points, and not of
                the last.

        Raises:
            InputError: if inputs span no plane, and for directions that do not.
        """
        first, *others = layers.matrices
        seen = first.reshape(-1, first.shape[2]) if of_all else first[-1]
        basis, words = _basis(seen, plane)
        outgoing = others[0] if others and others[0].shape[2] == first.shape[1] else None
        parts = [first] if outgoing is None else [first, outgoing.swapaxes(1, 2)]
        # Divided first, since squares of small numbers vanish.
        size = np.max([np.abs(part).max(axis=(1, 2)) for part in parts], axis=0)
        size = np.where(size > 0, size, 1.0)
        squares = [np.sum((part / size[:, None, None]) ** 2, axis=2) for part in parts]
        total = np.sqrt(np.sum(squares, axis=(0, 2)))
        with np.errstate(divide="ignore"):
            log_norm = np.log(total * size) + layers.log_unit
        share = np.sqrt(np.sum(squares, axis=0)) / np.where(total > 0, total, 1.0)[:, None]
        sign = np.zeros(share.shape)
        if outgoing is not None and len(layers.matrices) == 2 and outgoing.shape[1] == 1:
            sign = np.sign(outgoing[:, 0])
        norms = [rf"$\|w\|$ = {exponential_in_words(norm)}" for norm in log_norm]
        titles = [", ".join(filter(None, each)) for each in zip(layers.moments, norms)]
        return cls(_unit(first) @ basis.T, share, sign, titles, words)

    @property
    def reach(self) -> float:
        """How far from the origin a picture of all of them has to reach."""
        return _ROOM * float(self.share.max() or 1.0)

    def draw(self, ax: Axes, point: int) -> list[Line2D]:
        """Their directions, as far from the origin as their norms are large."""
        num = self.share.shape[1]
        size = float(np.interp(num, [50, 1000], [_LARGE, _SMALL]))
        for radius in (1.0, 0.5):
            edge = radius * self.reach / _ROOM
            ax.add_patch(Circle((0, 0), edge, fill=False, color="0.8", linewidth=0.7))
        ax.plot(0, 0, "+", color="0.6", markersize=8)
        options = {"marker": "o", "linestyle": "none", "markersize": size, "alpha": 0.8}
        drawn = [
            Line2D([], [], color=edge, markerfacecolor=face, label=words, **options)
            for _, words, edge, face in SIGNS
        ]
        for line, (sign, *_) in zip(drawn, SIGNS):
            if (self.sign == sign).any():
                ax.add_line(line)
        ax.set(xlim=(-self.reach, self.reach), ylim=(-self.reach, self.reach))
        ax.set_aspect("equal")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5))  # labels of small numbers are long
        return self.move(drawn, point)

    def move(self, drawn: list[Line2D], point: int) -> list[Line2D]:
        """Bring what `draw` gave to another point."""
        at = self.direction[point] * self.share[point][:, None]
        for line, (sign, *_) in zip(drawn, SIGNS):
            line.set_data(*at[self.sign[point] == sign].T)
        return drawn


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their norms; zeros stay."""
    size = np.abs(rows).max(axis=-1, keepdims=True)
    scaled = rows / np.where(size > 0, size, 1.0)
    norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / np.where(norm > 0, norm, 1.0)


def _basis(weights: np.ndarray, plane: Any) -> tuple[np.ndarray, tuple[str, str]]:
    """Two orthonormal directions, (2, inputs), and words for them."""
    num = weights.shape[1]
    if num < 2:
        expected = "a first layer with two inputs or more, which span a plane"
        raise InputError("results", f"one with {num} input", expected)
    if plane is not None:
        return _given(plane, num), ("the first direction", "the second direction")
    if num == 2:
        return np.eye(2), ("input $x_1$", "input $x_2$")
    scaled = weights / (np.abs(weights).max() or 1.0)
    directions = np.linalg.svd(scaled, full_matrices=len(scaled) < 2)[2][:2]
    largest = np.take_along_axis(
        directions, np.abs(directions).argmax(axis=1)[:, None], axis=1
    )
    names = ("singular direction $v_1$", "singular direction $v_2$")
    return directions * np.sign(largest), names


def _given(plane: Any, num: int) -> np.ndarray:
    expected = f"two independent directions, (2, {num})"
    given = check_numbers("plane", plane, expected, np.isfinite)
    if given.shape != (2, num):
        raise InputError("plane", f"shape {given.shape}", expected)
    first, second = given / np.maximum(np.abs(given).max(axis=1, keepdims=True), 1e-300)
    first = _unit(first)
    rest = second - (second @ first) * first
    if not first.any() or np.linalg.norm(rest) <= 1e-9 * np.linalg.norm(second):
        raise InputError("plane", shown(plane), expected)
    return np.stack([first, _unit(rest)])


def name_signs(ax: Axes) -> None:
    """Names for the signs of neurons, below the axes: neurons may be anywhere inside."""
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "borderaxespad": 0}
    legend(ax, ncols=2, fontsize=9, **below)


def label(axes: Sequence[Axes], words: tuple[str, str]) -> None:
    """Labels of axes, in words."""
    for ax in axes:
        ax.set_xlabel(rf"along {words[0]}, in units of $\|w\|$")
        ax.set_ylabel(rf"along {words[1]}, in units of $\|w\|$")
