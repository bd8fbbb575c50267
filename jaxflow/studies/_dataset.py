"""One dataset of all settings of a study."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray

from ._schema import StudyTables
from ._sweep import Axis, label_of

_WEIGHTS = ("attribute",)


def names_of(axes: Sequence[Axis], taken: Sequence[str]) -> list[str]:
    """The dimension of each axis: the last part of its first key, or all of it."""
    lasts = [str(axis.keys[0][-1]) for axis in axes]
    return [
        last
        if lasts.count(last) == 1 and last not in taken
        else "_".join(str(part) for part in axis.keys[0])
        for last, axis in zip(lasts, axes)
    ]


def combined(axes: Sequence[Axis], datasets: Sequence[xarray.Dataset | None]) -> Any:
    """The datasets of all settings with a dimension for each axis of the sweep.

    What a setting that failed would have is NaN. Dimensions other than `init` may differ
    in length from setting to setting; what is not there is NaN too.

    Given the `datasets` in the order of the settings, `None` for those that failed.
    """
    there = [dataset for dataset in datasets if dataset is not None]
    if not there:
        return xarray.Dataset()
    if not axes:
        return there[0]
    swept = {str(key[-1]) for axis in axes for key in axis.keys}
    first = there[0]
    dims = names_of(axes, [str(n) for n in first.dims])
    plain = [None if d is None else _plain(d, swept | set(dims)) for d in datasets]
    numbers = [number for number, dataset in enumerate(plain) if dataset is not None]
    whole = xarray.concat(
        [dataset for dataset in plain if dataset is not None],
        xarray.Variable("setting", numbers),
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="override",
    )
    whole = whole.reindex(setting=np.arange(len(plain)))
    sizes = [len(axis) for axis in axes]
    unfolded = {}
    for name, variable in whole.variables.items():
        if variable.dims[:1] != ("setting",):
            unfolded[name] = variable
        elif name != "setting":
            values = variable.values.reshape(*sizes, *variable.shape[1:])
            unfolded[name] = xarray.Variable(
                (*dims, *variable.dims[1:]), values, variable.attrs
            )
    coordinates = {}
    for dim, axis in zip(dims, axes):
        for number, (key, values) in enumerate(zip(axis.keys, axis.values)):
            name = dim if number == 0 else _name(key, [*dims, *coordinates])
            labels = np.array([label_of(value) for value in values])
            about = {"long_name": ".".join(str(part) for part in key)}
            coordinates[name] = xarray.Variable((dim,), labels, about)
    data = {n: v for n, v in unfolded.items() if n not in whole.coords}
    kept = {n: v for n, v in unfolded.items() if n in whole.coords}
    return xarray.Dataset(data, {**kept, **coordinates}, whole.attrs)


def _name(key: Any, taken: Sequence[str]) -> str:
    last = str(key[-1])
    return last if last not in taken else "_".join(str(part) for part in key)


def _plain(dataset: xarray.Dataset, swept: set[str]) -> xarray.Dataset:
    """A dataset with members numbered from 0, and without what is swept."""
    dataset = dataset.load().drop_vars([n for n in dataset.variables if n in swept])
    for name in ("init", "point"):
        if name in dataset.dims:
            dataset = dataset.assign_coords({name: np.arange(dataset.sizes[name])})
    return dataset
