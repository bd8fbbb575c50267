"""Results for other programs: tables of members, and datasets as netCDF."""

import importlib.util
import json
import pathlib
from typing import Any

import xarray

from ..errors import InputError
from ..results import decode, MEMBERS
from ._outcome import Outcome


def export_csv(outcome: Outcome, path: pathlib.Path, records: bool) -> None:
    """A table with a line for each member, or each of its recorded points."""
    _table(outcome, records).to_csv(path, index=False)


def export_parquet(outcome: Outcome, path: pathlib.Path, records: bool) -> None:
    """The same as Parquet.

    Raises:
        InputError: without pyarrow.
    """
    _check_there("pyarrow", "--parquet")
    _table(outcome, records).to_parquet(path, index=False)


def export_netcdf(outcome: Outcome, path: pathlib.Path, records: bool) -> None:
    """The dataset; attributes that netCDF cannot hold as JSON.

    Raises:
        InputError: without h5netcdf.
    """
    _check_there("h5netcdf", "--netcdf")
    _check_there("h5py", "--netcdf")
    dataset = outcome.dataset.copy()
    dataset.attrs = {name: _plain(value) for name, value in dataset.attrs.items()}
    dataset.to_netcdf(path, engine="h5netcdf")


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) else json.dumps(value)


def _check_there(package: str, option: str) -> None:
    if importlib.util.find_spec(package) is None:
        found = f"no {package}, which it needs"
        raise InputError(option, found, 'pip install "jaxflow[export]"')


def _table(outcome: Outcome, records: bool) -> Any:
    """A data frame with a line for each member (KKT point, …), or each recorded point.

    Columns with further dimensions, such as one for each layer, are not in it.
    """
    dataset = outcome.dataset
    row = MEMBERS if outcome.result is None else type(outcome.result).dimension
    if row not in dataset.dims:
        dataset = dataset.expand_dims(row)
    first = _first_record(dataset)
    if records and first is None:
        raise InputError("--records", "a result without records", "one with some")
    lines = [*outcome.swept, row]
    if records:
        lines = [str(dim) for dim in dataset[first].dims[: len(lines) + 1]]
    names = [
        name
        for name, variable in dataset.variables.items()
        if name not in dataset.dims
        and set(variable.dims) <= set(lines)
        and lines[-1] in variable.dims
    ]
    names.sort(key=lambda name: (name != "status", "final" not in str(name), str(name)))
    if "status" in names:
        dataset = dataset.assign(status=(dataset["status"].dims, decode(dataset["status"])))
    return dataset[names].reset_coords().to_dataframe(dim_order=lines).reset_index()


def _first_record(dataset: xarray.Dataset) -> str | None:
    """The name of one of the recorded functions."""
    about = dataset.attrs.get("jaxflow", {})
    dims = about.get("records", {}).get("dims", {}) if isinstance(about, dict) else {}
    return next((name for name in dims if name in dataset), None)
