"""Second-order Runge–Kutta–Chebyshev methods."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np

from ._solver import AbstractStagedSolver
from ._stage_table import stage_numbers, stage_table, StageTable

_DAMPING = 2 / 13
"""The ε of the paper, section 2."""

_MOST_STAGES = 2000
"""Chosen; enough for `h ρ` up to 2.6e6."""


class RKC2(AbstractStagedSolver):
    """The second-order Runge–Kutta–Chebyshev method with as many stages as a step needs.

    With `s` stages it is stable for real eigenvalues of `h ∇²𝓛` up to `0.653 (s² - 1)`. Its
    stages follow the recurrence of the Chebyshev polynomials `T_j`: with
    `w_0 = 1 + ε/s²`, `ε = 2/13`, `w_1 = T_s'(w_0) / T_s''(w_0)`,
    `b_j = T_j''(w_0) / T_j'(w_0)²` and `a_j = 1 - b_j T_j(w_0)`,

        Y_1 = y_0 + b_1 w_1 h f_0,
        Y_j = (1 - μ_j - ν_j) y_0 + μ_j Y_{j-1} + ν_j Y_{j-2}
              + κ_j h (f(Y_{j-1}) - a_{j-1} f_0),
        μ_j = 2 b_j w_0 / b_{j-1},  ν_j = -b_j / b_{j-2},  κ_j = 2 b_j w_1 / b_{j-1}.

    For spectra on the negative real axis, as gradient flow has them. Use it
    wherever a diffrax solver is used; in an ensemble each member takes its own number of
    stages.

    Source:
        B. P. Sommeijer, L. F. Shampine and J. G. Verwer, RKC: an explicit solver for
        parabolic PDEs, J. Comput. Appl. Math. 88 (1997) 315–326, section 2.

    Examples:
        >>> import diffrax, jax.numpy as jnp, jaxflow as jf
        >>> field = diffrax.ODETerm(lambda t, y, rates: -rates * y)
        >>> rates = jnp.array([1.0, 1e4])
        >>> controller = diffrax.PIDController(rtol=1e-3, atol=1e-6)
        >>> solution = diffrax.diffeqsolve(
        ...     field,
        ...     jf.solvers.RKC2(),
        ...     0.0,
        ...     1.0,
        ...     None,
        ...     jnp.ones(2),
        ...     rates,
        ...     stepsize_controller=controller,
        ... )
        >>> bool(abs(solution.ys[-1, 0] - jnp.exp(-1)) < 1e-3)
        True
    """

    drives: Callable[[Any], Any] | None = eqx.field(static=True, default=None)

    @property
    def table(self):
        return rkc2_table()

    def order(self, terms):
        return 2

    def error_order(self, terms):
        return 3


@functools.cache
def rkc2_table() -> StageTable:
    """The methods of 2 to 2,000 stages, of those that `stage_numbers` lists."""
    numbers = np.array(stage_numbers(2, _MOST_STAGES))
    num = len(numbers)
    return stage_table(
        interval=2 / 3 * (numbers**2 - 1) * (1 - 2 / 15 * _DAMPING),
        error_order=3,
        recurrences=[_recurrence(s) for s in numbers.tolist()],
        tableau=np.zeros((num, 1, 1)),  # one more slope, at the end of the step
        error_of_ends=np.tile([0.8, 0.4], (num, 1)),
    )


def _recurrence(s: int) -> np.ndarray:
    """The coefficients α, μ, ν, κ, γ of the method of `s` stages."""
    w_0 = 1 + _DAMPING / s**2
    value, first, second = [1.0, w_0], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, s + 1):
        second.append(4 * first[-1] + 2 * w_0 * second[-1] - second[-2])
        first.append(2 * value[-1] + 2 * w_0 * first[-1] - first[-2])
        value.append(2 * w_0 * value[-1] - value[-2])
    w_1 = first[s] / second[s]
    b = [second[j] / first[j] ** 2 for j in range(2, s + 1)]
    b = [b[0], b[0], *b]  # b_0 = b_1 = b_2
    rows = [(1.0, 0.0, 0.0, b[1] * w_1, 0.0)]
    for j in range(2, s + 1):
        mu, nu = 2 * b[j] * w_0 / b[j - 1], -b[j] / b[j - 2]
        kappa = 2 * b[j] * w_1 / b[j - 1]
        a = 1 - b[j - 1] * value[j - 1]
        rows.append((1 - mu - nu, mu, nu, kappa, -a * kappa))
    return np.array(rows)
