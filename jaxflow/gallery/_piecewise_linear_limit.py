"""The limit of wide networks without noise: a convex problem over places of knots.

Of `a σ(w x + b)` with `|a| ‖(w, b)‖ = m` the least `λ/2 (a² + w² + b²)` is `λ m`. So among
all networks the least mean square loss with its regularizer is that of

    min_c  1/(2n) Σ_i (Σ_k c_k σ(cos φ_k x_i + sin φ_k) - y_i)² + λ Σ_k |c_k|

over all angles φ. A neuron of angle φ has its knot at `-tan φ`, with a jump of the slope of
`c |cos φ|`: one at `t` costs `λ √(1 + t²)` for each unit of its mass.
"""

from typing import Any, NamedTuple

import numpy as np

from ..observables import distinct_knots

_ANGLES = 20_000
"""Angles on a circle. Chosen: places of knots are then right to a thousandth."""
_MOST = 200
"""Angles that are taken in, one after the other; about a dozen are needed. Chosen."""


class Limit(NamedTuple):
    """The network of least cost.

    `angles` (neurons,) and `weights` `c` of its neurons; `position` and `mass` of its
    knots; the `minimum`.
    """

    angles: np.ndarray
    weights: np.ndarray
    position: np.ndarray
    mass: np.ndarray
    minimum: float

    def values(self, x: np.ndarray) -> np.ndarray:
        """The function at these places."""
        return _features(x, self.angles) @ self.weights


def limit(x: np.ndarray, y: np.ndarray, strength: float) -> Limit:
    """The solution, with the angle whose condition fails the most taken in step by step.

    Arguments:
        x: inputs, (n,).
        y: targets, (n,).
        strength: `λ`.
    """
    angles = np.linspace(-np.pi, np.pi, _ANGLES, endpoint=False)
    features = _features(x, angles)
    chosen: Any = np.zeros(0, int)
    signs, sizes = np.zeros(0), np.zeros(0)
    residual = y
    for _ in range(_MOST):
        pull = features.T @ residual / len(x)
        worst = int(np.argmax(np.abs(pull)))
        if abs(pull[worst]) <= strength * (1 + 1e-9) or worst in chosen:
            break
        chosen, signs = np.append(chosen, worst), np.append(signs, np.sign(pull[worst]))
        sizes = _least(features[:, chosen] * signs, y, strength)
        kept = sizes > 0
        chosen, signs, sizes = chosen[kept], signs[kept], sizes[kept]
        residual = y - features[:, chosen] @ (signs * sizes)
    weights, turned = signs * sizes, angles[chosen]
    position, mass = -np.tan(turned), weights * np.abs(np.cos(turned))
    # Between two angles of the grid a knot is shared by both.
    found = distinct_knots(position, mass, within=0.01, share=1e-3)
    minimum = float(residual @ residual / (2 * len(x)) + strength * np.sum(sizes))
    return Limit(turned, weights, found.position, found.mass, minimum)


def _features(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    return np.maximum(np.outer(x, np.cos(angles)) + np.sin(angles), 0.0)


def _least(features: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """`min 1/(2n) |features c - y|² + λ Σ c` over `c >= 0`, as a least-squares problem."""
    from scipy.optimize import nnls  # which JAX brings along

    square = features.T @ features / len(y)
    rounding = 1e-13 * np.trace(square)  # of neighbouring angles, which are hardly two
    root = np.linalg.cholesky(square + rounding * np.eye(len(square)))
    linear = features.T @ y / len(y) - strength
    return nnls(root.T, np.linalg.solve(root, linear))[0]
