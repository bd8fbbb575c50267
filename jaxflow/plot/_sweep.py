"""A column over one or two quantities that were swept."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import NullLocator

from .._checks import shown
from ..errors import InputError
from ._axes import new_if_none
from ._style import (
    BLUE,
    color_of,
    in_words,
    legend,
    MAP,
    number_in_words,
    set_off,
    spans_decades,
    with_symbol,
)

_EXPECTED = "a dataset with one or two dimensions besides init, which were swept"
_FACTOR = 10
"""Two values that differ by so much lie on a logarithmic axis. Chosen."""
_ALIKE, _AROUND = 1e-3, 0.05
"""Values that differ by a smaller part than the first are shown alike, in the middle of a
range of the second. Chosen: members end at a loss within a tolerance."""
_MOST_TICKS = 12
"""Values that an axis has room for. Chosen."""
_CHARACTERS = 40
"""Characters of all labels of an axis, beyond which some are left out. Chosen."""


def sweep(dataset: xarray.Dataset, name: str, *, ax: Axes | None = None) -> Axes:
    """Draw a column over what was swept: a line over one quantity, a heat map over two.

    Over one quantity each member is a point, and the line is their median. Over two what
    is drawn is the median over the members, the dimension `init`, where the column has
    one; members without a finite number count in no median, and a cell without any is left
    white. Cells lie around the values that were swept, on a logarithmic axis where these
    grow by a factor; words get places of equal width.

    Arguments:
        dataset: with one or two dimensions besides `init`, such as
            `xarray.concat([solution.dataset …], "depth")` of such, which have coordinates.
        name: of the column.
        ax: matplotlib axes; new ones if not given.

    Returns:
        The axes: the last of the dimensions runs along x.

    Raises:
        InputError: if the column is not there, holds no numbers, or has other dimensions
            besides `init` than one or two.

    Examples:
        >>> import numpy as np, xarray, jaxflow as jf
        >>> losses = np.random.default_rng(0).random((2, 3, 8))
        >>> dataset = xarray.Dataset(
        ...     {"final_loss": (("depth", "scale", "init"), losses)},
        ...     {"depth": [2, 3], "scale": [1e-3, 1e-2, 1e-1]},
        ... )
        >>> ax = jf.plot.sweep(dataset, "final_loss")
        >>> ax.get_xlabel(), ax.get_xscale()
        ('scale', 'log')
    """
    if not isinstance(dataset, xarray.Dataset):
        raise InputError("dataset", shown(dataset), _EXPECTED)
    columns = [str(column) for column in dataset.data_vars]
    if not isinstance(name, str) or name not in columns:
        raise InputError("name", shown(name), f"a column, one of {columns}")
    column = dataset[name]
    # Without a coordinate of its own a dimension has the places 0, 1, …
    dims = [str(dim) for dim in column.dims if dim != "init"]
    if len(dims) not in (1, 2):
        found = f"{name!r} over {dims or 'none'} besides init"
        raise InputError("dataset", found, f"{_EXPECTED}; choose of others by isel")
    if column.dtype.kind not in "iuf":
        raise InputError("name", f"{name!r} of {column.dtype}", "a column of numbers")
    swept = {dim: np.asarray(dataset[dim].values) for dim in dims}
    for dim, at in swept.items():
        if at.dtype.kind in "iuf" and not np.isfinite(at).all():
            raise InputError("dataset", f"NaN or infinity in {dim!r}", "finite numbers")
        if at.dtype.kind in "iuf" and len(at):
            order = np.argsort(at, kind="stable")
            column, swept[dim] = column.isel({dim: order}), at[order]
    values = np.asarray(column.transpose(*dims, ...).values, float)
    if not values.size:
        raise InputError("dataset", f"shape {values.shape}", "some values")
    if len(dims) == 1:
        return _over_one(dataset, name, dims[0], swept[dims[0]], values, new_if_none(ax))
    if "init" in column.dims:
        values = _median(values)
    vertical, horizontal = (_Axis.of(swept[dim]) for dim in dims)
    ax = new_if_none(ax)
    is_log = spans_decades(values) and bool((values[np.isfinite(values)] > 0).all())
    finite = values[np.isfinite(values)]
    limits = _apart(finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    mesh = ax.pcolormesh(
        horizontal.edges,
        vertical.edges,
        np.ma.masked_invalid(values),
        cmap=MAP,
        norm=LogNorm(*limits) if is_log else Normalize(*limits),
    )
    horizontal.show(ax.xaxis, ax.set_xscale)
    vertical.show(ax.yaxis, ax.set_yscale)
    ax.set_xlabel(with_symbol(dataset, in_words(dataset, dims[1]), dims[1]))
    ax.set_ylabel(with_symbol(dataset, in_words(dataset, dims[0]), dims[0]))
    figure = ax.get_figure(root=True)
    assert figure is not None
    words = with_symbol(dataset, in_words(dataset, name), name)
    over = ", median over members" if "init" in column.dims else ""
    figure.colorbar(mesh, ax=ax, label=words + over)
    return ax


def _apart(low: float, high: float) -> tuple[float, float]:
    """The limits of colours: values that differ by a hair have one colour."""
    size = max(abs(low), abs(high))
    if high - low > _ALIKE * size:
        return low, high
    half = _AROUND * size or 0.5
    return (low + high) / 2 - half, (low + high) / 2 + half


def _over_one(
    dataset: xarray.Dataset,
    name: str,
    dim: str,
    at: np.ndarray,
    values: np.ndarray,
    ax: Axes,
) -> Axes:
    """Members as points, and their median as a line, over one quantity."""
    axis = _Axis.of(at)
    middle = _median(values) if values.ndim > 1 else values
    each = values.reshape(len(at), -1)
    places = np.broadcast_to(axis.centers[:, None], each.shape)
    if each.shape[1] > 1:
        ax.plot(places.ravel(), each.ravel(), ".", color=BLUE, alpha=_faint(each), ms=4)
    label = "median over members" if each.shape[1] > 1 else None
    set_off(*ax.plot(axis.centers, middle, "o-", color=color_of(1), lw=2, label=label))
    finite = each[np.isfinite(each)]
    if spans_decades(finite) and bool((finite > 0).all()):
        ax.set_yscale("log")
    axis.show(ax.xaxis, ax.set_xscale)
    ax.set_xlabel(with_symbol(dataset, in_words(dataset, dim), dim))
    ax.set_ylabel(with_symbol(dataset, in_words(dataset, name), name))
    ax.grid(alpha=0.25)
    legend(ax)
    return ax


def _faint(values: np.ndarray) -> float:
    """How strongly points are drawn, so that many on one another can be told apart."""
    return float(np.clip(10 / values.shape[1], 0.05, 0.5))


def _median(values: np.ndarray) -> np.ndarray:
    """Over the last axis, of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    some = finite.any(axis=-1)
    known = np.where(finite, values, np.nan)
    known[~some] = 0.0
    return np.where(some, np.nanmedian(known, axis=-1), np.nan)


