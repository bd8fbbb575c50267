"""Weights: stacked networks as arrays with names, and fields of results that hold them."""

import dataclasses
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
import xarray

from .._arrays import by_words, is_key, on_device, words_of
from .._trained import without_training
from ..errors import InputError, StoreError
from ._columns import joined
from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    Sheet,
)
from ._indexing import Given, Index, pick_networks, rows_of
from ._structure import describe, described_not_trained, rebuild, Trust

STRUCTURE_ATTR = "jaxflow_structure"
"""The attribute of a group of weights that describes the networks without their arrays."""

_TAKEN = ("init", "point", "rescaled_time", "log_norm", "log_time", "clock")
"""Coordinates of the dataset above, which a group of weights sees too."""


def weights_dataset(
    networks: Any, dimension: str | None, *, whole: bool = False
) -> xarray.Dataset:
    """The arrays of networks, named by their paths: `weights_0` for `.weights[0]`.

    Arguments:
        networks: a network, or stacked networks.
        dimension: the name of the leading axis of stacked networks.
        whole: whether to refuse parts without a name, such as a lambda. Without it they are
            marked as missing, and reading the networks needs one of the same structure.

    Returns:
        A dataset, with the structure of the networks in its attributes.

    Raises:
        StoreError: if `whole`, and a part has no name to import it by.
    """
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(networks, eqx.is_array))
    names = _names(path for path, _ in leaves)
    by_leaf = {id(leaf): name for name, (_, leaf) in zip(names, leaves)}
    variables = {
        name: _variable(name, leaf, dimension, jax.tree_util.keystr(path))
        for name, (path, leaf) in zip(names, leaves)
    }
    structure = json.dumps(
        describe(networks, lambda leaf: by_leaf.get(id(leaf)), whole=whole)
    )
    return xarray.Dataset(variables, attrs={STRUCTURE_ATTR: structure})


