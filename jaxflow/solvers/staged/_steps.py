"""The stepper that makes a staged solver's steps a few evaluations at a time."""

from typing import Any

import diffrax

from ..._arrays import select
from .._stepper import AbstractStepper, Step


class StagedSteps(AbstractStepper):
    """Steps that are made a few evaluations of the vector field in each attempt.

    Arguments:
        solver: an `AbstractStagedSolver`.
    """

    solver: Any
    divisible = True
    estimates_error = True
    evaluations_per_attempt = None
    # A few evaluations, for which the whole state, many vectors, would be taken out of a
    # pool of lanes and put back if lanes went one after another.
    is_light = True

    def init(self, terms, t0, t1, y0, args):
        return self.solver.init(terms, t0, t1, y0, args)

    def attempt(self, terms, t0, t1, y0, args, state):
        solver = self.solver
        progress = solver.advance(terms, t0, t1, y0, args, state)
        ready = solver.is_ready(progress)
        candidate, error, dense_info = solver.finish(t0, t1, y0, progress)
        return Step(
            candidate=candidate,
            error=error,
            error_order=solver.error_order_of(progress),
            dense_info=dense_info,
            result=diffrax.RESULTS.successful,
            ready=ready,
            settle=lambda accepted: select(
                ready, solver.settle(t0, t1, y0, progress, accepted), progress
            ),
        )

    def interpolation(self, t0, t1, dense_info):
        return self.solver.interpolation_cls(t0=t0, t1=t1, **dense_info)

    def again(self, state):
        return state.again()

    def steps_spent(self, state, num_steps):
        return state.steps_spent(num_steps)

    def longest_step(self, state):
        return self.solver.longest_step(state)

    def cost(self, state, num_attempts):
        return state.work

    def error_order(self, terms):
        return self.solver.error_order(terms)
