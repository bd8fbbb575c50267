"""The weights that pictures show: those of one member, at some points of its path."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import xarray

from .._checks import shown
from .._trained import split
from ..errors import InputError
from ..quantities import quantity
from ._along import over_of
from ._axes import dataset_of, numbers_of, row_of
from ._style import number_in_words

_USUAL = "weights"
_MOST = 600.0
"""Logarithms of norms up to here are undone within what floats can hold."""
_EXPECTED = 'a record of whole networks, as record={"weights": jf.weights} makes it'
_SYMBOLS = {
    "time": "time $t$",
    "rescaled_time": "rescaled time $s$",
    "log_time": r"time $\log t$",
    "log_norm": r"norm $\log \|w\|$",
    "clock": "step",
}


class Layers(NamedTuple):
    """The weight matrices of one member at some points, or of some at their ends."""

    matrices: list[np.ndarray]  # from input to output, each (points, rows, columns)
    log_unit: np.ndarray  # (points,): the natural logarithm of what they are multiples of
    moments: list[str]  # where the points are, as a formula
    member: str  # which member it is, in words; nothing of a single one


def last_layers(results: Any, name: Any, member: Any, *, or_all: bool = False) -> Layers:
    """Those at the end: of a result its final weights, of a dataset the last recorded.

    Arguments:
        name: of a record, whose last are wanted; `None` for the final weights of a result,
            and for the usual name of such a record in a dataset.
        or_all: whether all members are asked for where none is named.

    Raises:
        InputError: for what is neither, and for a dataset without such a record.
    """
    expected = "a Solution, or a dataset with " + _EXPECTED
    dataset = dataset_of("results", results, expected)
    rows = np.array([row_of(dataset, member)])
    if or_all and member is None:
        rows = np.arange(dataset.sizes["init"])
    if name is None and hasattr(type(results), "directions"):
        return _final(results, dataset, rows)
    arrays, reached = _recorded(dataset, name, rows)
    rows, arrays, reached = _with_points(rows, arrays, reached)
    last = reached.shape[1] - 1 - np.argmax(reached[:, ::-1], axis=1)
    ends = [array[np.arange(len(rows)), last] for array in arrays]
    moments = [""] * len(rows)  # of several members each has its own
    if len(rows) == 1:
        moments = _moments(dataset, int(rows[0]), last)
    return Layers(_matrices(ends), np.zeros(len(rows)), moments, _which(dataset, rows))


def layers_on_the_way(results: Any, name: Any, member: Any) -> Layers:
    """Those at all points that the member has come to.

    Raises:
        InputError: for what has no record of whole networks under this name.
    """
    expected = "a Solution, or its dataset, with " + _EXPECTED
    dataset = dataset_of("results", results, expected)
    rows = np.array([row_of(dataset, member)])
    arrays, reached = _recorded(dataset, name, rows)
    rows, arrays, reached = _with_points(rows, arrays, reached)
    points = np.flatnonzero(reached[0])
    matrices = _matrices([array[0, points] for array in arrays])
    moments = _moments(dataset, int(rows[0]), points)
    return Layers(matrices, np.zeros(len(points)), moments, _which(dataset, rows))


def _recorded(
    dataset: xarray.Dataset, name: Any, rows: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Arrays (members, points, …) of these members, and which points they have come to."""
    known = variables_of_networks(dataset)
    if name is None and _USUAL not in known:
        raise InputError("results", "a dataset without networks", _EXPECTED)
    if name is not None and (not isinstance(name, str) or name not in known):
        raise InputError("name", shown(name), _EXPECTED)
    some = dataset.isel(init=rows)
    names = known[_USUAL if name is None else name]
    arrays = [np.asarray(some[each].values, float) for each in names]
    known = [np.isfinite(a).reshape(*a.shape[:2], -1).all(axis=2) for a in arrays]
    return arrays, np.all(known, axis=0)


def variables_of_networks(dataset: xarray.Dataset) -> dict[str, list[str]]:
    """The variables that recorded networks consist of, by the name of the record."""
    about = dataset.attrs.get("jaxflow", {})
    records = about.get("records", {}) if isinstance(about, dict) else {}
    structures = records.get("structures", {})
    return {
        name: list(variables)
        for name, (_, variables) in structures.items()
        if all(variable in dataset for variable in variables)
    }


def _with_points(
    rows: np.ndarray, arrays: list[np.ndarray], reached: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Of all these those of members that have come to a point."""
    some = reached.any(axis=1)
    if not some.any():
        found = "one that has come to none of the points"
        raise InputError("member", found, "a member with one")
    return rows[some], [array[some] for array in arrays], reached[some]


def _final(result: Any, dataset: xarray.Dataset, rows: np.ndarray) -> Layers:
    """The weights `e^ρ v` of members, of which `e^ρ` may be beyond all floats."""
    some = result if result.is_single else result[rows]
    log_norm = np.asarray(some.log_norm, float).reshape(len(rows))
    log_unit = np.where(np.abs(log_norm) > _MOST, log_norm, 0.0)
    with np.errstate(invalid="ignore"):  # those of members that came to no number
        factor = np.exp(log_norm - log_unit)

    def scaled(leaf):
        array = np.asarray(leaf, float)
        array = array[None] if result.is_single else array
        return factor.reshape(-1, *[1] * (array.ndim - 1)) * array

    trained, rest = split(some.directions)
    plain = lambda a: np.asarray(a, float)[None] if result.is_single else np.asarray(a)
    others = jax.tree_util.tree_map(plain, eqx.filter(rest, eqx.is_inexact_array))
    both = eqx.combine(jax.tree_util.tree_map(scaled, trained), others)
    matrices = _matrices(jax.tree_util.tree_leaves(both))
    finite = np.all([np.isfinite(m).all(axis=(1, 2)) for m in matrices], axis=0)
    if not finite.any():
        expected = "a member whose weights are finite"
        raise InputError("member", "final weights that are NaN or infinite", expected)
    moments = ["at the end"] * int(finite.sum())
    matrices = [matrix[finite] for matrix in matrices]
    return Layers(matrices, log_unit[finite], moments, _which(dataset, rows[finite]))


def _matrices(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Weights as matrices, without vectors such as biases; kernels are flattened."""
    found = [a.reshape(*a.shape[:2], -1) for a in arrays if a.ndim > 2]
    if not found:
        raise InputError("results", "networks without a matrix of weights", "some with one")
    return found


def _which(dataset: xarray.Dataset, rows: np.ndarray) -> str:
    num = dataset.sizes["init"]
    if num == 1:
        return ""
    if len(rows) > 1:
        return f"{len(rows):,} members"
    return f"member {numbers_of(dataset)[rows[0]]} of {num:,}"


def _moments(dataset: xarray.Dataset, row: int, points: Any) -> list[str]:
    over = over_of(dataset)
    if over is None:
        return [f"point {point}" for point in points]
    grid = np.asarray(dataset[over].values, float)
    at = (grid if grid.ndim == 1 else grid[row])[np.asarray(points)]
    name = _SYMBOLS.get(over, quantity(over).meaning)
    return [f"{name} = {number_in_words(value)}" for value in at]
