"""What accuracy costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike
from matplotlib.axes import Axes

from .._checks import check_items, check_numbers, shown
from ..errors import InputError
from ._axes import new_if_none
from ._style import color_of, legend, style_of

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_EXPECTED = "a mapping from labels to (evaluations, errors), arrays of one length"


def work_precision(
    curves: Mapping[str, Sequence[ArrayLike | Sequence[Any]]], *, ax: Axes | None = None
) -> Axes:
    """Draw a work-precision diagram: evaluations against the error that they leave.

    Both scales are logarithmic; the better of two methods at an error is the lower one.
    Points of a curve are joined in the order of their evaluations.

    Arguments:
        curves: from the name of each method to two arrays (points,): the evaluations of the
            gradient, such as `solution.stats.num_vjps`, and the errors that came of them,
            all of them positive.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes.

    Raises:
        InputError: for something else.

    Source:
        Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, II.10.

    Examples:
        >>> import jaxflow as jf
        >>> work = {"Tsit5": ([60, 120, 240], [1e-3, 3e-5, 1e-6])}
        >>> jf.plot.work_precision(work).get_xlabel()
        'error'
    """
    if not isinstance(curves, Mapping) or not curves:
        raise InputError("curves", shown(curves), _EXPECTED)
    checked = {label: _checked(label, pair) for label, pair in curves.items()}
    ax = new_if_none(ax)
    for number, (label, (evaluations, errors)) in enumerate(checked.items()):
        order = np.argsort(evaluations, kind="stable")
        ax.plot(
            errors[order],
            evaluations[order],
            _MARKERS[number % len(_MARKERS)] + style_of(number),
            color=color_of(number),
            markersize=5,
            label=label,
        )
    ax.set(xscale="log", yscale="log", xlabel="error", ylabel="evaluations of the gradient")
    ax.grid(alpha=0.25)
    legend(ax)
    return ax


def _checked(label: str, pair: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(label, str):
        raise InputError("curves", f"a label {shown(label)}", _EXPECTED)
    items = check_items("curves", pair, _EXPECTED)
    if len(items) != 2:
        raise InputError("curves", f"{len(items)} arrays for {label!r}", _EXPECTED)
    positive = lambda x: np.isfinite(x) & (x > 0)
    words = f"positive numbers for {label!r}"
    evaluations, errors = (check_numbers("curves", each, words, positive) for each in items)
    if evaluations.ndim != 1 or evaluations.shape != errors.shape or not errors.size:
        found = f"shapes {evaluations.shape} and {errors.shape} for {label!r}"
        raise InputError("curves", found, _EXPECTED)
    return evaluations, errors
