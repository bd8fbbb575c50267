"""Exact solutions that the flows are held against, in plain NumPy."""

import numpy as np


def chain_norm(depth: int, correlation: float, s: np.ndarray) -> np.ndarray:
    """`‖u(s)‖` of a balanced linear chain of width one under the NCF flow, `‖u(0)‖ = 1`.

    `N(u) = c u_1 … u_D` with all `u_l = a`: `da/ds = c a^(D-1)`, so
    `a^(2-D) = a_0^(2-D) - (D-2) c s`.
    """
    start = depth**-0.5
    power = start ** (2 - depth) - (depth - 2) * correlation * np.asarray(s)
    return depth**0.5 * power ** (-1 / (depth - 2))


def chain_blow_up(depth: int, correlation: float) -> float:
    """The rescaled time at which `chain_norm` is infinite."""
    return (depth**-0.5) ** (2 - depth) / ((depth - 2) * correlation)


def singular_mode(strength: float, start: float, t: np.ndarray) -> np.ndarray:
    """A singular mode `a(t)` of a balanced two-layer linear network on whitened data.

    `da/dt = 2 a (s - a)`: Saxe, McClelland and Ganguli (2014), arXiv:1312.6120, eq. (7).
    """
    growth = np.exp(2 * strength * np.asarray(t))
    return strength * growth / (growth - 1 + strength / start)


def hyperbolic_pair(u: float, v: float, correlation: float, s: float) -> tuple:
    """One coordinate of a depth-two diagonal network under the NCF flow.

    `du/ds = c v`, `dv/ds = c u`.
    """
    grow = (u + v) * np.exp(correlation * s)
    decay = (u - v) * np.exp(-correlation * s)
    return (grow + decay) / 2, (grow - decay) / 2


def order_of(depth: int, power: int) -> int:
    """`L = Σ_{l=1..D} p^(D-l)` of a feed-forward network."""
    return sum(power ** (depth - layer) for layer in range(1, depth + 1))


def layer_shares(depth: int, power: int) -> list[float]:
    """`‖W_l‖_F² = p^(D-l)/L` at a KKT point with `N ≠ 0`."""
    order = order_of(depth, power)
    return [power ** (depth - layer) / order for layer in range(1, depth + 1)]
