"""Results on disk, in Zarr.

    run.zarr/            the dataset: columns, records, attributes
    run.zarr/directions  the weights of the networks, one array each

A store is the tree of a result. It is written under another name and renamed when it is
whole, so that a half-written one is never taken for a result.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray
import zarr

from ..errors import StoreError
from ._declarations import ABOUT, AbstractSource, MEMBERS
from ._indexing import Given, Index
from ._weights import rebuilt, STRUCTURE_ATTR

FORMAT = 2
FORMAT_ATTR = "jaxflow_format"
UNFINISHED_ATTR = "jaxflow_unfinished"
IDENTITY_ATTR = "jaxflow_run"
SINGLE = "single network"
"""In the identity of a run: whether its one member is a network without a leading axis."""
DIRECTIONS = "directions"
SIMULATION = "simulation"
"""The group that holds what the run was, so that it can be run again."""


def write(path: pathlib.Path, tree: xarray.DataTree, *, overwrite: bool) -> None:
    """Write a tree in one piece or not at all."""
    if path.exists() and not overwrite:
        raise StoreError(f"{path} exists already: choose another name or overwrite=True.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        whole = unfinished / "store"
        for node in tree.subtree:
            dataset = node.to_dataset(inherit=False)
            if node is tree:
                dataset = dataset.assign_attrs({FORMAT_ATTR: FORMAT})
            _writable(dataset).to_zarr(
                whole, mode="a", group=node.path, consolidated=False, zarr_format=3
            )
        if path.exists():
            os.rename(path, unfinished / "replaced")
        os.rename(whole, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
    """What is missing or cannot be read, in words."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise StoreError(f"{path} is not a whole result: {reason}") from error


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
        # On disk a coordinate that a group shares with the one above is only there.
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
        store = (FORMAT_ATTR, UNFINISHED_ATTR, IDENTITY_ATTR)
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
        return {name: attrs[name] for name in attrs if not name.startswith(ABOUT)}

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


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a store is, and how it is read.

    **Arguments:**

    - `path`: its folder.
    - `network`: of the same structure; `None` to rebuild it from its description.
    - `lazily`: whether to read arrays only when they are used.
    - `picked`: which members are meant, one index after the other.
    """

    path: pathlib.Path
    network: Any
    lazily: bool
    picked: tuple[Index, ...] = ()

    def dataset(self, group: str | None) -> xarray.Dataset:
        """The dataset of a group."""
        dataset = xarray.open_zarr(self.path, group=group, consolidated=False, chunks=None)
        for index in self.picked:
            dataset = dataset.isel({MEMBERS: index}, missing_dims="ignore", drop=True)
        if self.lazily:
            return dataset
        with dataset:
            return dataset.load()


@dataclasses.dataclass(frozen=True)
class StoredNetworks:
    """A function that reads the networks in a group of a store, or some of them."""

    place: Place
    group: str

    def __call__(self) -> Any:
        place = self.place
        with damage(place.path):
            dataset = place.dataset(self.group)
            arrays = {str(name): dataset[name].values for name in dataset.data_vars}
            try:
                return rebuilt(arrays, dataset.attrs[STRUCTURE_ATTR], place.network)
            except StoreError as error:
                raise StoreError(f"{place.path} cannot be read: {error}") from error

    def rows(self, index: Index) -> "StoredNetworks":
        """The function that reads some of them."""
        picked = (*self.place.picked, index)
        place = dataclasses.replace(self.place, picked=picked)
        return StoredNetworks(place, self.group)


def read(path: pathlib.Path, network: Any, *, lazily: bool) -> Group:
    """The root of the store at a path.

    **Raises:** `StoreError` if there is no finished result there.
    """
    if not path.is_dir():
        raise StoreError(f"There is no result at {path}.")
    with damage(path):
        attrs = zarr.open_group(path, mode="r").attrs
        found, identity = attrs.get(FORMAT_ATTR), attrs.get(IDENTITY_ATTR, {})
        unfinished = attrs.get(UNFINISHED_ATTR, False)
        single = bool(identity.get(SINGLE))  # pyright: ignore
    if found != FORMAT:
        raise StoreError(f"{path} has format {found}; this jaxflow reads {FORMAT}.")
    if unfinished:
        raise StoreError(
            f"{path} is the store of a run that has not finished: repeat the call that "
            "began it, and it goes on from there."
        )
    with damage(path):
        if identity and not lazily:
            _check_chunks(path)
        group = Group(Place(path, network, lazily, (0,) if single else ()))
        _ = group.dataset
    return group


def _check_chunks(path: pathlib.Path) -> None:
    """A chunk that has gone would be read as NaN; runs write all of them."""
    for chunks in path.rglob("c"):
        if not (chunks.parent / "zarr.json").exists():
            raise StoreError(f"{path} is not a whole result: {chunks.parent} is damaged.")
    root = zarr.open_group(path, mode="r")
    for group in (root, root[DIRECTIONS]):
        for name, array in group.arrays():  # pyright: ignore
            if array.nchunks_initialized != array.nchunks:
                raise StoreError(
                    f"{path} is not a whole result: a part of {name} has gone."
                )
