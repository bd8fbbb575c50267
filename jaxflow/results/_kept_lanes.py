"""The lanes from which members of a stored run go on: one row of bytes for each member.

    run.zarr/going_on/lanes  uint8 (num, bytes); zeros for who has none

A row is in one chunk, so that it is replaced in one piece. Of a member that is not done it
is that of an earlier run, which had other stop conditions.
"""

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray
import zarr

from ..stores import open_for_reading, standing
from ._declarations import MEMBERS

GOING_ON = "going_on"
LANES = "lanes"
GOES_ON_ATTR = "jaxflow_goes_on"
"""The attribute of a store some of whose members come from an earlier run."""

_LONGER = re.compile(r"stops\.\d+\.(?!class\b)|stepping\.max_steps$")
"""What in an identity says how long members go on, whatever the equation."""


def lanes_variable(lanes: np.ndarray) -> xarray.Variable:
    """Lanes as they are stored."""
    attrs = {"long_name": "from where each member can go on", "units": "1"}
    return xarray.Variable((MEMBERS, "byte"), lanes, attrs)


def read_lanes(root: zarr.Group, rows: np.ndarray) -> np.ndarray:
    """The lanes of the members in these rows, with zeros for those that have none."""
    array: Any = root[f"{GOING_ON}/{LANES}"]
    found = np.zeros((len(rows), array.shape[1]), np.uint8)
    there = np.flatnonzero(rows < array.shape[0])
    if len(there):
        first, last = int(rows[there].min()), int(rows[there].max())
        found[there] = np.asarray(array[first : last + 1])[rows[there] - first]
    return found


def lanes_reader(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function of rows that reads the lanes of a finished run."""

    def read(rows: np.ndarray) -> np.ndarray:
        store = open_for_reading(standing(path))
        return read_lanes(zarr.open_group(store, mode="r"), rows)

    return read


def is_longer(
    found: Mapping[str, Any], wanted: Mapping[str, Any], lengths: tuple[str, ...]
) -> bool:
    """Whether two runs differ in nothing but in how long members go on.

    Given the identities of both, and the fields of the equation that say so.
    """
    if set(found) != set(wanted):
        return False
    own = {f"equation.{length}" for length in lengths}
    different = [name for name in found if found[name] != wanted[name]]
    return all(name in own or _LONGER.match(name) for name in different)