class _Axis(NamedTuple):
    """Where the cells of a dimension lie."""

    edges: np.ndarray
    centers: np.ndarray
    labels: list[str]
    is_log: bool

    @classmethod
    def of(cls, coordinate: np.ndarray) -> "_Axis":
        num = len(coordinate)
        if coordinate.dtype.kind not in "iuf":
            places = np.arange(num, dtype=float)
            edges = np.arange(num + 1) - 0.5
            return cls(edges, places, [str(word) for word in coordinate], False)
        values = np.asarray(coordinate, float)
        is_log = _grows_by_a_factor(values)
        at = np.log(values) if is_log else values
        steps = np.diff(at) if num > 1 else np.ones(1)
        middles = at[:-1] + steps[: num - 1] / 2
        edges = np.concatenate([[at[0] - steps[0] / 2], middles, [at[-1] + steps[-1] / 2]])
        edges = np.exp(edges) if is_log else edges
        return cls(edges, values, [number_in_words(value) for value in values], is_log)

    def show(self, axis: Any, set_scale: Callable[[str], None]) -> None:
        """Scale and ticks: the values themselves, where there is room."""
        if self.is_log:
            set_scale("log")
        if len(self.labels) > _MOST_TICKS and not self.is_log:
            return
        axis.set_ticks(self.centers, self._thinned())
        axis.set_minor_locator(NullLocator())

    def _thinned(self) -> list[str]:
        """Labels with room between them: of powers of ten, where these are some."""
        num, longest = len(self.labels), max(len(label) for label in self.labels)
        if num <= _MOST_TICKS and num * longest <= _CHARACTERS:
            return self.labels
        kept = range(0, num, -(-num * longest // _CHARACTERS))
        if self.is_log:
            exponents = np.log10(self.centers)
            tens = np.flatnonzero(np.abs(exponents - np.round(exponents)) < 1e-9)
            kept = tens.tolist() if 2 <= len(tens) < num else kept
        return [label if place in kept else "" for place, label in enumerate(self.labels)]


def _grows_by_a_factor(values: np.ndarray) -> bool:
    """Whether values are spread more evenly on a logarithmic scale."""
    if len(values) < 2 or values.min() <= 0:
        return False
    if len(values) == 2:
        return bool(values[1] >= _FACTOR * values[0])
    steps = np.diff(values), np.diff(np.log(values))
    plain, of_logarithms = (np.std(each) / np.mean(each) for each in steps)
    return bool(of_logarithms < plain)
