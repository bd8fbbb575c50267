"""Chunks of members of a Zarr array: which there are, and whether they are whole."""

import itertools
import pathlib
from collections.abc import Iterator

import numpy as np


def empty(array, place: slice) -> np.ndarray:
    shape = (place.stop - place.start, *array.shape[1:])
    return np.full(shape, array.fill_value, array.dtype)


def chunks(array) -> Iterator[slice]:
    rows = array.chunks[0]
    for first in range(0, array.shape[0], rows):
        yield slice(first, min(first + rows, array.shape[0]))


def holds(array, values: np.ndarray) -> bool:
    try:
        whole = array.nchunks_initialized == array.nchunks
        return bool(whole and np.array_equal(array[...], values))
    except Exception:  # whatever a codec makes of damaged bytes
        return False


def reads_back(array, path: pathlib.Path, place: slice) -> bool:
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


def is_written(status, place: slice) -> np.ndarray:
    try:
        return np.asarray(status[place]) != 0
    except Exception:  # the statuses are damaged themselves
        return np.ones(place.stop - place.start, bool)
