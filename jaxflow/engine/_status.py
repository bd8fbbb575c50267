"""What ended a member, as numbers that fit in an array."""

from typing import NamedTuple

RUNNING = 0
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

NOBODY = -100
"""The status of a lane without a member: it is not live, and nobody asks for it."""


class StatusNames(NamedTuple):
    """The meaning of every status that a run can give: code and name, side by side."""

    codes: tuple[int, ...]
    names: tuple[str, ...]


def status_names(stops: tuple) -> StatusNames:
    """Codes 1, 2, … are the stop conditions in their order; negative ones are failures."""
    named = {i: type(stop).__name__ for i, stop in enumerate(stops, start=1)}
    named.update(FAILURES)
    return StatusNames(tuple(named), tuple(named.values()))
