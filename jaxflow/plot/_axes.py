"""What the pictures share: datasets, axes, and many members in one panel."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import check_items, check_whole, shown
from ..errors import InputError
from ._style import BLUE, set_off

MOST_LINES = 60
"""Of more members than this the first are drawn."""


def dataset_of(
    argument: str, results: Any, expected: str, names: Iterable[str] = ()
) -> xarray.Dataset:
    """That of a result, or a dataset itself, with the dimension `init` in any case.

    Raises:
        InputError: for something else, and without one of these names.
    """
    dataset = None if isinstance(results, type) else getattr(results, "dataset", results)
    if not isinstance(dataset, xarray.Dataset):
        raise InputError(argument, shown(results), expected)
    for name in names:
        if name not in dataset:
            raise InputError(argument, f"a dataset without {name}", expected)
    return dataset if "init" in dataset.dims else dataset.expand_dims("init")


def check_axes(axes: Any, num: int) -> list[Axes]:
    """So many axes. Raises `InputError`."""
    expected = f"{num} matplotlib axes"
    given = check_items("axes", axes, expected)
    if not all(isinstance(ax, Axes) for ax in given):
        raise InputError("axes", shown(axes), expected)
    if len(given) != num:
        raise InputError("axes", f"{len(given)} of them", expected)
    return given


def rows_of(dataset: xarray.Dataset, members: Any) -> dict[int, int]:
    """Where members stand in a dataset, by their numbers. Raises `InputError`."""
    numbers = numbers_of(dataset)
    given = check_items("members", members, "numbers of members")
    rows = [_row("members", number, numbers) for number in given]
    return {int(numbers[row]): row for row in rows}


def row_of(dataset: xarray.Dataset, member: Any) -> int:
    """Where a member stands, by its number; the first if `None`. Raises `InputError`."""
    return 0 if member is None else _row("member", member, numbers_of(dataset))


def numbers_of(dataset: xarray.Dataset) -> np.ndarray:
    """The numbers of the members, as results give them."""
    return np.atleast_1d(dataset["init"].values)  # 0, 1, … where there is no coordinate


def _row(argument: str, number: Any, numbers: np.ndarray) -> int:
    wanted = check_whole(argument, number, least=0, most=2**63 - 1)
    rows = np.flatnonzero(numbers == wanted)
    if not rows.size:
        expected = f"the number of a member, from {numbers.min()} to {numbers.max()}"
        raise InputError(argument, f"{number}", expected)
    return int(rows[0])


def new_if_none(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """These axes, or those of a new figure, of this size. Raises `InputError`."""
    if ax is not None and not isinstance(ax, Axes):
        raise InputError("ax", shown(ax), "matplotlib axes")
    return plt.subplots(layout="constrained", figsize=size)[1] if ax is None else ax


def panels(rows: int, columns: int, size: tuple[float, float], **options) -> list[Axes]:
    """Axes of a new figure, row by row."""
    _, grid = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )
    return list(grid.ravel())


def draw_members(
    ax: Axes,
    x: np.ndarray | Sequence[np.ndarray],
    y: np.ndarray,
    middle: tuple[np.ndarray, np.ndarray],
    color: str = BLUE,
    style: str = "-",
) -> None:
    """A thin line for each member, and a thick one for what lies in their middle.

    Arguments:
        x: (members, points).
        y: (members, points).
        middle: the x and y of the thick line.
    """
    for one, other in list(zip(x, y))[:MOST_LINES]:
        ax.plot(one, other, color=color, alpha=0.25, linewidth=0.6)
    if len(y) > 1:
        set_off(*ax.plot(*middle, style, color=color, linewidth=2, label="median"))


def median(values: np.ndarray) -> np.ndarray:
    """The median over members, NaN where there is none."""
    known = np.isfinite(values).any(axis=0)
    return np.nanmedian(np.where(known, values, 0.0), axis=0) + np.where(known, 0.0, np.nan)
