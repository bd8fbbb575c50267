"""Which stepper makes the steps of a solver that the caller gave."""

from collections.abc import Callable
from typing import Any

import diffrax

from ._stepper import AbstractStepper
from ._unsplit import splits, Unsplit
from ._whole_steps import WholeSteps
from ._written_out import write_out


def as_stepper(solver: Any, flow: Any) -> AbstractStepper:
    """The stepper of a solver for a flow.

    A solver may have a method `stepper(flow)` that gives its own; steppers are their own;
    any other diffrax solver makes whole steps, written out where that is faster.

    Given a diffrax solver or an `AbstractStepper`, and the flow.
    """
    own: Callable[[Any], AbstractStepper] | None = getattr(solver, "stepper", None)
    if own is not None:
        return own(flow)
    if isinstance(solver, AbstractStepper):
        return solver
    if splits(solver):
        return WholeSteps(Unsplit(solver))  # pyright: ignore[reportCallIssue]
    return WholeSteps(write_out(solver))  # pyright: ignore[reportCallIssue]


def is_solver(solver: Any) -> bool:
    """Whether steps can be made with it."""
    return isinstance(solver, (diffrax.AbstractSolver, AbstractStepper))
