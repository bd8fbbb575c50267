"""Results on disk, in Zarr.

    run.zarr/            the dataset: columns, records, attributes
    run.zarr/directions  the weights of the networks, one array each
    run.zarr/jaxflow     the manifest, which says what every file has to be

A store is the tree of a result. It is written under another name and renamed when it is
whole, so that a half-written one is never taken for a result.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray
import zarr

from ..errors import InputError, StoreError
from ..stores import (
    check_own,
    CheckedStore,
    move_to,
    open_for_reading,
    put_back,
    replace,
    standing,
    unfinished,
)
from ._declarations import ABOUT, AbstractSource, MEMBERS
from ._indexing import Given, Index
from ._kept_lanes import GOES_ON_ATTR
from ._settings import is_reserved
from ._structure import rebuild, Trust
from ._weights import rebuilt, STRUCTURE_ATTR

UNFINISHED_ATTR = "jaxflow_unfinished"
IDENTITY_ATTR = "jaxflow_run"
SINGLE = "single network"
"""In the identity of a run: whether its one member is a network without a leading axis."""
DIRECTIONS = "directions"
SIMULATION = "simulation"
"""The group that holds what the run was, so that it can be run again."""

_ROOM, _DENSEST = 2**28, 1000
"""A result may take the first in memory, or so many times what its files have. Chosen:
weights hardly compress, and a column of one value compresses ten thousand times."""


def write(path: pathlib.Path, tree: xarray.DataTree, *, overwrite: bool) -> None:
    """Write a tree in one piece or not at all."""
    try:
        put_back(path)
        if os.path.lexists(path):
            if not overwrite:
                raise StoreError(
                    f"{path} exists already: choose another name or overwrite=True."
                )
            check_own(path)
        with unfinished(path, {}) as (store, _):
            for node in tree.subtree:
                write_group(store, node.path, _alone(node))
            store.commit()
            if move_to(path, store):
                return
            if not overwrite:
                raise StoreError(f"{path} has come into being meanwhile.")
            replace(path, store)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. What was there before "
            "is as it was."
        ) from error


def _alone(node: xarray.DataTree) -> xarray.Dataset:
    """The dataset of a group, with the coordinates that it has from groups above.

    So that it has them when it is opened alone.
    """
    own = node.to_dataset(inherit=False)
    above = {
        name: coordinate
        for name, coordinate in node.coords.items()
        if name in own.dims and name not in own.variables
    }
    return own.assign_coords(above)


def write_group(store: CheckedStore, group: str, dataset: xarray.Dataset) -> None:
    """Write a dataset into a group of a store, all chunks of it."""
    _writable(dataset).to_zarr(
        store,
        mode="a" if group == "/" else "w",
        group=group,
        consolidated=False,
        zarr_format=3,
        write_empty_chunks=True,  # a chunk that is not there is damage
    )


def _writable(dataset: xarray.Dataset) -> xarray.Dataset:
    """Words in the one form that the Zarr format has for them, numbers as they are."""
    words = {
        name: variable.astype(np.dtypes.StringDType())
        for name, variable in dataset.variables.items()
        if variable.dtype.kind == "U"
    }
    return dataset.assign(words).drop_encoding()


def renamed(tree: xarray.DataTree, names: Mapping[str, str]) -> xarray.DataTree:
    """A tree with other names of dimensions and variables, in all its groups."""
    return xarray.DataTree.from_dict(
        {
            node.path: _renamed(node.to_dataset(inherit=False), names)
            for node in tree.subtree
        }
    )


def _renamed(dataset: xarray.Dataset, names: Mapping[str, str]) -> xarray.Dataset:
    there = {*dataset.dims, *dataset.variables}
    return dataset.rename({old: new for old, new in names.items() if old in there})


@contextlib.contextmanager
def damage(path: pathlib.Path) -> Iterator[None]:
    """Whatever reading a store leads to, in words."""
    try:
        yield
    except (StoreError, InputError):
        raise
    except Exception as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        told = str(reason) or type(error).__name__
        raise StoreError(f"{path} is not a whole result: {told}") from error


@dataclasses.dataclass(frozen=True)
class Group(AbstractSource):
    """A group of a store, as a result is read from it."""

    place: "Place"
    group: str | None = None
    renamed: tuple[tuple[str, str], ...] = ()
    parent: "Group | None" = None

    @functools.cached_property
    def dataset(self) -> xarray.Dataset:
        """The dataset of the group, with its names as they are in the result."""
        own = _renamed(self.place.dataset(self.group), dict(self.renamed))
        if self.parent is None:
            return own
        # In a tree a coordinate that a group shares with the one above is only there.
        above = {
            name: coordinate
            for name, coordinate in self.parent.dataset.coords.items()
            if name in own.dims and name not in own.variables
        }
        return own.assign_coords(above)

    @property
    def opened(self) -> xarray.Dataset | None:
        """The dataset without what is the store's own, if arrays are read when used."""
        if not self.place.lazily:
            return None
        store = (UNFINISHED_ATTR, IDENTITY_ATTR, GOES_ON_ATTR)
        kept = {n: v for n, v in self.dataset.attrs.items() if n not in store}
        return self.dataset.drop_attrs(deep=False).assign_attrs(kept)

    @property
    def about(self) -> Mapping[str, Any]:
        """What jaxflow says of the result."""
        return self.dataset.attrs[ABOUT]

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the caller added."""
        attrs = self.dataset.attrs
        return {name: attrs[name] for name in attrs if not is_reserved(name)}

    def child(self, name: str, renamed: Mapping[str, str]) -> "Group":
        """A group below this one, with other names of dimensions and variables."""
        path = name if self.group is None else f"{self.group}/{name}"
        return Group(self.place, path, tuple(renamed.items()), self)

    def networks(self, group: str) -> Callable[[], Any]:
        """The function that reads the networks in a group below; unless lazily they are
        read at once."""
        path = group if self.group is None else f"{self.group}/{group}"
        stored = StoredNetworks(self.place, path)
        return stored if self.place.lazily else Given(stored())

    def rebuilt(self, arrays: Mapping[str, Any], structure: str) -> Any:
        """The tree of these arrays that has this structure."""
        # A network that the caller gave stands for networks only.
        given = self.place.network if "class" in json.loads(structure) else None
        return rebuilt(arrays, structure, given, self.place.trust)


@dataclasses.dataclass(frozen=True)
class Place:
    """A store, and how it is read.

    Arguments:
        store: the store.
        network: of the same structure; `None` to rebuild it from its description.
        trust: whose code networks may be rebuilt with.
        lazily: whether to read arrays only when they are used.
        picked: which members are meant, one index after the other.
    """

    store: CheckedStore
    network: Any
    trust: Trust
    lazily: bool
    picked: tuple[Index, ...] = ()

    def dataset(self, group: str | None) -> xarray.Dataset:
        """The dataset of a group."""
        self._check_room(group)
        dataset = xarray.open_zarr(self.store, group=group, consolidated=False, chunks=None)
        for index in self.picked:
            dataset = dataset.isel({MEMBERS: index}, missing_dims="ignore", drop=True)
        if self.lazily:
            return dataset
        with dataset:
            return dataset.load()

    def weights(self, group: str) -> tuple[dict[str, np.ndarray], str]:
        """The arrays that `weights_dataset` wrote into a group, by their names, and the
        description of the structure that they belong to."""
        dataset = self.dataset(group)
        arrays = {str(name): dataset[name].values for name in dataset.data_vars}
        return arrays, dataset.attrs[STRUCTURE_ATTR]

    def _check_room(self, group: str | None) -> None:
        """Whether the arrays of a group are as large as their files make likely."""
        found: Any = zarr.open_group(self.store, path=group or "", mode="r")
        declared = sum(array.nbytes for _, array in found.arrays())
        stored = sum(self.store.sizes().values())
        if declared > max(_ROOM, _DENSEST * stored):
            raise StoreError(
                f"{self.store.path} cannot be read: its files have {stored:,} bytes, and "
                f"its arrays would have {declared:,}."
            )


@dataclasses.dataclass(frozen=True)
class StoredNetworks:
    """A function that reads the networks in a group of a store, or some of them."""

    place: Place
    group: str

    def __call__(self) -> Any:
        place, path = self.place, self.place.store.path
        with damage(path):
            arrays, structure = place.weights(self.group)
            try:
                return rebuilt(arrays, structure, place.network, place.trust)
            except StoreError as error:
                raise StoreError(f"{path} cannot be read: {error}") from error

    def rows(self, index: Index) -> "StoredNetworks":
        """The function that reads some of them."""
        picked = (*self.place.picked, index)
        place = dataclasses.replace(self.place, picked=picked)
        return StoredNetworks(place, self.group)


def read(path: pathlib.Path, network: Any, trust: Trust, *, lazily: bool) -> Group:
    """The root of the store at a path.

    Raises:
        StoreError: if there is no finished result there.
    """
    with damage(path):
        store = open_for_reading(standing(path))
        if store.attributes.get(UNFINISHED_ATTR, False):
            raise StoreError(
                f"{path} is the store of a run that has not finished: repeat the call that "
                "began it, and it goes on from there."
            )
        single = bool(store.attributes.get(IDENTITY_ATTR, {}).get(SINGLE))
        group = Group(Place(store, network, trust, lazily, (0,) if single else ()))
        _ = group.dataset
    return group


def rebuild_value(path: pathlib.Path, group: str, trust: Trust) -> Any:
    """What `weights_dataset` wrote into a group of a store, with NumPy arrays.

    Raises:
        StoreError: if it is not there or cannot be rebuilt.
    """
    store = open_for_reading(standing(path))
    if f"{group}/zarr.json" not in store.places():
        raise StoreError(
            f"{path} keeps no {group}: it is no store of a run, or a part of the run has "
            "no name in a file, such as an optimizer or a lambda."
        )
    try:
        arrays, structure = Place(store, None, trust, lazily=False).weights(group)
        return rebuild(json.loads(structure), arrays.__getitem__, trust)
    except Exception as error:  # whatever damaged files lead to
        raise StoreError(f"{path} holds no {group} that can be read: {error}") from error
