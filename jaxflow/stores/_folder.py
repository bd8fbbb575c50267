"""Folders with stores: how one begins, is opened, is kept from others, and is replaced.

A folder appears under its name with its manifest in it, or not at all. Nothing that is not
jaxflow's is deleted or written over.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from .. import _files
from .._checks import shown
from ..errors import InputError, StoreError
from ._checked import CheckedStore, FILES, LOCK, MANIFESTS
from ._manifest import DESCRIPTION, File, FormatError, LARGEST, Manifest

_EMPTY_GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}
_EMPTY_ARRAY = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [0],
    "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes"}],
    "attributes": {},
    "dimension_names": ["byte"],
    "storage_transformers": [],
}


def as_path(path: Any, argument: str) -> pathlib.Path:
    """The folder that a caller means, wherever the process goes to later.

    Raises:
        InputError: for what is no path of a folder on this machine.
    """
    try:
        text = os.fspath(path)
        if not isinstance(text, str) or not text or "\0" in text:
            raise TypeError
        if _URL.match(text):
            raise InputError(argument, repr(text), "a folder on this machine, not a URL")
        return pathlib.Path(os.path.realpath(pathlib.Path(text).expanduser()))
    except (TypeError, RuntimeError) as error:  # no home folder
        raise InputError(argument, shown(path), "the path of a folder") from error


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes one slash of two


# -- manifests --


def read_manifest(path: pathlib.Path) -> Manifest:
    """The manifest of the store in a folder.

    Raises:
        StoreError: if there is none, or none that can be read.
    """
    if not path.is_dir():
        raise StoreError(f"There is no result at {path}.")
    found, reasons = [], []
    for place in MANIFESTS:
        try:
            found.append(Manifest.from_bytes(_files.read(path, place, LARGEST + 1000)))
        except FormatError as error:
            raise StoreError(
                f"{path} cannot be read: {error}, and this jaxflow reads another."
            ) from error
        except FileNotFoundError:
            continue
        except Exception as error:  # whatever damaged bytes lead to
            reasons.append(f"{place}: {error}")
    if found:
        return max(found, key=lambda manifest: manifest.generation)
    if reasons:
        raise StoreError(f"{path} is not a whole result: {'; '.join(reasons)}")
    raise StoreError(f"{path} is no result that this jaxflow reads: it has no manifest.")


def has_manifest(path: pathlib.Path) -> bool:
    """Whether a folder says that it is a store of jaxflow's."""
    return any(os.path.lexists(path / place) for place in MANIFESTS)


# -- beginning --


@contextlib.contextmanager
def unfinished(
    path: pathlib.Path, attributes: Mapping[str, Any]
) -> Iterator[tuple[CheckedStore, "Lock"]]:
    """A new store beside the place where it is going to be, which is locked.

    It is removed in the end, unless it has been moved to its place.

    Arguments:
        path: where it is going to be.
        attributes: of the group at its root.
    """
    _files.make_folder(path.parent)
    _clear_away(path)
    folder = path.with_name(f".{path.name}.new-{secrets.token_hex(4)}")
    folder.mkdir()
    held = None
    try:
        _files.make_way(folder, LOCK)
        held = lock(folder)
        manifest = Manifest(
            secrets.token_hex(8),
            descriptions={
                DESCRIPTION: {**_EMPTY_GROUP, "attributes": dict(attributes)},
                f"{FILES.rpartition('/')[0]}/{DESCRIPTION}": _EMPTY_GROUP,
                f"{FILES}/{DESCRIPTION}": _EMPTY_ARRAY,
            },
        )
        yield CheckedStore(folder, manifest, read_only=False, at_once=True), held
    finally:
        if held is not None:
            held.close()
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _clear_away(path: pathlib.Path) -> None:
    """Remove what killed processes left beside the place of a store."""
    for folder in path.parent.glob(f".{_escaped(path.name)}.new-????????"):
        with contextlib.suppress(OSError):
            mark = folder / LOCK if os.path.lexists(folder / LOCK) else folder
            if time.time() - os.lstat(mark).st_mtime > _ABANDONED:
                with lock(folder):
                    shutil.rmtree(folder)