def leaf_names(tree: Any) -> list[str]:
    """Names for the arrays of a tree, in their order, as in `weights_dataset`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return _names(path for path, leaf in leaves if hasattr(leaf, "shape"))


def described(tree: Any) -> str | None:
    """The structure of a tree in a text; `None` if a part of it has no name in a file."""
    leaves = [x for x in jax.tree_util.tree_leaves(tree) if hasattr(x, "shape")]
    by_leaf = {id(x): name for x, name in zip(leaves, leaf_names(tree), strict=True)}
    try:
        return json.dumps(describe(tree, lambda leaf: by_leaf[id(leaf)], whole=True))
    except StoreError:
        return None


def check_storable(network: eqx.Module) -> None:
    """Whether a file can hold networks like this one; a `StoreError` if not."""
    weights_dataset(network, None)


def rebuilt(
    arrays: Mapping[str, np.ndarray],
    structure: str,
    network: eqx.Module | None,
    trust: Trust,
) -> Any:
    """The networks that `weights_dataset` wrote.

    Arguments:
        arrays: by their names.
        structure: the description in its attributes.
        network: of the same structure; `None` to rebuild it from the description.
        trust: modules whose code the description may name.

    Raises:
        StoreError: if an array is missing, or if the network does not fit.
    """
    moved = {name: on_device(array) for name, array in arrays.items()}
    _warn_of_narrowed(arrays, moved)

    def array(name: str) -> Any:
        if name not in moved:
            raise StoreError(f"it has no {name}")
        return moved[name]

    described = json.loads(structure)
    if network is None:
        return rebuild(described, array, trust)
    network = without_training(network, described_not_trained(described))
    arrays_of, rest = eqx.partition(network, eqx.is_array)
    leaves = jax.tree_util.tree_leaves_with_path(arrays_of)
    names = _names(path for path, _ in leaves)
    # The saved arrays may have one more axis, that of the members.
    wanted = {name: words_of(leaf).shape for name, (_, leaf) in zip(names, leaves)}
    fit = {
        name: stored.shape[stored.ndim - len(wanted.get(name, ())) :]
        for name, stored in moved.items()
    }
    if fit != wanted:
        found = {name: stored.shape for name, stored in moved.items()}
        raise StoreError(f"it holds parameters {found}, the given network {wanted}")
    treedef = jax.tree_util.tree_structure(arrays_of)
    read = [
        by_words(lambda _, name=name: array(name), leaf) if is_key(leaf) else array(name)
        for name, (_, leaf) in zip(names, leaves)
    ]
    return eqx.combine(treedef.unflatten(read), rest)


def _warn_of_narrowed(
    arrays: Mapping[str, np.ndarray], moved: Mapping[str, jax.Array]
) -> None:
    """Without double precision JAX makes single precision of it, and says nothing."""
    narrowed = [
        (array.dtype, moved[name].dtype)
        for name, array in arrays.items()
        if array.dtype != moved[name].dtype
    ]
    if narrowed:
        wide, narrow = narrowed[0]
        warnings.warn(
            f"The weights are stored as {wide} and are read as {narrow}, as JAX is set to "
            "32 bits here. To have them as they are, call "
            'jax.config.update("jax_enable_x64", True) first.',
            stacklevel=2,
        )


def _names(paths: Iterable[Any]) -> list[str]:
    """Names that a file can hold, one for each path, no two the same."""
    found: list[str] = []
    for path in paths:
        text = jax.tree_util.keystr(path)
        name = "_".join(re.findall(r"\w+", text)) or "array"
        while name in found or name in _TAKEN:
            name += "_"
        found.append(name)
    return found


def _variable(name: str, leaf: Any, dimension: str | None, path: str) -> xarray.Variable:
    stacked, words = dimension is not None, words_of(leaf)
    own = [f"{name}_axis_{axis}" for axis in range(words.ndim - stacked)]
    attrs = {"long_name": f"the network's {path}", "units": "1", "path": path}
    return xarray.Variable([dimension, *own] if stacked else own, words, attrs)


def join_networks(networks: Sequence[Any], owners: Sequence[AbstractOwner]) -> Any:
    """Stacked networks, one after the other.

    Raises:
        InputError: if they are of different structures.
    """
    partitioned = [eqx.partition(each, eqx.is_array) for each in networks]
    first, *others = partitioned
    for arrays, rest in others:
        alike = jax.tree_util.tree_structure(arrays) == jax.tree_util.tree_structure(
            first[0]
        )
        if not alike or not bool(eqx.tree_equal(rest, first[1])):
            raise InputError(
                "results", "networks of different structures", "networks that differ in "
                "their weights only"
            )  # fmt: skip

    def stacked(path, *leaves):
        arrays = [
            array[None] if owner.is_single else array
            for array, owner in zip(map(words_of, leaves), owners)
        ]
        return by_words(lambda _: joined(jax.tree_util.keystr(path), arrays, 0), leaves[0])

    parts = [arrays for arrays, _ in partitioned]
    return eqx.combine(jax.tree_util.tree_map_with_path(stacked, *parts), first[1])


@dataclasses.dataclass(frozen=True)
class _Networks(AbstractDeclaration):
    """Stacked networks."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return pick_networks(value, index)

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        return join_networks(values, owners)

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        dimension = None if owner.is_single else owner.dimension
        sheet.groups[name] = lambda: xarray.DataTree(weights_dataset(value, dimension))

    def read(self, name: str, source: AbstractSource) -> Any:
        return source.networks(name)()


@dataclasses.dataclass(frozen=True)
class _Reader(AbstractDeclaration):
    """A function without arguments that gives stacked networks."""

    group: str  # and the attribute of the result under which they are kept once read

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return rows_of(value, index)

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        networks = [getattr(owner, self.group) for owner in owners]
        return Given(join_networks(networks, owners))

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        dimension = None if owner.is_single else owner.dimension
        sheet.groups[self.group] = lambda: xarray.DataTree(
            weights_dataset(getattr(owner, self.group), dimension)
        )

    def read(self, name: str, source: AbstractSource) -> Callable[[], Any]:
        return source.networks(self.group)


def stacked_networks() -> Any:
    """Declare a field of stacked networks; the field's name is that of their group."""
    return declared(_Networks())


def reader(group: str) -> Any:
    """Declare a field that is a function without arguments, giving stacked networks.

    Arguments:
        group: the name of their group and of the attribute of the result that has them.
    """
    return declared(_Reader(group))
