"""How the store of a run is begun, opened by the same run again, and kept from others."""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, TextIO

import zarr
import zarr.errors

from ..errors import StoreError
from ._plain import differences
from ._store import (
    DIRECTIONS,
    FORMAT,
    FORMAT_ATTR,
    IDENTITY_ATTR,
    SIMULATION,
    UNFINISHED_ATTR,
)

_LANES = "lanes"
_FILES = "files"  # an array: Zarr takes files in a group for damage, and warns of them


def files_of(path: pathlib.Path) -> pathlib.Path:
    """The folder in a store for files that Zarr's readers do not look into."""
    return path / _LANES / _FILES


def create(path: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Begin the store of a run, unless one was begun there."""
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} exists and is no store of a run: choose another name.")
    if path.exists() and not _is_stillborn(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # In one piece as well: the root appears with its attributes or not at all.
    root = zarr.open_group(
        path,
        mode="w",
        zarr_format=3,
        attributes={
            FORMAT_ATTR: FORMAT,
            IDENTITY_ATTR: dict(identity),
            UNFINISHED_ATTR: True,
        },
    )
    _require_lanes(root)


def open_again(path: pathlib.Path, identity: Mapping[str, Any]) -> zarr.Group:
    """The root of the store of a run.

    **Raises:** `StoreError` if something else is there, or the store of another run.
    """
    try:
        root = zarr.open_group(path, mode="r+")
        found = root.attrs.get(IDENTITY_ATTR)
        form = root.attrs.get(FORMAT_ATTR)
    except (zarr.errors.GroupNotFoundError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} exists and is no store of a run: choose another name."
        ) from error
    if not isinstance(found, dict) or form != FORMAT:
        raise StoreError(
            f"{path} exists and is no store of a run that this jaxflow can go on "
            "with: choose another name."
        )
    if different := list(differences(found, identity)):
        raise StoreError(
            f"{path} holds another run: choose another name, or repeat the call "
            "that made it. Differences:\n  " + "\n  ".join(different)
        )
    _require_lanes(root)
    return root


def lock(path: pathlib.Path) -> TextIO | None:
    """Keep other processes away until the file is closed or this process ends.

    **Returns:** the open file; `None` on systems without such locks.
    """
    try:
        import fcntl
    except ImportError:  # not on every system
        return None
    file = open(files_of(path) / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StoreError(f"{path} is being written by another run.") from error
    return file


def clear_away(path: pathlib.Path) -> None:
    """Remove what killed runs left half-written, and arrays that cannot be opened."""
    for file in [*path.rglob("*.partial"), *path.rglob("in_flight.new")]:
        file.unlink(missing_ok=True)
    for folder in (path / DIRECTIONS, path):
        for array in folder.glob("*/"):
            if array.name in (DIRECTIONS, SIMULATION):
                opened = zarr.open_group
            elif (array / "c").exists() or (
                (array / "zarr.json").exists() and array.name != _LANES
            ):
                opened = zarr.open_array
            else:
                continue
            try:
                opened(array, mode="r")
            except Exception:  # a damaged description fails in many ways
                shutil.rmtree(array)


def _require_lanes(root: zarr.Group) -> None:
    """A place for files in a store that Zarr's readers do not look into."""
    lanes = root.require_group(_LANES)
    if _FILES not in lanes:
        lanes.create_array(_FILES, shape=(0,), dtype="uint8", dimension_names=["byte"])


def _is_stillborn(path: pathlib.Path) -> bool:
    """Whether a run was killed before its store had begun."""
    return path.is_dir() and all(name.name.endswith(".partial") for name in path.iterdir())
