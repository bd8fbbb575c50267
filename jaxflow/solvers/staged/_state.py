"""What is kept within a step and between steps of a staged solver."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._stepper import Scratch
from ._row import Row
from ._stage_table import StageTable

FRESH, ESTIMATING, RECURRING, FINISHING, SOLVING, READY = range(6)
"""The phases of a step; `_moves.py` draws the ways between them."""


COST_OF_A_STEP = 20
"""Evaluations of the vector field for which a member has to have a step left of
`max_steps`, since there is no limit to those of one stabilized step: members at rest, where
nothing but the largest number of stages limits its length, take hundreds. Chosen: three
times as many as an explicit step of order five needs, so that a member that gives up has
cost at most three times as much as with those alone."""


class System(NamedTuple):
    """`(I - h γ J) x = b` half solved by the method of conjugate residuals.

    Every iteration needs `J r`, a central difference: two evaluations.
    """

    residual: Float[Array, " n"]  # r
    direction: Float[Array, " n"]  # p
    image: Float[Array, " n"]  # q = (I - h γ J) p
    target: Float[Array, ""]  # for ‖r‖
    ahead: Float[Array, " n"]  # f(y_0 + ε r/‖r‖), in the second half of an iteration
    count: Int[Array, ""]  # evaluations so far


class WithinStep(NamedTuple):
    """What is kept within a step, once its method has been chosen."""

    newest: Float[Array, " n"]  # Y_j
    older: Float[Array, " n"]  # Y_{j-1}
    point: Float[Array, " n"]  # Y_k, kept for the error
    slopes: Float[Array, "slopes n"]  # K
    system: System  # for K_i, while SOLVING


class StagedState(NamedTuple):
    """What is kept between two evaluations of the vector field."""

    slope: Float[Array, " n"]  # f_0
    phase: Int[Array, ""]
    row: Int[Array, ""]  # the method of this step
    stage: Int[Array, ""]  # within the phase
    within: Scratch  # of a `WithinStep`
    rosenbrock_cost: Float[Array, ""]  # evaluations in a Rosenbrock step, as last seen
    radius: Float[Array, ""]  # estimate of the spectral radius
    vector: Float[Array, " n"]  # that belongs to it, of unit norm
    age: Int[Array, ""]  # accepted steps since the radius was estimated
    begun: Int[Array, ""]  # evaluations before this step's own
    work: Any  # a `Work` in which everything is counted

    @property
    def now(self) -> WithinStep:
        """What is kept within this step."""
        return self.within.value

    def with_now(self, **parts: Any) -> "StagedState":
        """The state with other parts of what is kept within this step."""
        return self._replace(within=Scratch(self.now._replace(**parts)))  # pyright: ignore

    def again(self) -> "StagedState":
        """The state from which the same step is made from its beginning."""
        inside = (self.phase != FRESH) & (self.phase != ESTIMATING)
        begun = jnp.where(inside, self.begun, self.work.num_evaluations)
        return self._replace(
            phase=jnp.where(inside, FRESH, self.phase).astype(self.phase.dtype),
            work=self.work._replace(num_evaluations=begun),
        )

    def steps_spent(self, num_steps: Int[Array, ""]) -> Int[Array, ""]:
        """How much of `max_steps` is used up: by steps, or by what they have cost."""
        cost = self.work.num_evaluations
        return jnp.maximum(
            num_steps, jax.lax.div(cost, jnp.full_like(cost, COST_OF_A_STEP))
        )

    @property
    def is_stage(self) -> Bool[Array, "slopes 1"]:
        """Which of the slopes belongs to the present stage."""
        stages = jnp.arange(self.now.slopes.shape[0], dtype=self.stage.dtype)
        return (stages == self.stage)[:, None]


class StepSetting(NamedTuple):
    """What stays the same within a step."""

    table: StageTable
    field: Callable[[Any], Any]
    start: Any  # y_0
    step: Any  # h
    size: Any  # of the weights
    drives: Any

    def row(self, number) -> Row:
        """A method of the table."""
        return Row(self.table, number, self.start.dtype)
