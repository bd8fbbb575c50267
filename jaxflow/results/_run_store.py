"""A store that fills while a run goes on, and from which a killed run goes on.

    run.zarr/                the dataset, as `_store.py` writes it; `status` is 0 for
                             members that are not done
    run.zarr/directions      the weights, one array each
    run.zarr/lanes/files     the lanes in flight, in one file with a checksum

Members are written at their own places, a chunk of members at a time. Every chunk carries
a checksum and takes its place under its name in one piece. The status of a member is
written after everything else, so that a member which is done is whole. Chunks that do not
read back as they were written are found when the store is opened again, and their members
are then no longer done.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import numpy as np
import xarray
import zarr
import zarr.codecs

from ..errors import StoreError
from ._chunks import chunks, empty, holds, is_written, reads_back
from ._declarations import ABOUT, MEMBERS
from ._members import NUMBER_ATTRS
from ._opening import clear_away, create, files_of, lock, open_again
from ._plain import plain
from ._status import STATUS
from ._store import DIRECTIONS, UNFINISHED_ATTR
from ._weights import STRUCTURE_ATTR, weights_dataset

_IN_FLIGHT = "in_flight"
_CHUNK_BYTES = 2**22
_CHUNK_ROWS = (64, 8192)  # fewest and most members in a chunk


class RunStore:
    """A store of one run, new or begun already.

    **Arguments:**

    - `path`: the folder of the store.
    - `identity`: all that makes this run what it is, by name, as numbers and strings.
    - `total`: how many members there are; `None` if nobody knows yet.
    - `first`: the number of the member in row 0, for a run of some members of many.

    **Raises:** `StoreError` if the folder holds something else, or another run.
    """

    def __init__(
        self,
        path: pathlib.Path,
        identity: Mapping[str, Any],
        total: int | None,
        first: int = 0,
    ):
        self.path = path
        self._total = total
        self._first = first
        identity = json.loads(json.dumps(dict(identity)))
        self._lock = None
        # The file of the lanes may come from another run, and would read back as well: it
        # begins with this.
        self._tag = hashlib.sha256(json.dumps(identity).encode()).digest()
        try:
            with _disk_errors(path):
                create(path, identity)
                self._root = open_again(path, identity)
                self._lock = lock(path)
                clear_away(path)
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

        - `indices`: their rows in the store, from 0.
        - `dataset`: their rows, in that order, with every status that can occur.
        - `directions`: their networks, stacked likewise.
        """
        parameters = weights_dataset(directions, MEMBERS)
        with _disk_errors(self.path):
            if ABOUT not in self._root.attrs:
                self._root.attrs.update(dataset.attrs)
            self._make_room(int(np.max(indices, initial=-1)) + 1)
            group = self._root.require_group(DIRECTIONS)
            if STRUCTURE_ATTR not in group.attrs:
                group.attrs.update(parameters.attrs)
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
            rest = [name for name in dataset.variables if name not in (STATUS, MEMBERS)]
            for name in [*rest, STATUS]:
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
            numbers = self._first + np.arange(total, dtype=np.int64)
            members = xarray.Variable((MEMBERS,), numbers, NUMBER_ATTRS)
            self._write_whole(MEMBERS, members)
            self._root.attrs[UNFINISHED_ATTR] = False
            self._in_flight_file.unlink(missing_ok=True)

    def set_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Put the caller's attributes in the place of those that an earlier call gave."""
        root, attrs = self._root.attrs, plain(attrs)
        ours = {n: v for n, v in root.items() if n.startswith(ABOUT)}
        if ABOUT in ours and {n: v for n, v in root.items() if n not in ours} != attrs:
            with _disk_errors(self.path):
                root.put({**ours, **attrs})

    def keep(self, name: str, dataset: xarray.Dataset) -> None:
        """Keep a dataset in a group of its own, in one piece, unless it is there."""
        if name in self._root:
            return
        with (
            _disk_errors(self.path),
            tempfile.TemporaryDirectory(
                prefix=f".{name}-", dir=self.path, ignore_cleanup_errors=True
            ) as folder,
        ):
            new = pathlib.Path(folder) / name
            dataset.to_zarr(new, mode="w", consolidated=False, zarr_format=3)
            os.rename(new, self.path / name)

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

    def close(self) -> None:
        """Let others write the store."""
        if self._lock is not None:
            self._lock.close()

    # -- what is whole --

    def _whole_members(self) -> np.ndarray:
        """Who is done, after every chunk has been read; damaged chunks are emptied."""
        if STATUS not in self._root:
            return np.zeros(self._total or 0, bool)
        status: Any = self._root[STATUS]
        arrays = list(self._arrays())
        num = max(array.shape[0] for array in arrays)
        for array in arrays:  # some are shorter if room was being made
            if array.shape[0] < num:
                array.resize((num, *array.shape[1:]))
        status = self._root[STATUS]
        done, damaged = np.zeros(num, bool), np.zeros(num, bool)
        for place in chunks(status):
            done[place] = is_written(status, place)
        for array in self._arrays():
            for place in chunks(array):
                if np.any(done[place]) and not reads_back(array, self.path, place):
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
        if STATUS not in self._root:
            return
        status: Any = self._root[STATUS]
        for place in chunks(status):
            if np.any(members[place]):
                known = np.any(self._done[place])
                codes = status[place] if known else empty(status, place)
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
        # Said anew for an array that is opened again; a chunk that is not there is damage.
        array = array.with_config({"write_empty_chunks": True})
        chunk = array.chunks[0]
        for which in np.unique(indices // chunk):
            here = np.flatnonzero(indices // chunk == which)
            first = int(which) * chunk
            place = slice(first, min(first + chunk, array.shape[0]))
            # The chunk as a whole, so that it is replaced in one piece.
            known = np.any(self._done[place])
            rows = array[place] if known else empty(array, place)
            rows[indices[here] - first] = values[here]
            array[place] = rows

    def _new(self, group, name: str, variable: xarray.Variable):
        row = max(1, int(np.prod(variable.shape[1:], initial=1)) * variable.dtype.itemsize)
        few, many = _CHUNK_ROWS
        rows = int(np.clip(_CHUNK_BYTES // row, few, many))
        if self._total is not None:
            rows = max(1, min(self._total, rows))
        fill = np.nan if variable.dtype.kind == "f" else 0
        return group.create_array(
            name,
            shape=(len(self._done), *variable.shape[1:]),
            chunks=(rows, *(max(1, n) for n in variable.shape[1:])),
            dtype=variable.dtype,
            fill_value=fill,
            dimension_names=[str(dim) for dim in variable.dims],
            compressors=[zarr.codecs.ZstdCodec(level=1), zarr.codecs.Crc32cCodec()],
            attributes=dict(variable.attrs),
            config={"write_empty_chunks": True},  # a chunk that is not there is damage
        )

    def _write_whole(self, name: str, variable: xarray.Variable) -> None:
        values = np.asarray(variable.values)
        if name in self._root and holds(self._root[name], values):
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
        return files_of(self.path) / _IN_FLIGHT


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
