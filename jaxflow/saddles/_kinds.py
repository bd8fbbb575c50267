"""What a visit is: the start of a member, a saddle, or a near miss.

A member waits at a saddle for its small parts, which grow from almost nothing. Elsewhere it
may become slow and leave again because what has grown still moves: a near miss. What tells
them apart is the *steadiness* of the descent,

    ‖∇𝓛‖² W / (𝓛 - 𝓛_departure),

with the least `‖∇𝓛‖` and the wait `W` from there to the departure. As the loss falls by
`∫ ‖∇𝓛‖² dt`, it is the least square of the gradient over its mean: near one for a steady
descent, small where something begins to grow. Where the small parts predict a longer wait
than there was, `W` is that one: a member that leaves long before its small parts can was
not at rest.

For `L = 2` members pass saddles in times that are no longer than a few relaxation times,
and the descent is not that unsteady. It is a saddle all the same where the small parts have
taken over: where their own pull `∇N_r` makes up most of `‖∇𝓛‖`, as it does once all else is
at rest.

Errors of steps keep `‖∇𝓛‖`, and with it the steadiness, from becoming as small as they
should be. Where `‖∇𝓛‖` was as small as they let it, and there alone, what happens decides:
it is a saddle if the small parts left it when they were predicted to.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray

from ..results import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    decode,
    Index,
    joined,
    MEMBERS,
    Sheet,
)

ORIGIN, START, SADDLE, NEAR_MISS, NONE = "origin", "start", "saddle", "near_miss", ""
_KINDS = ("none", ORIGIN, START, SADDLE, NEAR_MISS)
"""By their codes, which are in files. Zero is also what stands where nothing is."""

_STEADY = 0.1
"""The largest steadiness of a saddle. Where small parts grow like `e^{λt}`, as for `L = 2`,
it is `2λW e^{-2λW}`, so they have grown at least sevenfold during the visit; for `L > 2`,
where it is `L/(L-2)` times the ratio of their norms to the power `L`, threefold for
`L = 3`. Of 40 members of diagonal and leaky networks of order 3 at δ = 1e-4 saddles had at
most 0.05 and all others at least 0.3."""

_TAKEN_OVER, _RISES = 0.5, 0.5
"""The share of the small parts' pull in `‖∇𝓛‖²` from which on they have taken over, and the
largest steadiness of a saddle then: the gradient doubles until the departure. Chosen; in
linear networks of singular values 3, 2, 1 predictions are then right to 1%."""


def steadiness_of(
    log_gradient: np.ndarray, log_wait: np.ndarray, fallen: np.ndarray
) -> np.ndarray:
    """The least square of the gradient over its mean from there to the departure.

    Arguments:
        log_gradient: the logarithm of `‖∇𝓛‖`.
        log_wait: the logarithm of the wait; minus infinity for none.
        fallen: by how much the loss falls, or would have to fall, until the departure.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = np.exp(2 * log_gradient + log_wait - np.log(fallen))
    return np.where(np.isneginf(log_wait) | np.isneginf(log_gradient), 0.0, found)


def kinds_of(still: np.ndarray, first: np.ndarray, at_origin: np.ndarray) -> np.ndarray:
    """What every visit is.

    Given whether the member waits there as at a saddle, whether it is its `first` visit,
    and whether nothing has grown there.
    """
    later = np.where(still, SADDLE, NEAR_MISS)
    return np.where(first, np.where(at_origin, ORIGIN, START), later)


_TOLD = 0.1
"""The largest relative error of a wait that came as predicted. Chosen: most are a hundred
times smaller, and those at near misses are off by factors."""


def is_still(
    steadiness: np.ndarray, small_share: np.ndarray, is_told: np.ndarray
) -> np.ndarray:
    """Whether a member waits as at a saddle.

    Given the steadiness of the descent; the share that the small parts have in `‖∇𝓛‖²`, NaN
    where that is not known; and whether the steadiness hides behind errors of steps and the
    wait was as predicted.
    """
    taken_over = (small_share >= _TAKEN_OVER) & (steadiness <= _RISES)
    return (steadiness <= _STEADY) | taken_over | is_told


def came_true(log_wait: np.ndarray, log_predicted: np.ndarray) -> np.ndarray:
    """Whether a wait was as predicted, given the logarithms of both."""
    known = np.isfinite(log_wait) & np.isfinite(log_predicted)
    ahead = np.where(known, log_predicted, 0.0) - np.where(known, log_wait, 0.0)
    return known & (np.abs(np.expm1(ahead)) <= _TOLD)


@dataclasses.dataclass(frozen=True)
class _Kinds(AbstractDeclaration):
    """What every visit is: words in memory, codes in the dataset."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return np.asarray(np.asarray(value)[index])

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        rows = [np.atleast_2d(value) for value in values]
        longest = max(each.shape[1] for each in rows)
        rows = [np.pad(r, ((0, 0), (0, longest - r.shape[1]))) for r in rows]
        return joined(name, rows, 0)

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        words = np.where(np.asarray(value) == NONE, _KINDS[0], value)
        codes = np.array([_KINDS.index(str(word)) for word in words.ravel()], np.int8)
        attrs = {
            "long_name": "what the visit is; see flag_meanings",
            "flag_values": list(range(len(_KINDS))),
            "flag_meanings": " ".join(_KINDS),
            "units": "1",
        }
        dims = ("saddle",) if owner.is_single else (MEMBERS, "saddle")
        sheet.variables[name] = xarray.Variable(dims, codes.reshape(words.shape), attrs)

    def read(self, name: str, source: AbstractSource) -> Any:
        words = decode(source.dataset[name])
        return np.where(words == _KINDS[0], NONE, words)


def kinds_column() -> Any:
    """Declare the field that says what every visit is."""
    return declared(_Kinds())