_ABANDONED = 600
"""Seconds after which a new store that nobody has locked is taken for left behind. Chosen:
it is locked a moment after it has been made."""


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def move_to(path: pathlib.Path, store: CheckedStore) -> bool:
    """Move a new store to its place, unless something is there.

    Returns:
        Whether it has been moved.
    """
    try:
        os.rename(store.path, path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    _files.sync(path.parent)
    store.path = path
    return True


def replace(path: pathlib.Path, store: CheckedStore) -> None:
    """Move a new store to the place of an older one, which goes.

    Raises:
        StoreError: if what is there is no store of jaxflow's, holds what is not jaxflow's,
            or is being written.
    """
    check_own(path)
    with lock(path):
        check_own(path)
        aside = _aside(path)
        if aside.exists():  # of a process that was killed when it had replaced it
            shutil.rmtree(aside)
        os.rename(path, aside)
        os.rename(store.path, path)
        _files.sync(path.parent)
        store.path = path
        # First what says that it is a store: half of it must never stand in for one.
        for place in MANIFESTS:
            _files.remove(aside, place)
        shutil.rmtree(aside, ignore_errors=True)


def check_own(path: pathlib.Path) -> None:
    """Raises `StoreError` if a folder is not a store of jaxflow's and that alone."""
    if not has_manifest(path):
        raise StoreError(
            f"{path} does not say that jaxflow made it, so it is not overwritten: choose "
            "another name."
        )
    if foreign := next(_foreign(path, read_manifest(path)), None):
        raise StoreError(
            f"{path} holds {foreign}, which is not jaxflow's, so it is not overwritten: "
            "move that away, or choose another name."
        )


def _aside(path: pathlib.Path) -> pathlib.Path:
    """Where a store lies while another one takes its place."""
    return path.with_name(f".{path.name}.replaced")


def standing(path: pathlib.Path) -> pathlib.Path:
    """Where the store of this name is: its place, but for the moment between two renames.

    Who is killed in that moment leaves it for good.
    """
    aside = _aside(path)
    return aside if not os.path.lexists(path) and has_manifest(aside) else path


def put_back(path: pathlib.Path) -> None:
    """Put a store back into its place, where somebody was killed who replaced it."""
    if (aside := standing(path)) != path:
        with lock(aside):
            os.rename(aside, path)


def _foreign(path: pathlib.Path, manifest: Manifest) -> Iterator[str]:
    """What lies in the folder of a store and is not of the store."""
    own = set(manifest.places())
    for place in _files.walk(path):
        in_ours = place.startswith(f"{FILES}/")  # such as lanes that a run left
        if place not in own and not in_ours and not _is_chunk(place, manifest):
            yield place


def _is_chunk(place: str, manifest: Manifest) -> bool:
    """Whether it lies where an array of the store has its chunks, or had them."""
    array, found, _ = f"{place}/".partition("/c/")
    return bool(found) and f"{array}/{DESCRIPTION}" in manifest.descriptions


# -- locks --


@dataclasses.dataclass
class Lock:
    """A store that is kept from other processes, until this one closes it or ends."""

    file: TextIO | None

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def handed_over(self) -> "Lock":
        """The same lock, which whoever had it does not close any more."""
        taken, self.file = Lock(self.file), None
        return taken

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def lock(path: pathlib.Path) -> Lock:
    """Keep other processes from writing a store.

    Raises:
        StoreError: if another one writes it.
    """
    try:
        import fcntl
    except ImportError:  # not on every system
        return Lock(None)
    _files.make_way(path, LOCK)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    file = open(os.open(path / LOCK, flags, 0o666), "r+", closefd=True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have gone meanwhile, and another one be in its place.
        if not os.path.samestat(os.fstat(file.fileno()), os.lstat(path / LOCK)):
            raise BlockingIOError
    except BlockingIOError as error:
        file.close()
        raise StoreError(f"{path} is being written by another run.") from error
    except BaseException:
        file.close()
        raise
    return Lock(file)


# -- opening --


def open_for_reading(path: pathlib.Path) -> CheckedStore:
    """The store in a folder, which is not changed.

    Raises:
        StoreError: if it is not as it was written, as far as that can be seen without its
            chunks.
    """
    store = CheckedStore(path, read_manifest(path), read_only=True)
    if different := store.differing():
        raise StoreError(
            f"{path} is not a whole result: {different[0]} is not as it was written."
        )
    return store


_NOT_DAMAGE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that tell nothing about a file: it may be whole, and is not written again."""


class Settled(NamedTuple):
    """A store in which every file has one right content, and how that was found out."""

    store: CheckedStore
    older: frozenset[str]
    """Files of which the content is older than that which was being written last."""
    newest: frozenset[str]
    """Those that were being written last, and are there."""
    lost: frozenset[str]
    """Those that are damaged, or have gone."""

    @property
    def is_intact(self) -> bool:
        """Whether everything is there as it was written."""
        return not self.older and not self.lost and not self.store.differing()


def open_for_writing(path: pathlib.Path, *, read_only: bool = False) -> Settled:
    """The store in a folder, after all its files have been read.

    Files that are damaged, or have gone, are no longer in its manifest.

    Arguments:
        read_only: whether it is only looked at.

    Raises:
        StoreError: if it does not fit.
    """
    manifest = read_manifest(path)
    files: dict[str, tuple[File, ...]] = {}
    older, newest, lost = set(), set(), set()
    for place, each in manifest.files.items():
        try:
            found = File.of(_files.read(path, place, max(file.size for file in each)))
        except OSError as error:
            if error.errno in _NOT_DAMAGE:
                raise
            found = None
        if found is None or found not in each:
            lost.add(place)
            continue
        files[place] = (found,)
        if len(each) > 1:
            (newest if found == each[-1] else older).add(place)
    if not read_only:
        # What a killed run renamed may be on no disk yet, and the next manifest does not
        # name what it took the place of.
        there = [place for place in manifest.places() if (path / place).exists()]
        _files.sync_ways(path, there)
        _files.sync(path.parent)
    settled = dataclasses.replace(manifest, files=files)
    store = CheckedStore(path, settled, read_only=read_only)
    return Settled(store, frozenset(older), frozenset(newest), frozenset(lost))
