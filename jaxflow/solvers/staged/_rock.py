"""Fourth-order stabilized methods of the ROCK4 family."""

import functools
import importlib.resources
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np

from ._solver import AbstractStagedSolver
from ._stage_table import stage_table, StageTable

_MOST_STAGES = 16
"""Longer members lose digits: see `ROCK4`, scripts/rock4_coefficients.py and
tests/test_rock4_table.py."""


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

    Arguments:
        drives: which components of a state others depend on; set by `gradient_flow`.

    Source:
        A. Abdulle, Fourth order Chebyshev methods with recurrence relation, SIAM J. Sci.
        Comput. 23 (2002) 2041–2054. Coefficients and error estimate are our own, computed
        from the order conditions.

    Examples:
        >>> import diffrax, jax.numpy as jnp, jaxflow as jf
        >>> field = diffrax.ODETerm(lambda t, y, rates: -rates * y)
        >>> rates = jnp.array([1.0, 1e3])
        >>> controller = diffrax.PIDController(rtol=1e-6, atol=1e-9)
        >>> solution = diffrax.diffeqsolve(
        ...     field,
        ...     jf.solvers.ROCK4(),
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

    def order(self, terms):
        return 4


@functools.cache
def rock4_table() -> StageTable:
    """The methods of 5 to 16 stages, as `scripts/rock4_coefficients.py` computes them."""
    file = importlib.resources.files("jaxflow.solvers.staged") / "rock4.npz"
    with file.open("rb") as opened, np.load(opened) as stored:
        found = {name: stored[name] for name in stored.files}
    num = int(np.sum(found["stages"] <= _MOST_STAGES))
    found |= {name: found[name][:num] for name in _BY_ROW}
    tableau, error = np.zeros((num, 5, 5)), np.zeros((num, 5))
    tableau[:, :4, :4], tableau[:, 4, :4] = found["a"], found["b"]
    error[:, :4] = found["error"][:, :4]
    ends = found["first"] + found["stages"] - 4
    return stage_table(
        interval=found["length"],
        error_order=4,
        recurrences=[
            _recurrence(found["mu"][first:end], found["mut"][first:end])
            for first, end in zip(found["first"], ends)
        ],
        tableau=tableau,
        error=error,
        error_of_points=found["error"][:, 4:],
        point=found["middle"],
    )


def _recurrence(mu: np.ndarray, kappa: np.ndarray) -> np.ndarray:
    """The coefficients α, μ, ν, κ, γ of `Y_j = μ Y_{j-1} + (1 - μ) Y_{j-2} + h κ f`."""
    zero = np.zeros_like(mu)
    return np.stack([zero, mu, 1 - mu, kappa, zero], axis=1)


_BY_ROW = ("stages", "length", "first", "middle", "a", "b", "error")
