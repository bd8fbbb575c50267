"""Steps of any diffrax solver, each made in one attempt."""

from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp

from .._arrays import select
from ._stepper import AbstractStepper, Step, Work


class WholeSteps(AbstractStepper):
    """The steps of a diffrax solver.

    Arguments:
        solver: any diffrax solver.
    """

    solver: diffrax.AbstractSolver
    divisible = True
    is_light = False

    @property
    def estimates_error(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return isinstance(self.solver, diffrax.AbstractAdaptiveSolver)

    @property
    def evaluations_per_attempt(self) -> int | None:  # pyright: ignore
        return count_evaluations(self.solver).per_attempt

    def init(self, terms, t0, t1, y0, args):
        return _as_arrays(self.solver.init(terms, t0, t1, y0, args))

    def attempt(self, terms, t0, t1, y0, args, state):
        # Gradient flow does not depend on the clock, so nothing jumps and `made_jump` stays
        # False: as a traced value it would cost FSAL solvers one evaluation in every step.
        candidate, error, dense_info, following, result = self.solver.step(
            terms, t0, t1, y0, args, state, False
        )
        return Step(
            candidate=candidate,
            error=error,
            error_order=self.solver.error_order(terms),
            dense_info=dense_info,
            result=result,
            ready=jnp.asarray(True),
            settle=lambda accepted: select(accepted, _as_arrays(following), state),
        )

    def interpolation(self, t0, t1, dense_info):
        return self.solver.interpolation_cls(t0=t0, t1=t1, **dense_info)

    def longest_step(self, state):
        return None

    def cost(self, state, num_attempts):
        counted = count_evaluations(self.solver)
        if counted.per_attempt is None:
            return Work(None)
        return Work(counted.at_start + counted.per_attempt * num_attempts)

    def error_order(self, terms):
        return self.solver.error_order(terms)


class Evaluations(NamedTuple):
    """Evaluations of the vector field before the first step and in each attempt."""

    at_start: int
    per_attempt: int | None  # None where it is not always the same


def count_evaluations(
    solver: diffrax.AbstractSolver, chooses_first_step: bool = False
) -> Evaluations:
    """How often a diffrax solver evaluates the vector field, where that is fixed.

    Given a `solver`, and whether the controller `chooses_first_step`, for which it tries
    two evaluations.
    """
    choice = EVALUATIONS_OF_CHOICE if chooses_first_step else 0
    if isinstance(solver, diffrax.Euler):
        return Evaluations(choice, 1)
    tableau: Any = getattr(solver, "tableau", None)
    if isinstance(tableau, diffrax.StochasticButcherTableau):
        skipped = 0 if tableau.ignore_stage_f is None else sum(tableau.ignore_stage_f)
        return Evaluations(choice, len(tableau.b_sol) - int(skipped))
    if not isinstance(tableau, diffrax.ButcherTableau) or tableau.implicit:
        return Evaluations(choice, None)
    if tableau.fsal:  # the last stage is the next attempt's first
        return Evaluations(choice + 1, tableau.num_stages - 1)
    return Evaluations(choice, tableau.num_stages)


EVALUATIONS_OF_CHOICE = 2
"""What it takes a controller to choose the first step (Hairer, Nørsett and Wanner, Solving
Ordinary Differential Equations I, section II.4)."""


def _as_arrays(tree):
    """Python numbers in a solver's state become arrays, to be carried."""
    return jax.tree_util.tree_map(jnp.asarray, tree)
