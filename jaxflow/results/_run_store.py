"""A store that fills while a run goes on, and from which a killed run goes on.

    run.zarr/                the dataset, as `store.py` writes it; `status` is 0 for
                             members that are not done
    run.zarr/directions      the parameters, one array each
    run.zarr/lanes           the lanes in flight, in one file with a checksum

Members are written at their own places, a chunk of members at a time. Every chunk carries
a checksum and takes its place under its name in one piece. The status of a member is
written after everything else, so that a member which is done is whole. Chunks that do not
read back as they were written are found when the store is opened again, and their members
are then no longer done.
"""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import numpy as np
import xarray
import zarr
import zarr.codecs
import zarr.errors

from ..errors import StoreError
from ._store import (
    DIRECTIONS,
    FORMAT,
    FORMAT_ATTR,
    IDENTITY_ATTR,
    MEMBERS,
    parameters_of,
    STRUCTURE_ATTR,
    UNFINISHED_ATTR,
)

UNFINISHED = "unfinished"
"""The status of a member that is not done; its code is zero."""
_LANES = "lanes"
_IN_FLIGHT = "in_flight"
_STATUS = "status"
_CHUNK_BYTES = 2**22
_CHUNK_ROWS = (64, 8192)  # fewest and most members in a chunk


class RunStore:
    """A store of one run, new or begun already.

    **Arguments:**

    - `path`: the folder of the store.
    - `identity`: all that makes this run what it is, by name, as numbers and strings.
    - `total`: how many members there are; `None` if nobody knows yet.

    **Raises:** `StoreError` if the folder holds something else, or another run.
    """

    def __init__(self, path: pathlib.Path, identity: Mapping[str, Any], total: int | None):
        self.path = path
        self._total = total
        identity = json.loads(json.dumps(dict(identity)))
        self._lock = None
        # Lanes go into another run's store with nobody noticing: this tells them apart.
        self._tag = hashlib.sha256(json.dumps(identity).encode()).digest()
        if path.exists() and not path.is_dir():
            raise StoreError(
                f"{path} exists and is no store of a run: choose another name."
            )
        try:
            with _disk_errors(path):
                if not path.exists() or _is_stillborn(path):
                    self._create(identity)
                self._root = self._open(identity)
                self._lock = self._locked()
                self._clear_away()
                self._done = self._whole_members()
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> np.ndarray:
        """Whether each member is done, as far as members are known: (num,)."""
        return self._done

    @property
    def num_done(self) -> int:
        return int(np.sum(self._done))

    @property
    def is_finished(self) -> bool:
        return not self._root.attrs[UNFINISHED_ATTR] and bool(np.all(self._done))

    def write(
        self, indices: np.ndarray, dataset: xarray.Dataset, directions: eqx.Module
    ) -> None:
        """Write members that are done.

        **Arguments:**

        - `indices`: their numbers.
        - `dataset`: their rows, in that order, with every status that can occur.
        - `directions`: their networks, stacked likewise.
        """
        parameters, structure = parameters_of(directions)
        with _disk_errors(self.path):
            if STRUCTURE_ATTR not in self._root.attrs:
                attrs = {**dataset.attrs, STRUCTURE_ATTR: json.dumps(structure)}
                self._root.attrs.update(attrs)
            self._make_room(int(np.max(indices, initial=-1)) + 1)
            group = self._root.require_group(DIRECTIONS)
            rows = [(group, name) for name in parameters.variables]
            rows += [
                (self._root, name)
                for name, variable in dataset.variables.items()
                if variable.dims[:1] == (MEMBERS,) and name != MEMBERS
            ]
            if any(str(name) not in where for where, name in rows):
                self._forget(np.ones(len(self._done), bool))  # arrays have gone
            for name, variable in parameters.variables.items():
                self._write_rows(group, str(name), variable, indices)
            rest = [name for name in dataset.variables if name not in (_STATUS, MEMBERS)]
            for name in [*rest, _STATUS]:
                variable = dataset.variables[name]
                if variable.dims[:1] == (MEMBERS,):
                    self._write_rows(self._root, str(name), variable, indices)
                elif name != MEMBERS:
                    self._write_whole(str(name), variable)
        self._done[indices] = True

    def finish(self, total: int) -> None:
        """Mark the store as whole, with this many members."""
        with _disk_errors(self.path):
            for array in self._arrays():
                if array.shape[0] != total:
                    array.resize((total, *array.shape[1:]))
            members = xarray.Variable((MEMBERS,), np.arange(total))
            self._write_whole(MEMBERS, members)
            self._root.attrs[UNFINISHED_ATTR] = False
            self._in_flight_file.unlink(missing_ok=True)

    def save_in_flight(self, lanes: bytes) -> None:
        """Keep the lanes in flight in place of those kept before."""
        with _disk_errors(self.path):
            new = self._in_flight_file.with_suffix(".new")
            try:
                new.write_bytes(self._tag + lanes)
                os.replace(new, self._in_flight_file)
            except OSError:
                new.unlink(missing_ok=True)
                raise

    def in_flight(self) -> bytes | None:
        """The lanes that were kept last."""
        try:
            found = self._in_flight_file.read_bytes()
        except FileNotFoundError:
            return None
        tag = self._tag
        return found[len(tag) :] or None if found.startswith(tag) else None

    # -- opening --

    def _create(self, identity) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # In one piece as well: the root appears with its attributes or not at all.
        root = zarr.open_group(
            self.path,
            mode="w",
            zarr_format=3,
            attributes={
                FORMAT_ATTR: FORMAT,
                IDENTITY_ATTR: identity,
                UNFINISHED_ATTR: True,
            },
        )
        root.require_group(_LANES)

    def _open(self, identity) -> zarr.Group:
        try:
            root = zarr.open_group(self.path, mode="r+")
            found = root.attrs.get(IDENTITY_ATTR)
            form = root.attrs.get(FORMAT_ATTR)
        except (zarr.errors.GroupNotFoundError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path} exists and is no store of a run: choose another name."
            ) from error
        if not isinstance(found, dict) or form != FORMAT:
            raise StoreError(
                f"{self.path} exists and is no store of a run that this jaxflow can go on "
                "with: choose another name."
            )
        if differences := list(_differences(found, identity)):
            raise StoreError(
                f"{self.path} holds another run: choose another name, or repeat the call "
                "that made it. Differences:\n  " + "\n  ".join(differences)
            )
        root.require_group(_LANES)
        return root

    def _locked(self):
        """Keep other processes away, until this one ends or forgets the store."""
        try:
            import fcntl
        except ImportError:  # not on every system
            return None
        lock = open(self.path / _LANES / "lock", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise StoreError(f"{self.path} is being written by another run.") from error
        return lock

    def close(self) -> None:
        """Let others write the store."""
        if self._lock is not None:
            self._lock.close()

    def _clear_away(self) -> None:
        """Remove what killed runs left half-written, and arrays that cannot be opened."""
        for file in [*self.path.rglob("*.partial"), *self.path.rglob("in_flight.new")]:
            file.unlink(missing_ok=True)
        for folder in (self.path / DIRECTIONS, self.path):
            for array in folder.glob("*/"):
                if array == self.path / DIRECTIONS:
                    opened = zarr.open_group
                elif (array / "c").exists() or (
                    (array / "zarr.json").exists() and array.name != _LANES
                ):
                    opened = zarr.open_array
                else:
                    continue
                try:
                    opened(array, mode="r")
                except Exception:  # whatever becomes of damaged text
                    shutil.rmtree(array)

    def _whole_members(self) -> np.ndarray:
        """Who is done, after every chunk has been read; damaged chunks are emptied."""
        if _STATUS not in self._root:
            return np.zeros(self._total or 0, bool)
        status: Any = self._root[_STATUS]
        arrays = list(self._arrays())
        num = max(array.shape[0] for array in arrays)
        for array in arrays:  # some are shorter if room was being made
            if array.shape[0] < num:
                array.resize((num, *array.shape[1:]))
        status = self._root[_STATUS]
        done, damaged = np.zeros(num, bool), np.zeros(num, bool)
        for place in _chunks(status):
            done[place] = _is_written(status, place)
        for array in self._arrays():
            for place in _chunks(array):
                if np.any(done[place]) and not _reads_back(array, self.path, place):
                    damaged[place] = True
        self._done = done
        if not np.all(done):
            self._root.attrs[UNFINISHED_ATTR] = True
        if np.any(damaged):
            self._forget(damaged)
        return self._done

    def _forget(self, members: np.ndarray) -> None:
        """These members are not done after all. Everything else may stay as it is."""
        self._done = self._done & ~members
        self._root.attrs[UNFINISHED_ATTR] = True
        if _STATUS not in self._root:
            return
        status: Any = self._root[_STATUS]
        for place in _chunks(status):
            if np.any(members[place]):
                known = np.any(self._done[place])
                codes = status[place] if known else _empty(status, place)
                status[place] = np.where(self._done[place], codes, 0)

    # -- arrays --

    def _arrays(self) -> Iterator[Any]:
        """All arrays whose first axis is that of the members."""
        groups = [self._root]
        if DIRECTIONS in self._root:
            groups.append(self._root[DIRECTIONS])  # pyright: ignore[reportArgumentType]
        for group in groups:
            for _, array in group.arrays():
                dims = getattr(array.metadata, "dimension_names", None) or ("",)
                if dims[0] == MEMBERS and array.name.strip("/") != MEMBERS:
                    yield array

    def _make_room(self, num: int) -> None:
        """Rows for at least so many members, where their number is not known."""
        if self._total is not None or num <= len(self._done):
            return
        room = max(num, 2 * len(self._done), _CHUNK_ROWS[0])
        for array in self._arrays():
            array.resize((room, *array.shape[1:]))
        self._done = np.concatenate([self._done, np.zeros(room - len(self._done), bool)])

    def _write_rows(self, group, name: str, variable: xarray.Variable, indices) -> None:
        values = np.asarray(variable.values)
        array: Any = group[name] if name in group else self._new(group, name, variable)
        chunk = array.chunks[0]
        for which in np.unique(indices // chunk):
            here = np.flatnonzero(indices // chunk == which)
            first = int(which) * chunk
            place = slice(first, min(first + chunk, array.shape[0]))
            # The chunk as a whole, so that it is replaced in one piece.
            known = np.any(self._done[place])
            rows = array[place] if known else _empty(array, place)
            rows[indices[here] - first] = values[here]
            array[place] = rows

    def _new(self, group, name: str, variable: xarray.Variable):
        row = max(1, int(np.prod(variable.shape[1:], initial=1)) * variable.dtype.itemsize)
        few, many = _CHUNK_ROWS
        rows = int(np.clip(_CHUNK_BYTES // row, few, many))
        if self._total is not None:
            rows = max(1, min(self._total, rows))
        fill = np.nan if variable.dtype.kind == "f" else 0
        dims = variable.dims
        if group.name.strip("/") == DIRECTIONS:
            dims = (MEMBERS, *dims[1:])
        return group.create_array(
            name,
            shape=(len(self._done), *variable.shape[1:]),
            chunks=(rows, *(max(1, n) for n in variable.shape[1:])),
            dtype=variable.dtype,
            fill_value=fill,
            dimension_names=[str(dim) for dim in dims],
            compressors=[zarr.codecs.ZstdCodec(level=1), zarr.codecs.Crc32cCodec()],
            attributes=dict(variable.attrs),
            config={"write_empty_chunks": True},  # a chunk that is not there is damage
        )

    def _write_whole(self, name: str, variable: xarray.Variable) -> None:
        values = np.asarray(variable.values)
        if name in self._root and _holds(self._root[name], values):
            return
        array = self._root.create_array(
            name,
            shape=variable.shape,
            dtype=variable.dtype,
            dimension_names=[str(dim) for dim in variable.dims],
            attributes=dict(variable.attrs),
            compressors=[zarr.codecs.ZstdCodec(level=1), zarr.codecs.Crc32cCodec()],
            config={"write_empty_chunks": True},
            overwrite=True,
        )
        array[...] = values

    @property
    def _in_flight_file(self) -> pathlib.Path:
        return self.path / _LANES / _IN_FLIGHT


def _empty(array, place: slice) -> np.ndarray:
    shape = (place.stop - place.start, *array.shape[1:])
    return np.full(shape, array.fill_value, array.dtype)


def _chunks(array) -> Iterator[slice]:
    rows = array.chunks[0]
    for first in range(0, array.shape[0], rows):
        yield slice(first, min(first + rows, array.shape[0]))


def _holds(array, values: np.ndarray) -> bool:
    try:
        whole = array.nchunks_initialized == array.nchunks
        return bool(whole and np.array_equal(array[...], values))
    except Exception:  # whatever a codec makes of damaged bytes
        return False


def _reads_back(array, path: pathlib.Path, place: slice) -> bool:
    """Whether a chunk is there as it was written."""
    number = place.start // array.chunks[0]
    rest = itertools.repeat(0, array.ndim - 1)
    file = path.joinpath(array.path, "c", *map(str, (number, *rest)))
    if not file.exists():
        return False
    try:
        array[place]
    except Exception:  # whatever a codec makes of damaged bytes
        return False
    return True


def _is_stillborn(path: pathlib.Path) -> bool:
    """Whether a run was killed before its store had begun."""
    return path.is_dir() and all(name.name.endswith(".partial") for name in path.iterdir())


def _is_written(status, place: slice) -> np.ndarray:
    try:
        return np.asarray(status[place]) != 0
    except Exception:  # the statuses are damaged themselves
        return np.ones(place.stop - place.start, bool)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        missing = object()
        old, new = found.get(name, missing), wanted.get(name, missing)
        if old != new:
            there = "nothing" if old is missing else _brief(old)
            here = "nothing" if new is missing else _brief(new)
            yield f"{name}: {there} in the store, {here} in this call"


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


@contextlib.contextmanager
def _disk_errors(path: pathlib.Path):
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
