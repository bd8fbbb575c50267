"""What ended a member, by name and as a code that is the same in all runs.

codes               what ended the member
-4 … -1             a failure
0                   nothing yet: the member is not done
1 … 127             a stop condition of jaxflow, or another end that is no failure
code + 128 (k - 1)  the k-th condition of the same class, such as `LossBelow_2`
2²⁰ and above       a condition of somebody's own: a hash of its name
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray

from ..errors import InputError
from ._columns import joined
from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    Sheet,
)
from ._indexing import Index, pick

UNFINISHED = "unfinished"
"""The status of a member that is not done; its code is zero."""
STATUS = "status"

_CODES = {
    "solver_failed": -4,
    "step_too_small": -3,
    "non_finite": -2,
    "max_steps": -1,
    UNFINISHED: 0,
    "LossBelow": 1,
    "RescaledTime": 2,
    "Time": 3,
    "LogTime": 4,
    "NormAbove": 5,
    "Stationary": 6,
    "MarginConverged": 7,
    "NumSteps": 8,
    "minimum": 20,
    "stays": 21,
    "max_saddles": 22,
    "rests_at_kink": 23,
    "saddle": 24,
}
"""They are in files: what has a code keeps it, and new names get new ones."""
_REPEATED = 128
_OWN = 2**20  # so many that repeated conditions stay below


def status_code(name: str) -> int:
    """The code of a status, a function of its name alone."""
    if name in _CODES:
        return _CODES[name]
    known, _, number = name.rpartition("_")
    if _CODES.get(known, 0) > 0 and number.isdecimal() and number.isascii():
        repeated = _CODES[known] + _REPEATED * (int(number) - 1)
        if 2 <= int(number) and repeated < _OWN:
            return repeated
    digest = hashlib.sha256(name.encode()).digest()
    return _OWN + int.from_bytes(digest[:8]) % (2**31 - _OWN)


class Ending(NamedTuple):
    """A way in which members ended."""

    name: str
    failed: bool
    rows: np.ndarray  # a mask of the members

    @property
    def label(self) -> str:
        return f"{self.name} (failed)" if self.failed else self.name


def endings(status: Any) -> list[Ending]:
    """How members ended: failures first, and what most of them did before the rest."""
    status = np.ravel(status).astype(str)
    names, counts = np.unique(status, return_counts=True)
    found = [(status_code(name) >= 0, -count, name) for name, count in zip(names, counts)]
    return [
        Ending(str(name), not as_asked, status == name)
        for as_asked, _, name in sorted(found)
    ]


def ended_by(status: Any) -> str:
    """The same in a line; of a single member without a count."""
    if not np.ndim(status):
        return endings(status)[0].label
    return " · ".join(f"{end.label} {end.rows.sum():,}" for end in endings(status))


def has_failed(status: Any) -> np.ndarray:
    """Which members gave up, and ended by no condition; of the shape of `status`."""
    status = np.asarray(status).astype(str)
    return np.isin(status, [name for name, code in _CODES.items() if code < 0])


class StatusTable(NamedTuple):
    """Codes and the names they stand for, side by side."""

    values: tuple[int, ...]
    meanings: tuple[str, ...]


def status_table(names: Iterable[str] = ()) -> StatusTable:
    """All codes that are fixed, and those of these names, in rising order.

    Raises:
        InputError: if two names share a code.
    """
    by_code = {code: name for name, code in _CODES.items()}
    for name in names:
        other = by_code.setdefault(status_code(name), name)
        if other != name:
            raise InputError(
                "stop",
                f"{other} and {name}, whose names give the same code {status_code(name)}",
                "classes of which one has another name",
            )
    return StatusTable(*zip(*sorted(by_code.items())))


def encode(status: Any, names: Sequence[str] = ()) -> tuple[np.ndarray, StatusTable]:
    """The codes of statuses, in the smallest type that holds those of all `names` too."""
    status = np.asarray(status).astype(str)
    found, places = np.unique(status, return_inverse=True)
    all_names = dict.fromkeys([*names, *found.tolist()])
    codes = [status_code(name) for name in all_names]
    small = np.iinfo(np.int8)
    fits = all(small.min <= code <= small.max for code in codes)
    dtype = np.int8 if fits else np.int32
    each = np.array([status_code(name) for name in found.tolist()], dtype)
    found_codes = np.asarray(each[places]).reshape(status.shape)
    return found_codes, status_table(all_names)


def decode(variable: xarray.DataArray) -> np.ndarray:
    """The statuses of codes, by what the variable says of itself.

    Raises:
        KeyError: if a code has no meaning.
    """
    meanings = dict(
        zip(
            np.ravel(variable.attrs["flag_values"]).tolist(),
            variable.attrs["flag_meanings"].split(" "),
            strict=True,
        )
    )
    codes = variable.values
    names = [meanings[code] for code in np.ravel(codes).tolist()]
    return np.array(names, str).reshape(codes.shape)


@dataclasses.dataclass(frozen=True)
class _Status(AbstractDeclaration):
    """What ended each member: names in memory, codes in the dataset."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return pick(value, index)

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        return joined(name, [np.atleast_1d(value) for value in values], 0)

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        codes, table = encode(value, sheet.statuses)
        attrs = {
            "long_name": "what ended the member; see flag_meanings",
            "flag_values": list(table.values),
            "flag_meanings": " ".join(table.meanings),
            "units": "1",
        }
        dims = () if owner.is_single else (owner.dimension,)
        sheet.variables[name] = xarray.Variable(dims, codes, attrs)

    def read(self, name: str, source: AbstractSource) -> Any:
        return decode(source.dataset[name])


def status_column() -> Any:
    """Declare the field that names what ended each member."""
    return declared(_Status())
