"""How often a diffrax solver evaluates the vector field."""

from typing import NamedTuple

import diffrax

from ._optimizer_steps import OptimizerSteps
from ._written_out import WrittenOut


class Evaluations(NamedTuple):
    """Evaluations of the vector field before the first step and in each attempt."""

    at_start: int
    per_attempt: int | None  # None where it is not always the same


def count_evaluations(
    solver: diffrax.AbstractSolver, chooses_first_step: bool
) -> Evaluations:
    """How often a method evaluates the vector field, where that is fixed.

    What a staged solver has evaluated is in its state, but for those of the controller.

    **Arguments:**

    - `solver`: any diffrax solver.
    - `chooses_first_step`: whether the controller tries two evaluations to choose the
      size of the first step.
    """
    choice = 2 if chooses_first_step else 0
    if isinstance(solver, (diffrax.Euler, OptimizerSteps)):
        return Evaluations(choice, 1)
    method = solver.method if isinstance(solver, WrittenOut) else solver
    tableau = getattr(method, "tableau", None)
    if isinstance(tableau, diffrax.StochasticButcherTableau):
        skipped = 0 if tableau.ignore_stage_f is None else sum(tableau.ignore_stage_f)
        return Evaluations(choice, len(tableau.b_sol) - int(skipped))
    if not isinstance(tableau, diffrax.ButcherTableau) or tableau.implicit:
        return Evaluations(choice, None)
    if tableau.fsal:  # the last stage is the next attempt's first
        return Evaluations(choice + 1, tableau.num_stages - 1)
    return Evaluations(choice, tableau.num_stages)
