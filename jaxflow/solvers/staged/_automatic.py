"""Explicit steps while accuracy limits them, stabilized ones while stability does."""

import functools
from collections.abc import Callable
from typing import Any, cast

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ._rkc import rkc2_table
from ._rosenbrock import rodasp_table
from ._solver import AbstractStagedSolver
from ._stage_table import join, stage_table, StageTable
from ._state import StagedState, Verdict

_STIFF, _NOT_STIFF = 2.5, 2.0
"""A step of Tsit5 with a larger `h ρ` than the first is taken to be limited by stability,
which ends at 3.5. A stabilized step with a smaller one than the second could have been one
of Tsit5; that is less, so that members do not change to and fro. Chosen;
benchmarks/plateau.py was run with them."""

_EVIDENCE = 6
"""How many more steps than not must have found the other kind of method better before it
takes over. Hairer and Wanner's DOPRI5 waits for 15 such steps before it calls a problem
stiff, and for 6 others to forget them; six was chosen for both ways."""


class Automatic(AbstractStagedSolver):
    """Tsit5, and a stabilized method wherever stability limits the steps.

    `gradient_flow(..., solver="auto")` uses it. With Tsit5, `h ρ` is seen in the difference
    of the last two stages, at no cost; when it stays near the limit of stability the
    stabilized method takes over, and gives back when `h ρ` has become small.

    **Source:** E. Hairer and G. Wanner, Solving Ordinary Differential Equations II, section
    IV.2 (stiffness detection).
    """

    drives: Callable[[Any], Any] | None = eqx.field(static=True, default=None)

    @property
    def table(self):
        return _table()

    def judge(self, state: StagedState, step, stiffness):
        stiff = step * state.radius
        better = jnp.where(state.stabilized, stiff < _NOT_STIFF, stiffness > _STIFF)
        evidence = jnp.where(better, state.evidence + 1, jnp.maximum(state.evidence - 1, 0))
        turns = evidence >= _EVIDENCE
        return Verdict(
            stabilized=state.stabilized ^ turns, evidence=jnp.where(turns, 0, evidence)
        )

    def order(self, terms):
        return 5


@functools.cache
def _table() -> StageTable:
    return join([_tsit5_table(), rkc2_table(), rodasp_table()])


def _tsit5_table() -> StageTable:
    tableau = cast(diffrax.ButcherTableau, diffrax.Tsit5.tableau)
    num = tableau.num_stages
    lower = np.zeros((1, num, num))
    for i, row in enumerate(tableau.a_lower, start=1):
        lower[0, i, :i] = row
    return stage_table(
        interval=np.array([3.0]),
        error_order=5,
        tableau=lower,
        error=np.asarray(tableau.b_error)[None],
        bulge=np.array([_BULGE]),
    )


_BULGE = [
    -1.0530884977290216,
    0.1017,
    2.490627285651252793,
    -16.54810288924490272,
    47.37952196281928122,
    -34.87065786149660974,
    2.5,
]
"""The coefficients of θ⁴ in the weights of Tsit5's dense output, as diffrax has them."""
