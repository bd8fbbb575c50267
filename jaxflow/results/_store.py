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
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray
import zarr

from ..errors import StoreError
from ._structure import describe, rebuild

FORMAT = 1
FORMAT_ATTR = "jaxflow_format"
STRUCTURE_ATTR = "network_structure"
UNFINISHED_ATTR = "jaxflow_unfinished"
IDENTITY_ATTR = "jaxflow_run"
SINGLE = "single network"
"""In the identity of a run: whether its one member is a network without a leading axis."""
DIRECTIONS = "directions"
MEMBERS = "init"


def write(
    path: pathlib.Path, dataset: xarray.Dataset, directions: eqx.Module, *, overwrite: bool
) -> None:
    """Write a dataset and the directions beside it, in one piece or not at all."""
    if path.exists() and not overwrite:
        raise StoreError(f"{path} exists already: choose another name or overwrite=True.")
    parameters, structure = parameters_of(directions)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        attrs = {FORMAT_ATTR: FORMAT, STRUCTURE_ATTR: json.dumps(structure)}
        whole = unfinished / "store"
        _to_zarr(dataset.assign_attrs(attrs), whole, "w", None)
        _to_zarr(parameters, whole, "a", DIRECTIONS)
        if path.exists():
            os.rename(path, unfinished / "replaced")
        os.rename(whole, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


class Stored(NamedTuple):
    """What a store holds."""

    dataset: xarray.Dataset
    directions: Callable[[], eqx.Module]  # reads them


def read(path: pathlib.Path, network: eqx.Module | None, *, lazily: bool) -> Stored:
    """The dataset and the directions of a store.

    **Arguments:**

    - `path`: its folder.
    - `network`: of the same structure; `None` to rebuild it from its description.
    - `lazily`: whether to read arrays only when they are used.
    """
    if not path.is_dir():
        raise StoreError(f"There is no solution at {path}.")
    try:
        dataset = _opened(path, None, lazily)
        found = dataset.attrs.pop(FORMAT_ATTR, None)
        description = json.loads(dataset.attrs.pop(STRUCTURE_ATTR))
        unfinished = dataset.attrs.pop(UNFINISHED_ATTR, False)
        identity = dataset.attrs.pop(IDENTITY_ATTR, {})
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(f"{path} is not a whole solution: {error}") from error
    if found != FORMAT:
        raise StoreError(f"{path} has format {found}; this jaxflow reads {FORMAT}.")
    if unfinished:
        raise StoreError(
            f"{path} is the store of a run that has not finished: repeat the call that "
            "began it, and it goes on from there."
        )
    if identity and not lazily:
        _check_chunks(path)
    is_single = bool(identity.get(SINGLE))
    if is_single:
        dataset = dataset.isel({MEMBERS: 0}, drop=True)

    def directions() -> eqx.Module:
        try:
            parameters = _opened(path, DIRECTIONS, lazily)
            # A dataset gives variables in no order that can be relied on: use their names.
            arrays = {str(name): parameters[name].values for name in parameters}
        except (OSError, KeyError, ValueError) as error:
            raise StoreError(f"{path} is not a whole solution: {error}") from error
        if is_single:
            arrays = {name: values[0] for name, values in arrays.items()}
        return _rebuilt(path, arrays, description, network)

    if not lazily:
        whole = directions()
        return Stored(dataset, lambda: whole)
    return Stored(dataset, directions)


def _check_chunks(path) -> None:
    """A chunk that has gone would be read as NaN; runs write all of them."""
    for chunks in path.rglob("c"):
        if not (chunks.parent / "zarr.json").exists():
            raise StoreError(f"{path} is not a whole solution: {chunks.parent} is damaged.")
    root = zarr.open_group(path, mode="r")
    for group in (root, root[DIRECTIONS]):
        for name, array in group.arrays():  # pyright: ignore
            if array.nchunks_initialized != array.nchunks:
                raise StoreError(
                    f"{path} is not a whole solution: a part of {name} has gone."
                )


def _opened(path, group, lazily) -> xarray.Dataset:
    dataset = xarray.open_zarr(path, group=group, consolidated=False, chunks=None)
    if lazily:
        return dataset
    with dataset:
        return dataset.load()


def _rebuilt(path, values, description, network) -> eqx.Module:
    arrays = {name: jnp.asarray(array) for name, array in values.items()}

    def array(name):
        if name not in arrays:
            raise StoreError(f"{path} is not a whole solution: it has no {name}.")
        return arrays[name]

    if network is None:
        return rebuild(description, array)
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
    return eqx.combine(treedef.unflatten(ordered), structure)


def check_storable(network: eqx.Module) -> None:
    """Whether a file can hold networks like this one; a `StoreError` if not."""
    parameters_of(network)


def parameters_of(directions) -> tuple[xarray.Dataset, dict]:
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
