"""What files may name and Python users make themselves: points, and tables of data."""

import csv
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_dtype, check_whole, shown
from ..errors import InputError


def gaussian_points(
    num: int, dim: int, *, key: PRNGKeyArray, dtype=None
) -> Float[Array, "num dim"]:
    """Points with independent standard normal entries.

    Arguments:
        num: how many points.
        dim: their dimensions.
        key: a PRNG key.
        dtype: JAX's default float if not given.
    """
    num, dim = check_whole("num", num), check_whole("dim", dim)
    return jax.random.normal(key, (num, dim), check_dtype("dtype", dtype))


def read_table(path: pathlib.Path, columns: Sequence[str]) -> np.ndarray:
    """Columns of a table as (samples, columns); one that is an array itself as it is.

    Arguments:
        path: a `.npz`, whose columns are its arrays; a `.csv`, whose first line names
            them; or a Zarr store or group of arrays.
        columns: their names.

    Raises:
        InputError: if it cannot be read or lacks one of them.
    """
    suffix = path.suffix.lower()
    readers = {".npz": _npz, ".csv": _csv, ".zarr": _zarr}
    if suffix not in readers:
        raise InputError("file", f"{path}", f"a {', '.join(readers)} of data")
    try:
        found = readers[suffix](path, columns)
    except InputError:
        raise
    except Exception as error:  # whatever damaged files lead to
        raise InputError(
            "file", f"{path}, which cannot be read: {error}", "data"
        ) from error
    arrays = [found[name] for name in columns]
    if any(array.dtype.kind not in "biuf" for array in arrays):
        name = next(n for n, a in zip(columns, arrays) if a.dtype.kind not in "biuf")
        raise InputError(
            "columns", f"{name!r}, which holds no numbers", "columns of numbers"
        )
    if len(arrays) == 1:
        return arrays[0]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise InputError("columns", f"columns of {sorted(lengths)} samples", "one number")
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def digest_of(path: pathlib.Path) -> str:
    """The same for the same file, or folder of files; of nothing for what is not there."""
    found = hashlib.sha256()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            found.update(str(file.relative_to(path.parent)).encode() + b"\0")
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def _npz(path: pathlib.Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as found:
        _check_there(path, columns, found.files)
        return {name: found[name] for name in columns}


def _csv(path: pathlib.Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    names = [name.strip() for name in names]
    _check_there(path, columns, names)
    found = {}
    for name in columns:
        place = names.index(name)
        try:
            found[name] = np.array([float(row[place]) for row in rows if row])
        except (ValueError, IndexError) as error:
            what = f"{path}, column {name!r}: {error}"
            raise InputError("file", what, "a number in every line") from error
        if np.all(found[name] == np.round(found[name])) and not _has_point(rows, place):
            found[name] = found[name].astype(np.int64)
    return found


def _has_point(rows: Sequence[Sequence[str]], place: int) -> bool:
    """Whether a column is of decimal numbers, though they may be whole."""
    return any(set(row[place]) & set(".eE") for row in rows if row)


def _zarr(path: pathlib.Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    import zarr

    group: Any = zarr.open_group(path, mode="r")
    _check_there(path, columns, list(group.array_keys()))
    return {name: np.asarray(group[name]) for name in columns}


def _check_there(path: pathlib.Path, columns: Sequence[str], names: Sequence[str]) -> None:
    missing = next((name for name in columns if name not in names), None)
    if missing is not None:
        found = f"{missing!r}, which {path} has not"
        raise InputError("columns", found, f"of {', '.join(map(shown, names))}")
