"""A store that fills while a run goes on, and from which a killed run goes on.

    run.zarr/                the dataset, as `_store.py` writes it; `status` is 0 for
                             members that are not done
    run.zarr/directions      the weights, one array each
    run.zarr/jaxflow         the manifest, and the lanes in flight

Members are written at their own places, a chunk of members at a time. The status of a
member is written after everything else, so that a member which is done is whole. When the
store is opened again, every file is compared with the manifest; members of whom a part is
not there as it was written are then no longer done.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import numpy as np
import xarray
import zarr
import zarr.codecs

from ..errors import StoreError
from ..stores import (
    CheckedStore,
    FILES,
    Lock,
    lock,
    move_to,
    open_for_writing,
    put_back,
    unfinished,
)
from ._chunks import files_of, member_arrays, missing
from ._declarations import ABOUT, MEMBERS
from ._kept_lanes import (
    GOES_ON_ATTR,
    GOING_ON,
    LANES,
    lanes_variable,
    read_lanes,
)
from ._members import NUMBER_ATTRS
from ._plain import plain
from ._settings import COORDINATES, is_reserved
from ._status import STATUS
from ._store import (
    DIRECTIONS,
    IDENTITY_ATTR,
    SIMULATION,
    UNFINISHED_ATTR,
    write_group,
)
from ._weights import STRUCTURE_ATTR, weights_dataset
from ._whole import checked_attributes, disk_errors, forget, is_empty, whole_members

_IN_FLIGHT = f"{FILES}/in_flight"
_CHUNK_BYTES = 2**22
_CHUNK_ROWS = (64, 8192)
"""Fewest and most members in a chunk, but for rows so large that fewer fill `_LARGEST`."""
_LARGEST = 2**26


class RunStore:
    """A store of one run, new or begun already.

    Arguments:
        path: the folder of the store.
        identity: all that makes this run what it is, by name, as numbers and strings.
        total: how many members there are; `None` if nobody knows yet.
        first: the number of the member in row 0, for a run of some members of many.
        lengths: fields of the equation that say how long members go on; `None` if members
            of an earlier run cannot.

    Raises:
        StoreError: if the folder holds something else, or another run.
    """

    def __init__(
        self,
        path: pathlib.Path,
        identity: Mapping[str, Any],
        total: int | None,
        first: int = 0,
        lengths: tuple[str, ...] | None = None,
    ):
        self.path = path
        self._lengths = lengths
        self._identity = json.loads(json.dumps(dict(identity)))
        self._total = total
        self._first = first
        self._lock = Lock(None)
        try:
            with disk_errors(path):
                self._store = self._opened(self._identity)
                self._root = self._open_root()
        except BaseException:
            self.close()
            raise

    def _opened(self, identity: Mapping[str, Any]) -> CheckedStore:
        """The store, new or as it was left, and who is done in it."""
        put_back(self.path)
        if not self.path.exists() or is_empty(self.path):
            attributes = {IDENTITY_ATTR: identity, UNFINISHED_ATTR: True}
            with unfinished(self.path, attributes) as (store, held):
                store.commit()
                if move_to(self.path, store):
                    self._lock = held.handed_over()
                    self._done = np.zeros(self._total or 0, bool)
                    return open_for_writing(self.path).store
        attributes = checked_attributes(self.path, identity, self._lengths)
        settled = None
        is_other = attributes[IDENTITY_ATTR] != identity
        if not attributes[UNFINISHED_ATTR] and not is_other:
            # A store that is whole is read where nothing can be written too.
            settled = open_for_writing(self.path, read_only=True)
        if settled is None or not settled.is_intact:
            self._lock = lock(self.path)
            settled = open_for_writing(self.path)
        done, forgotten, stale = whole_members(self.path, settled, self._total)
        if not settled.is_intact or np.any(forgotten):
            forget(settled.store, forgotten, stale)
        self._done = done
        return settled.store

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

    @property
    def is_of_earlier(self) -> bool:
        """Whether it holds a run that differs in nothing but how long members go on."""
        return self._root.attrs[IDENTITY_ATTR] != self._identity

    @property
    def goes_on(self) -> bool:
        """Whether members may go on from lanes of an earlier run."""
        return self.is_of_earlier or bool(self._root.attrs.get(GOES_ON_ATTR))

    @property
    def lane_bytes(self) -> int | None:
        """The bytes of a lane; `None` if it has none yet."""
        found: Any = self._root.get(f"{GOING_ON}/{LANES}")
        return None if found is None else found.shape[1]

    def lanes(self, rows: np.ndarray, size: int) -> np.ndarray:
        """The lanes from which these members go on, so many bytes each; zeros for who
        starts."""
        if self.lane_bytes is None:
            return np.zeros((len(rows), size), np.uint8)
        return read_lanes(self._root, rows)

    def begin_again(self, indices: np.ndarray, lanes: np.ndarray) -> None:
        """Make it the store of this run, in which nobody is done yet.

        Given the rows and the lanes of members that were in flight.
        """
        with disk_errors(self.path):
            # First nobody is done, with the run as it was. Who is killed before it is
            # another has members that go on to where they were.
            self._root.attrs.update({UNFINISHED_ATTR: True, GOES_ON_ATTR: True})
            self._done[:] = False
            if STATUS in self._root:
                status: Any = self._root[STATUS]
                status = status.with_config({"write_empty_chunks": True})
                status[:] = 0
            if len(indices):
                self._write_lanes(indices, lanes)
            self._store.remove(_IN_FLIGHT)
            self._store.commit()
            kept = {n: v for n, v in self._root.attrs.items() if n != ABOUT}
            self._root.attrs.put({**kept, IDENTITY_ATTR: self._identity})
            if SIMULATION in self._root:
                del self._root[SIMULATION]
            self._store.commit()

    def write(
        self,
        indices: np.ndarray,
        dataset: xarray.Dataset,
        directions: eqx.Module,
        lanes: np.ndarray | None = None,
    ) -> None:
        """Write members that are done.

        Arguments:
            indices: their rows in the store, from 0.
            dataset: their rows, in that order, with every status that can occur.
            directions: their networks, stacked likewise.
            lanes: from which they can go on, bytes (num, …), if they are kept.
        """
        parameters = weights_dataset(directions, MEMBERS)
        with disk_errors(self.path):
            if ABOUT not in self._root.attrs:
                self._root.attrs.update({**dataset.attrs, **_coordinates(dataset)})
            self._make_room(int(np.max(indices, initial=-1)) + 1)
            group = self._root.require_group(DIRECTIONS)
            if STRUCTURE_ATTR not in group.attrs:
                group.attrs.update(parameters.attrs)
            for name, variable in parameters.variables.items():
                self._write_rows(group, str(name), variable, indices)
            if lanes is not None:
                self._write_lanes(indices, lanes)
            for name, variable in dataset.variables.items():
                if variable.dims[:1] == (MEMBERS,) and name != MEMBERS:
                    self._write_rows(self._root, str(name), variable, indices)
                elif name != MEMBERS:
                    self._write_whole(self._root, str(name), variable)
            self._store.commit(last=f"{STATUS}/")
        self._done[indices] = True

    def finish(self, total: int) -> None:
        """Mark the store as whole, with this many members."""
        with disk_errors(self.path):
            for array in self._arrays():
                if array.shape[0] != total:
                    array.resize((total, *array.shape[1:]))
            numbers = self._first + np.arange(total, dtype=np.int64)
            variable = xarray.Variable((MEMBERS,), numbers, NUMBER_ATTRS)
            for group in (self._root, self._root.require_group(DIRECTIONS)):
                self._write_whole(group, MEMBERS, variable)
            self._store.remove(_IN_FLIGHT)
            self._store.commit()
            # Only now, as everything else is in its place.
            self._root.attrs[UNFINISHED_ATTR] = False
            self._store.commit()

    def set_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Put the caller's attributes in the place of those that an earlier call gave."""
        root, attrs = self._root.attrs, plain(attrs)
        ours = {n: v for n, v in root.items() if is_reserved(n)}
        others = {n: v for n, v in root.items() if n not in ours}
        if ABOUT in ours and json.dumps(others) != json.dumps(attrs):
            with disk_errors(self.path):
                self._begin_to_write()
                self._root.attrs.put({**ours, **attrs})
                self._store.commit()

    def keep(self, name: str, dataset: xarray.Dataset) -> None:
        """Keep a dataset in a group of its own, unless it is there."""
        try:
            whole = name in self._root and not list(missing(self._root[name], self._store))
        except StoreError:
            whole = False
        if whole:
            return
        with disk_errors(self.path):
            self._begin_to_write()
            write_group(self._store, name, dataset)
            self._store.commit()

    def save_in_flight(self, lanes: bytes) -> None:
        """Keep the lanes in flight in place of those kept before."""
        with disk_errors(self.path):
            self._store.put(_IN_FLIGHT, lanes)
            self._store.commit()

    def in_flight(self) -> bytes | None:
        """The lanes that were kept last."""
        return self._store.content(_IN_FLIGHT) or None

    def close(self) -> None:
        """Let others write the store."""
        self._lock.close()

    def _open_root(self) -> zarr.Group:
        return zarr.open_group(self._store, mode="r" if self._store.read_only else "r+")

    def _begin_to_write(self) -> None:
        """Lock a store that was only looked at."""
        if self._store.read_only:
            self._lock = lock(self.path)
            self._store = open_for_writing(self.path).store
            self._root = self._open_root()

    # -- arrays --

    def _arrays(self) -> Iterator[Any]:
        yield from member_arrays(self._root)

    def _make_room(self, num: int) -> None:
        """Rows for at least so many members, where their number is not known."""
        if self._total is not None or num <= len(self._done):
            return
        room = max(num, 2 * len(self._done), _CHUNK_ROWS[0])
        for array in self._arrays():
            array.resize((room, *array.shape[1:]))
        self._done = np.concatenate([self._done, np.zeros(room - len(self._done), bool)])

    def _write_lanes(self, indices: np.ndarray, lanes: np.ndarray) -> None:
        group = self._root.require_group(GOING_ON)
        self._write_rows(group, LANES, lanes_variable(lanes), indices, everybody=True)

    def _write_rows(
        self, group, name: str, variable: xarray.Variable, indices, *, everybody=False
    ) -> None:
        """Given `everybody`, whether rows of who is not done are kept too."""
        values = np.asarray(variable.values)
        array: Any = group[name] if name in group else self._new(group, name, variable)
        # Said anew for an array that is opened again; a chunk that is not there is damage.
        array = array.with_config({"write_empty_chunks": True})
        chunk = array.chunks[0]
        for which in np.unique(indices // chunk):
            here = np.flatnonzero(indices // chunk == which)
            first = int(which) * chunk
            place = slice(first, min(first + chunk, array.shape[0]))
            shape = (place.stop - place.start, *array.shape[1:])
            # The chunk as a whole, so that it is replaced in one piece, with zero for the
            # status of everybody who is not done.
            known = self._done[place] | everybody
            rows = np.full(shape, array.fill_value, array.dtype)
            if np.any(known):
                rows[known] = np.asarray(array[place])[known]
            rows[indices[here] - first] = values[here]
            array[place] = rows

    def _new(self, group, name: str, variable: xarray.Variable):
        row = max(1, int(np.prod(variable.shape[1:], initial=1)) * variable.dtype.itemsize)
        few, many = _CHUNK_ROWS
        few = int(np.clip(_LARGEST // row, 1, few))
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
            config={"write_empty_chunks": True},
        )

    def _write_whole(self, group, name: str, variable: xarray.Variable) -> None:
        values = np.asarray(variable.values)
        if name in group and self._holds(group[name], values):
            return
        array = group.create_array(
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

    def _holds(self, array, values: np.ndarray) -> bool:
        there = self._store.sizes()
        whole = all(file in there for file in files_of(array))
        return bool(whole and np.array_equal(array[...], values))


def _coordinates(dataset: xarray.Dataset) -> dict[str, str]:
    """The attribute by which xarray knows coordinates that are no dimensions."""
    names = [str(name) for name in dataset.coords if name not in dataset.dims]
    return {COORDINATES: " ".join(names)} if names else {}
