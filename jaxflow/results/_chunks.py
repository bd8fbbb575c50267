"""The arrays of a store, their chunks, and the files that hold them."""

import itertools
from collections.abc import Iterator
from typing import Any

import zarr

from ..stores import CheckedStore
from ._declarations import MEMBERS
from ._kept_lanes import GOING_ON
from ._store import DIRECTIONS


def member_arrays(root: zarr.Group) -> Iterator[Any]:
    """All arrays whose first axis is that of the members, but for their numbers."""
    groups = [root]
    for name in (DIRECTIONS, GOING_ON):
        if name in root:
            groups.append(root[name])  # pyright: ignore[reportArgumentType]
    for group in groups:
        for _, array in group.arrays():
            dims = getattr(array.metadata, "dimension_names", None) or ("",)
            if dims[0] == MEMBERS and array.name.rpartition("/")[2] != MEMBERS:
                yield array


def chunks(array) -> Iterator[tuple[slice, str]]:
    """Rows of members, and the file that has them."""
    rows = array.chunks[0]
    rest = "".join(itertools.repeat("/0", array.ndim - 1))
    for number, first in enumerate(range(0, array.shape[0], rows)):
        place = slice(first, min(first + rows, array.shape[0]))
        yield place, f"{array.path}/c/{number}{rest}"


def files_of(array) -> Iterator[str]:
    """The files of all chunks of an array."""
    counts = [-(-n // chunk) for n, chunk in zip(array.shape, array.chunks)]
    for numbers in itertools.product(*map(range, counts)):
        yield "/".join([array.path, "c", *map(str, numbers)])


def missing(group, store: CheckedStore) -> Iterator[str]:
    """Files of the arrays in a group that have gone."""
    there = store.sizes()
    for _, array in group.arrays():
        yield from (file for file in files_of(array) if file not in there)
