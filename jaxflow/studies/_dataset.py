"""One dataset of all settings of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from ..results import MEMBERS
from ._sweep import Axis, label_of

_SETTING = "setting"
_OWN_SCALE = "scale"
"""The column that says what a sweep over δ says too."""
_WORDS = {"initialization.scale": "initialization scale δ"}
"""What pictures write at an axis, where the key is not what the field says."""


def names_of(axes: Sequence[Axis], dataset: xarray.Dataset) -> list[list[str]]:
    """The coordinates of each axis, of which the first is its dimension: the last part of
    a key, or all of it where another key or a column of the dataset has that name."""
    lasts = [str(key[-1]) for axis in axes for key in axis.keys]
    taken = {str(name) for name in (*dataset.variables, *dataset.dims)} - {_OWN_SCALE}
    name = lambda key: (
        str(key[-1])
        if lasts.count(str(key[-1])) == 1 and str(key[-1]) not in taken
        else "_".join(str(part) for part in key)
    )
    return [[name(key) for key in axis.keys] for axis in axes]


def combined(
    axes: Sequence[Axis], datasets: Sequence[xarray.Dataset | None]
) -> xarray.Dataset:
    """The datasets of all settings with a dimension for each axis of the sweep.

    Dimensions other than those may differ in length from setting to setting. What is not
    there, and what a setting that failed would have, is NaN; zero where whole numbers are,
    of which the status of nobody is one.

    Given the `datasets` in the order of the settings, `None` for those that failed.
    """
    there = [dataset for dataset in datasets if dataset is not None]
    if not axes:
        return there[0]
    names = names_of(axes, there[0])
    dims, own = [each[0] for each in names], {name for each in names for name in each}
    plain = [None if d is None else _alike(d, own) for d in datasets]
    coordinates = {n for d in there for n in map(str, d.coords) if n not in d.dims} - own
    folded = _stacked(plain)
    sizes = [len(axis) for axis in axes]
    data = {}
    for name, variable in folded.variables.items():
        if variable.dims[:1] != (_SETTING,):
            data[name] = variable
        elif name != _SETTING:
            values = variable.values.reshape(*sizes, *variable.shape[1:])
            data[name] = xarray.Variable(
                (*dims, *variable.dims[1:]), values, variable.attrs
            )
    whole = xarray.Dataset(data, _coordinates(axes, names), _agreeing_attrs(there))
    return whole.set_coords([name for name in coordinates if name in whole])


def _stacked(datasets: Sequence[xarray.Dataset | None]) -> xarray.Dataset:
    """All with a leading dimension, also for those that are not there."""
    places = [place for place, dataset in enumerate(datasets) if dataset is not None]
    given = [dataset for dataset in datasets if dataset is not None]
    there = _aligned(given)
    numbered = {name for each in there for name in each.coords}
    numbered -= {name for each in given for name in each.coords}
    fills = {
        str(name): _fill(variable.dtype)
        for dataset in there
        for name, variable in dataset.variables.items()
        if name not in dataset.dims
    }
    found = xarray.concat(
        there,
        xarray.Variable(_SETTING, places),
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="override",
        fill_value=fills,
    )
    found = found.reindex({_SETTING: np.arange(len(datasets))}, fill_value=fills)
    return found.drop_vars(numbered)


def _aligned(datasets: Sequence[xarray.Dataset]) -> Sequence[xarray.Dataset]:
    """With numbers along dimensions that differ in length and have no coordinates, such as
    samples, so that the shorter ones can be filled up."""
    lengths: dict[str, set[int]] = {}
    for dataset in datasets:
        for name, size in dataset.sizes.items():
            lengths.setdefault(str(name), set()).add(size)
    return [
        dataset.assign_coords(
            {
                name: np.arange(dataset.sizes[name])
                for name, sizes in lengths.items()
                if len(sizes) > 1 and name in dataset.dims and name not in dataset.coords
            }
        )
        for dataset in datasets
    ]


def _fill(dtype: np.dtype) -> Any:
    """What stands where nothing is."""
    kinds = {"f": np.nan, "c": np.nan, "b": False, "i": 0, "u": 0}
    return kinds.get(dtype.kind, "")


def _alike(dataset: xarray.Dataset, swept: set[str]) -> xarray.Dataset:
    """A dataset without what is swept, with members by their number in each setting, whose
    coordinates are columns like others."""
    dataset = dataset.load().drop_vars([n for n in dataset.variables if n in swept])
    if MEMBERS in dataset.dims:
        dataset = dataset.assign_coords({MEMBERS: np.arange(dataset.sizes[MEMBERS])})
    return dataset.reset_coords([n for n in dataset.coords if n not in dataset.dims])


def _coordinates(axes: Sequence[Axis], names: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The values of all keys that are swept, those that change together along one
    dimension."""
    found: dict[str, Any] = {}
    for (dim, *_), axis, own in zip(names, axes, names):
        for name, key, values in zip(own, axis.keys, axis.values):
            dotted = ".".join(str(part) for part in key)
            about = {"long_name": _WORDS.get(dotted, dotted)}
            labels = np.array([label_of(value) for value in values])
            found[name] = xarray.Variable((dim,), labels, about)
    return found


def _agreeing_attrs(datasets: Sequence[xarray.Dataset]) -> dict[str, Any]:
    return _agreeing([dataset.attrs for dataset in datasets])


def _agreeing(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of these say, and in what of them all agree."""
    found = {}
    for name, value in values[0].items():
        each = [other.get(name) for other in values]
        if all(isinstance(one, Mapping) for one in each):
            found[name] = _agreeing(each)  # pyright: ignore
        elif all(one == value for one in each):
            found[name] = value
    return found
