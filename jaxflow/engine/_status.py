"""What ended a member, as numbers that fit in an array."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..stops import AbstractStop

RUNNING = 0
RESTS_AT_KINK = -5
MAX_STEPS = -1
NON_FINITE = -2
STEP_TOO_SMALL = -3
SOLVER_FAILED = -4

FAILURES = {
    MAX_STEPS: "max_steps",
    NON_FINITE: "non_finite",
    STEP_TOO_SMALL: "step_too_small",
    SOLVER_FAILED: "solver_failed",
}

OTHERS = {RESTS_AT_KINK: "rests_at_kink"}
"""What ends members besides: neither a condition nor a failure."""

NOBODY = -100
"""The status of a lane without a member: it is not live, and has no outcome."""

PAUSED = -101
"""The status of a lane whose next attempt ends it, or is changed by its stop conditions. It
waits until it is kept, and goes on to its end."""

PASSED = -102
"""The status of a member that was to go on from where stop conditions hold already."""


class StatusNames(NamedTuple):
    """The meaning of every status that a run can give: code and name, side by side."""

    codes: tuple[int, ...]
    names: tuple[str, ...]


def status_names(stops: Sequence[AbstractStop]) -> StatusNames:
    """Codes 1, 2, … are the stop conditions in their order; negative ones are not."""
    named = dict(enumerate(distinct_names([stop.name for stop in stops]), start=1))
    named.update(FAILURES | OTHERS)
    return StatusNames(tuple(named), tuple(named.values()))


def with_loss(codes: np.ndarray, loss: Any) -> np.ndarray:
    """The codes of members that ended with these losses: `NON_FINITE` without a number.

    A step tells whether the loss is a number where it begins. At a member's end no step
    begins, and no more is evaluated there than what results show. `loss` is `None` for
    flows that show none.
    """
    if loss is None:
        return codes
    return np.where(np.isfinite(loss), codes, NON_FINITE)


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names with a number behind those that come again: `LossBelow`, `LossBelow_2`."""
    found: dict[str, None] = {}
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        candidates = itertools.chain([name], numbered)
        found[next(each for each in candidates if each not in found)] = None
    return tuple(found)
