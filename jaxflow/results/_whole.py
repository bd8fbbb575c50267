"""What of a store that fills is whole, and whose it is."""

import contextlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import zarr

from ..errors import StoreError
from ..stores import CheckedStore, read_manifest, Settled
from ._chunks import chunks, member_arrays
from ._kept_lanes import is_longer
from ._plain import differences
from ._status import STATUS
from ._store import IDENTITY_ATTR, UNFINISHED_ATTR


def whole_members(
    path: pathlib.Path, settled: Settled, total: int | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Who is done, as all parts are there; of whom only the status says so; and files
    that are older than the status of members in them."""
    root = zarr.open_group(settled.store, mode="r")
    arrays = list(member_arrays(root))
    if STATUS not in root or not arrays:
        nobody = np.zeros(total or 0, bool)
        return nobody, nobody, []
    status: Any = root[STATUS]
    there = settled.store.sizes()
    done = np.zeros(status.shape[0], bool)
    told_last = np.zeros(len(done), bool)  # by a status that was being written last
    for place, file in chunks(status):
        if file in there:
            done[place] = np.asarray(status[place]) != 0
            told_last[place] = file in settled.newest
    said, stale = done.copy(), []
    for array in arrays:
        if array.shape[0] != len(done):
            raise StoreError(f"{path} is not a whole result: {array.name} is short.")
        for place, file in chunks(array):
            if file not in there:
                done[place] = False
            elif file in settled.older and np.any(said[place] & told_last[place]):
                done[place] = False
                stale.append(file)
    return done, said & ~done, stale


def forget(store: CheckedStore, members: np.ndarray, stale: Iterable[str]) -> None:
    """Have it on the disk that these members are not done, and the run has not finished.

    Before anything else: a chunk that is written again holds some of its members first.
    Stale files go from the manifest: whoever is killed before the status is written would
    find them as they should be, and a status that tells of more.
    """
    for file in stale:
        store.remove(file)
    root = zarr.open_group(store, mode="r+")
    root.attrs[UNFINISHED_ATTR] = True
    if np.any(members):
        status: Any = root[STATUS]
        status = status.with_config({"write_empty_chunks": True})
        for place, _ in chunks(status):
            if np.any(members[place]):
                status[place] = np.where(members[place], 0, status[place])
    store.commit()


def checked_attributes(
    path: pathlib.Path, identity: Mapping[str, Any], lengths: tuple[str, ...] | None
) -> Mapping[str, Any]:
    """The attributes of the store of this run.

    Raises:
        StoreError: if a store is of no run, or of another one.
    """
    attributes: Mapping[str, Any] = {}
    try:
        if path.is_dir():
            root = read_manifest(path).descriptions.get("zarr.json", {})
            attributes = root.get("attributes", {})
    except StoreError as error:
        raise StoreError(
            f"{path} exists and is no store of a run that this jaxflow can go on with: "
            f"choose another name. ({error})"
        ) from error
    found = attributes.get(IDENTITY_ATTR)
    if not isinstance(found, dict):
        raise StoreError(f"{path} exists and is no store of a run: choose another name.")
    if lengths is not None and is_longer(found, identity, lengths):
        return attributes
    if different := list(differences(found, identity)):
        raise StoreError(
            f"{path} holds another run: choose another name, or repeat the call "
            "that made it. Differences:\n  " + "\n  ".join(different)
        )
    return attributes


def is_empty(path: pathlib.Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextlib.contextmanager
def disk_errors(path: pathlib.Path):
    """What the disk refuses, in words; what was written before is as it was."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. What it holds is whole; "
            "once the cause is gone, the same call goes on from there."
        ) from error
