"""What the pictures share: datasets, axes, and many members in one panel."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes

MOST_LINES = 60
"""Of more members than this the first are drawn."""


def dataset_of(results) -> xarray.Dataset:
    """That of a result, or a dataset itself, with the dimension `init` in any case."""
    dataset = getattr(results, "dataset", results)
    return dataset if "init" in dataset.dims else dataset.expand_dims("init")


def new_if_none(ax: Axes | None) -> Axes:
    """These axes, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


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
    color: str = "C0",
    style: str = "-",
) -> None:
    """A thin line for each member, and a thick one for what lies in their middle.

    **Arguments:** `x` and `y`, (members, points); `middle`, the x and y of the thick line.
    """
    for one, other in list(zip(x, y))[:MOST_LINES]:
        ax.plot(one, other, color=color, alpha=0.25, linewidth=0.6)
    ax.plot(*middle, style, color=color, linewidth=2, label="median")


def median(values: np.ndarray) -> np.ndarray:
    """The median over members, NaN where there is none."""
    known = np.isfinite(values).any(axis=0)
    return np.nanmedian(np.where(known, values, 0.0), axis=0) + np.where(known, 0.0, np.nan)
