"""A solution as an xarray dataset, and the fields of a solution from one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np
import xarray

from ._records import Records, Stats

if TYPE_CHECKING:
    from ._solution import Solution


class _Column(NamedTuple):
    """A final value: its name in the dataset, and what a reader should know of it."""

    name: str
    description: str
    units: str = "1"


_FINAL = {
    "log_norm": _Column(
        "final_log_norm", "natural logarithm of ‖w‖ (of ‖w‖/δ in the limit δ → 0)"
    ),
    "rescaled_time": _Column("final_rescaled_time", "s = δ^(L-2) t", "rescaled time"),
    "log_time": _Column("final_log_time", "natural logarithm of the physical time t"),
    "loss": _Column("final_loss", "loss, a sum over samples"),
    "scale": _Column("scale", "initialization scale δ: w(0) = δ w₀"),
    "blow_up_time": _Column(
        "blow_up_time", "T*, where the δ → 0 limit becomes infinite", "rescaled time"
    ),
}
_STATS = {
    "num_steps": _Column("num_steps", "attempted steps", "steps"),
    "num_accepted": _Column("num_accepted", "accepted steps", "steps"),
    "num_rejected": _Column("num_rejected", "rejected steps", "steps"),
    "num_vjps": _Column(
        "num_vjps", "vector-Jacobian products of the network", "evaluations"
    ),
    "num_stabilized": _Column(
        "num_stabilized", "accepted steps of a stabilized method", "steps"
    ),
    "num_power_iterations": _Column(
        "num_power_iterations",
        "vector-Jacobian products that went into spectral radii",
        "evaluations",
    ),
}
_OPTIONAL = ("blow_up_time", "num_vjps", "num_stabilized", "num_power_iterations")
_STATUS = "status"
_MEMBERS = "init"
_POINTS = "point"

RECORDED_OVER = {
    "rescaled_time": _Column("rescaled_time", "s = δ^(L-2) t", "rescaled time"),
    "log_norm": _Column("log_norm", "natural logarithm of the norm"),
    "log_time": _Column("log_time", "natural logarithm of the physical time t"),
    "clock": _Column("clock", "steps of the optimizer", "steps"),
}
"""What a grid can run over: names of quantities of a `Snapshot`."""

RESERVED = frozenset(
    [column.name for column in (*_FINAL.values(), *_STATS.values())]
    + [_STATUS, _MEMBERS, _POINTS, *RECORDED_OVER]
)
"""Names that a recorded function cannot have."""


def to_dataset(
    solution: "Solution", meanings: Sequence[str] | None = None
) -> xarray.Dataset:
    """Everything but the weights.

    **Arguments:** `meanings`, the statuses in the order of their codes; those that occur
    if not given.
    """
    dims = (_MEMBERS,) if solution.is_ensemble else ()
    variables: dict[str, Any] = {}
    for field, column in _FINAL.items():
        _put(variables, column, dims, getattr(solution, field))
    for field, column in _STATS.items():
        _put(variables, column, dims, getattr(solution.stats, field))
    names, codes = np.unique(solution.status, return_inverse=True)
    if meanings is not None:
        codes = np.array([meanings.index(name) for name in names.tolist()], int)[codes]
        names = meanings
    variables[_STATUS] = xarray.Variable(
        dims,
        codes.reshape(np.shape(solution.status)).astype(np.int8),
        {
            "description": "what ended the member; see flag_meanings",
            "flag_values": list(range(len(names))),
            "flag_meanings": " ".join(names),
        },
    )
    dataset = xarray.Dataset(variables, attrs=_plain(solution.attrs))
    dataset.attrs["kind"] = solution.kind
    if solution.is_ensemble:
        dataset = dataset.assign_coords({_MEMBERS: np.arange(len(solution.status))})
    if solution.records is not None:
        dataset = _with_records(dataset, solution.records, dims)
    return dataset


def from_dataset(dataset: xarray.Dataset) -> dict[str, Any]:
    """The fields of the solution that a dataset was made from, but its directions.

    What was recorded is read when it is asked for, if the dataset was opened lazily.

    **Raises:** `KeyError` if one is missing.
    """

    def values(columns):
        return {
            field: dataset[column.name].values
            for field, column in columns.items()
            if column.name in dataset or field not in _OPTIONAL
        }

    meanings = np.array(dataset[_STATUS].attrs["flag_meanings"].split(" "))
    attrs = dict(dataset.attrs)
    return dict(
        {"blow_up_time": None, **values(_FINAL)},
        kind=attrs.pop("kind"),
        status=np.asarray(meanings[dataset[_STATUS].values]),
        stats=Stats(**{"num_vjps": None, **values(_STATS)}),
        records=_records(dataset, attrs.pop("recorded", None)),
        attrs=attrs,
    )


def _put(variables, column, dims, values):
    if values is None:
        return
    attrs = {"description": column.description, "units": column.units}
    variables[column.name] = xarray.Variable(dims, values, attrs)


def _with_records(dataset, records, dims):
    column = RECORDED_OVER[records.over]
    attrs = {"description": column.description, "units": column.units}
    shared = records.grid.ndim == 1
    axis = column.name if shared else _POINTS
    grid_dims = (axis,) if shared else (*dims, axis)
    dataset = dataset.assign_coords(
        {column.name: xarray.Variable(grid_dims, records.grid, attrs)}
    )
    for name, values in records.values.items():
        dataset[name] = xarray.Variable(
            (*dims, axis, *records.dims[name]),
            values,
            {"description": f"recorded function {name!r}", "units": "1"},
        )
    dataset.attrs["recorded"] = json.dumps({"over": records.over, "dims": records.dims})
    return dataset


def _records(dataset, recorded):
    if recorded is None:
        return None
    described = json.loads(recorded)
    dims = {name: tuple(axes) for name, axes in described["dims"].items()}
    return Records(
        over=described["over"],
        grid=dataset[RECORDED_OVER[described["over"]].name].values,
        values=_Values(dataset, tuple(dims)),
        dims=dims,
    )


class _Values(Mapping[str, np.ndarray]):
    """Recorded values by name, read from a dataset when they are asked for."""

    def __init__(self, dataset: xarray.Dataset, names: tuple[str, ...]):
        self._dataset = dataset
        self._names = names

    def __getitem__(self, name):
        if name not in self._names:
            raise KeyError(name)
        return self._dataset[name].values

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as numbers, strings and lists of them, which every format can hold."""

    def plain(value):
        if isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if hasattr(value, "tolist"):  # of NumPy or JAX
            return plain(value.tolist())
        return str(value)

    return {str(name): plain(value) for name, value in attrs.items()}
