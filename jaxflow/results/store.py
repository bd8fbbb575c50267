"""Solutions on disk, in Zarr.

    run.zarr/            the dataset: final values, records, attributes
    run.zarr/directions  the parameters of the networks, one array each

A store is written under another name and renamed when it is whole, so that a half-written
one is never taken for a solution.
"""

import json
import os
import pathlib
import shutil
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray

from ..errors import StoreError
from .structure import describe, rebuild

_FORMAT = 1
_FORMAT_ATTR = "jaxflow_format"
_STRUCTURE_ATTR = "network_structure"
_DIRECTIONS = "directions"


def write(
    path: pathlib.Path, dataset: xarray.Dataset, directions: eqx.Module, *, overwrite: bool
) -> None:
    """Write a dataset and the directions beside it, in one piece or not at all."""
    if path.exists() and not overwrite:
        raise StoreError(f"{path} exists already: choose another name or overwrite=True.")
    parameters, structure = _parameters(directions)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        attrs = {_FORMAT_ATTR: _FORMAT, _STRUCTURE_ATTR: json.dumps(structure)}
        whole = unfinished / "store"
        _to_zarr(dataset.assign_attrs(attrs), whole, "w", None)
        _to_zarr(parameters, whole, "a", _DIRECTIONS)
        if path.exists():
            os.rename(path, unfinished / "replaced")
        os.rename(whole, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read(
    path: pathlib.Path, network: eqx.Module | None
) -> tuple[xarray.Dataset, eqx.Module]:
    """The dataset and the directions of a store."""
    if not path.is_dir():
        raise StoreError(f"There is no solution at {path}.")
    try:
        with xarray.open_zarr(path, consolidated=False) as opened:
            dataset = opened.load()
        with xarray.open_zarr(path, group=_DIRECTIONS, consolidated=False) as opened:
            parameters = opened.load()
        found = dataset.attrs.pop(_FORMAT_ATTR, None)
        description = json.loads(dataset.attrs.pop(_STRUCTURE_ATTR))
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(f"{path} is not a whole solution: {error}") from error
    if found != _FORMAT:
        raise StoreError(f"{path} has format {found}; this jaxflow reads {_FORMAT}.")
    # A dataset gives back variables in no order that can be relied on: use their names.
    arrays = {str(name): jnp.asarray(parameters[name].values) for name in parameters}

    def array(name):
        if name not in arrays:
            raise StoreError(f"{path} is not a whole solution: it has no {name}.")
        return arrays[name]

    if network is None:
        return dataset, rebuild(description, array)
    _, structure = eqx.partition(network, eqx.is_array)
    leaves, treedef = jax.tree_util.tree_flatten(eqx.filter(network, eqx.is_array))
    ordered = [array(_array_name(i)) for i in range(len(arrays))]
    # The saved arrays may have one more axis, that of the members.
    found = [s.shape[s.ndim - leaf.ndim :] for s, leaf in zip(ordered, leaves)]
    if len(leaves) != len(ordered) or found != [leaf.shape for leaf in leaves]:
        raise StoreError(
            f"{path} holds parameters of shapes {[stored.shape for stored in ordered]}, "
            f"the given network {[leaf.shape for leaf in leaves]}."
        )
    return dataset, eqx.combine(treedef.unflatten(ordered), structure)


def _parameters(directions) -> tuple[xarray.Dataset, dict]:
    """The parameter arrays as a dataset, and the structure that refers to them."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(directions, eqx.is_array))
    names = {id(leaf): _array_name(i) for i, (_, leaf) in enumerate(leaves)}
    variables = {
        names[id(leaf)]: xarray.Variable(
            [f"{names[id(leaf)]}_axis_{axis}" for axis in range(leaf.ndim)],
            np.asarray(leaf),
            {"path": jax.tree_util.keystr(path)},
        )
        for path, leaf in leaves
    }
    return xarray.Dataset(variables), describe(directions, lambda leaf: names[id(leaf)])


def _array_name(index: int) -> str:
    return f"parameter_{index}"


def _to_zarr(dataset, path, mode, group):
    dataset.to_zarr(path, mode=mode, group=group, consolidated=False, zarr_format=3)
