"""A store of several results, and of what they are together.

    study.zarr/                    the dataset of all, once the last has come
    study.zarr/settings/0.zarr     the store of one result, whole in itself
    study.zarr/jaxflow             the manifest of the dataset

Each result is written as everywhere else, into a folder of its own; the manifest above does
not see them.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import xarray
import zarr

from ..errors import StoreError
from ..stores import (
    CheckedStore,
    Lock,
    lock,
    move_to,
    open_for_reading,
    open_for_writing,
    put_back,
    read_manifest,
    standing,
    unfinished,
)
from ._store import damage, IDENTITY_ATTR, UNFINISHED_ATTR, write_group
from ._whole import checked_attributes, disk_errors, is_empty

SETTINGS = "settings"
"""The folder with the results."""
_KIND = "several results"


class Collection:
    """The store of several results, new or begun already, locked until it is closed.

    Arguments:
        path: the folder.
        identity: what makes them what they are.
        attributes: of the group at the root, as long as there is no dataset.

    Raises:
        StoreError: if the folder holds something else, or other results.
    """

    def __init__(
        self, path: pathlib.Path, identity: Mapping[str, Any], attributes: Mapping[str, Any]
    ):
        self.path = path
        identity = json.loads(json.dumps({"kind": _KIND, **identity}))
        self._lock = Lock(None)
        try:
            with disk_errors(path):
                self._store = self._opened(identity, attributes)
        except BaseException:
            self.close()
            raise

    def _opened(self, identity: Any, attributes: Mapping[str, Any]) -> CheckedStore:
        put_back(self.path)
        if not self.path.exists() or is_empty(self.path):
            about = {**attributes, IDENTITY_ATTR: identity, UNFINISHED_ATTR: True}
            with unfinished(self.path, about) as (store, held):
                store.commit()
                if move_to(self.path, store):
                    self._lock = held.handed_over()
                    return open_for_writing(self.path).store
        checked_attributes(self.path, identity, None)
        self._lock = lock(self.path)
        return open_for_writing(self.path).store

    def place(self, number: int) -> pathlib.Path:
        """The folder of one of the results."""
        return place_of(self.path, number)

    def finish(self, dataset: xarray.Dataset) -> None:
        """Write what the results are together."""
        with disk_errors(self.path):
            root = zarr.open_group(self._store, mode="r+")
            kept = dict(root.attrs)
            root.attrs[UNFINISHED_ATTR] = True
            for name in list(root.array_keys()):
                del root[name]
            self._store.commit()
            write_group(self._store, "/", dataset)
            root = zarr.open_group(self._store, mode="r+")
            root.attrs.put({**kept, **dict(root.attrs), UNFINISHED_ATTR: False})
            self._store.commit()

    def close(self) -> None:
        """Let others write the store."""
        self._lock.close()


def place_of(path: pathlib.Path, number: int) -> pathlib.Path:
    """The folder of one of the results of a store."""
    return path / SETTINGS / f"{number}.zarr"


def is_collection(path: pathlib.Path) -> bool:
    """Whether a folder is a store of several results."""
    try:
        root = read_manifest(standing(path)).descriptions["zarr.json"]
        return root["attributes"][IDENTITY_ATTR]["kind"] == _KIND
    except (StoreError, KeyError, TypeError):
        return False


def read_collection(path: pathlib.Path) -> tuple[xarray.Dataset | None, Mapping[str, Any]]:
    """The dataset of a store of several results, `None` before the last has come; and the
    attributes of the store.

    Raises:
        StoreError: for what is no such store, or a damaged one.
    """
    with damage(path):
        store = open_for_reading(standing(path))
        attributes = store.attributes
        if attributes.get(UNFINISHED_ATTR, False):
            return None, attributes
        with xarray.open_zarr(store, consolidated=False, chunks=None) as dataset:
            loaded = dataset.load()
    internal = (IDENTITY_ATTR, UNFINISHED_ATTR)
    kept = {n: v for n, v in loaded.attrs.items() if n not in internal}
    return loaded.drop_attrs(deep=False).assign_attrs(kept), attributes
