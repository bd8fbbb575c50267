"""Fourth-order stabilized methods of the ROCK4 family."""

import functools
import importlib.resources
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np

from .stage_table import rows, StageTable
from .staged import AbstractStagedSolver, Verdict

_MOST_STAGES = 16


class ROCK4(AbstractStagedSolver):
    """The fourth-order orthogonal-Runge–Kutta–Chebyshev methods of 5 to 16 stages.

    With `s` stages they are stable for real eigenvalues of `h ∇²𝓛` up to about `0.35 s²`
    (6.0 for five stages, 87 for sixteen): a three-term recurrence of `s - 4` stages, whose
    polynomials are orthogonal with a weight that leaves room for a quartic factor, and four
    stages that raise the order. Steps of a larger `h ρ` are rejected.

    Longer members exist (`scripts/rock4_coefficients.py`), but lose their order, and in the
    end their stability, where stiff directions turn along the path, as those of gradient
    flow do: remainders of the size `h² y''` are amplified by about `s⁶`. `RKC2` has no such
    weakness and is the method for long steps.

    **Arguments:**

    - `drives`: which components of a state others depend on; set by `gradient_flow`.

    **Source:** A. Abdulle, Fourth order Chebyshev methods with recurrence relation, SIAM J.
    Sci. Comput. 23 (2002) 2041–2054. Coefficients and error estimate are our own, computed
    from the order conditions.

    >>> import diffrax, jax.numpy as jnp
    >>> field = diffrax.ODETerm(lambda t, y, rates: -rates * y)
    >>> rates = jnp.array([1.0, 1e3])
    >>> controller = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    >>> solution = diffrax.diffeqsolve(
    ...     field,
    ...     ROCK4(),
    ...     0.0,
    ...     1.0,
    ...     None,
    ...     jnp.ones(2),
    ...     rates,
    ...     stepsize_controller=controller,
    ... )
    >>> bool(abs(solution.ys[-1, 0] - jnp.exp(-1)) < 1e-5)
    True
    """

    drives: Callable[[Any], Any] | None = eqx.field(static=True, default=None)

    @property
    def table(self):
        return rock4_table()

    @property
    def num_plain(self):
        return 0

    def judge(self, state, step, stiffness):
        return Verdict(state.stabilized, state.evidence)

    def order(self, terms):
        return 4


@functools.cache
def rock4_table() -> StageTable:
    """The methods of 5 to 16 stages, as `scripts/rock4_coefficients.py` computes them."""
    file = importlib.resources.files("jaxflow.solvers") / "rock4.npz"
    with file.open("rb") as opened, np.load(opened) as stored:
        found = {name: stored[name] for name in stored.files}
    num = len(found["stages"])
    mu, kappa = found["mu"], found["mut"]
    zero = np.zeros_like(mu)
    tableau, error = np.zeros((num, 5, 5)), np.zeros((num, 5))
    tableau[:, :4, :4], tableau[:, 4, :4] = found["a"], found["b"]
    error[:, :4] = found["error"][:, :4]
    whole = StageTable(
        interval=found["length"],
        length=np.diff(found["first"], append=len(mu)),
        first=found["first"],
        recurrence=np.stack([zero, mu, 1 - mu, kappa, zero], axis=1),
        error_order=np.full(num, 4),
        last=np.full(num, 4),
        tableau=tableau,
        error=error,
        error_of_ends=np.zeros((num, 2)),
        error_of_points=found["error"][:, 4:],
        point=found["middle"],
        bulge=np.zeros((num, 5)),
        gamma=np.zeros(num),
        coupling=np.zeros((num, 5, 5)),
    )
    return rows(whole, slice(int(np.sum(found["stages"] <= _MOST_STAGES))))
