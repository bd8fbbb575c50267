"""The reduced problem: rank-one KKT points of deep networks from vectors in input space.

If every hidden `u_l` of a rank-one network has one sign, it may be taken as non-negative.
Then `v_{l+1} = ε_l u_lᵖ/‖u_lᵖ‖` with a sign `ε_l`, and the network is a scalar chain,

    H(x) = C φ(⟨v, x⟩),    φ(t) = ε_{D-1} σ(ε_{D-2} σ(… ε_1 σ(t))),    v = v_1.

Its KKT system is that of `max zᵀφ(Xv)` over unit vectors: `Σ_i z_i φ'(⟨v,x_i⟩) x_i = μ v`.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, PRNGKeyArray

from .._arrays import by_precision
from .._checks import (
    check_dtype,
    check_items,
    check_key,
    check_numbers,
    check_sizes,
    check_whole,
    shown,
)
from .._compiled import compiled
from .._rows import map_lanes
from ..errors import InputError
from ..networks import FeedForward, LeakyReLU
from ..tasks import check_task, Task
from ._activation import check_sharp, sigma_and_derivative
from ._rank_one import squared_norms

_SAME = 1e-7
"""The distance below which two directions in the plane are one; chosen. Tests hold the
points against a scan of all angles."""

_ZERO = 1e-12
"""Share of `Σ_i |z_i| φ(|x_i|)` below which a value is zero: thousands of units in the last
place. Chosen."""


_DEEPEST = 30
"""Matrices: there are `2^(D-1)` sign patterns to go through. Chosen."""


@dataclasses.dataclass(frozen=True)
class ReducedPoints:
    """KKT points `v` of the reduced problem with `zᵀφ(Xv) ≠ 0`, best first."""

    directions: np.ndarray
    """`v`, (points, d), unit vectors."""
    signs: np.ndarray
    """`ε_1 … ε_{D-1}`, (points, D-1), each 1 or -1."""
    values: np.ndarray
    """`zᵀφ(Xv)`, (points,)."""
    at_kink: np.ndarray
    """(points,), whether `v` is one in Clarke's sense alone: `⟨v, x_i⟩ = 0` for a sample,
    and zero lies between the slopes on its two sides. For power 1 only."""

    def __len__(self) -> int:
        return len(self.values)


def reduced_kkt(
    task: Task,
    activation: LeakyReLU,
    depth: int,
    *,
    num_starts: int = 256,
    key: PRNGKeyArray | None = None,
) -> ReducedPoints:
    """KKT points of the reduced problem, `max zᵀφ(Xv)` subject to `‖v‖ = 1`.

    For inputs in the plane all of them: the circle is cut where a sample changes sign;
    between two cuts the derivative along the circle is a trigonometric polynomial, whose
    roots are the eigenvalues of a companion matrix. In higher dimension those that are
    found from random starts by Levenberg–Marquardt steps on the KKT system; points on kinks
    are not looked for there.

    Arguments:
        task: inputs (n, d), one target a sample.
        activation: a `LeakyReLU` without smoothing.
        depth: the number `D` of weight matrices, at least 1.
        num_starts: random starts for each sign pattern, in dimensions above two.
        key: for these; `jax.random.key(0)` if not given.

    Returns:
        `ReducedPoints` for every sign pattern.

    Raises:
        InputError: for data, activations and depths that do not fit.

    Source:
        arXiv:2403.08121, section 4.

    Examples:
        >>> import jax.numpy as jnp, jaxflow as jf
        >>> task = jf.Task(jnp.eye(2), jnp.array([3.0, 4.0]))
        >>> points = jf.kkt.reduced_kkt(task, jf.LeakyReLU(slope=1.0), depth=1)
        >>> points.directions.round(6).tolist(), points.values.round(6).tolist()
        ([[0.6, 0.8], [-0.6, -0.8]], [5.0, -5.0])
    """
    check_sharp("activation", activation)
    depth = check_whole("depth", depth, most=_DEEPEST)
    num_starts = check_whole("num_starts", num_starts)
    if key is not None:
        check_key("key", key)
    check_task(task)
    if task.inputs.ndim != 2:
        raise InputError("task", f"inputs of shape {task.inputs.shape}", "(n, d)")
    if task.target_rows.ndim != 2 or task.target_rows.shape[1] != 1:
        raise InputError("task", f"targets of shape {task.targets.shape}", "one a sample")
    pulls = task.correlation_weights(jnp.zeros((task.num_samples, 1), task.inputs.dtype))
    x, z = np.asarray(task.inputs, np.float64), np.asarray(pulls[:, 0], np.float64)
    found = []
    for number, signs in enumerate(itertools.product((1, -1), repeat=depth - 1)):
        chain = _Chain(activation.slope, int(activation.power), signs)
        size = np.abs(z) @ np.abs(chain.value(np.linalg.norm(x, axis=1)))
        if size == 0:
            continue  # φ is zero on all inputs, or all z_i are zero
        if x.shape[1] == 1:
            candidates = [(np.array([side]), False) for side in (1.0, -1.0)]
        elif x.shape[1] == 2:
            candidates = _on_circle(chain, x, z, size)
        else:
            start = jax.random.fold_in(jax.random.key(0) if key is None else key, number)
            candidates = _on_sphere(chain, x, z, num_starts, start)
        for v, at_kink in candidates:
            value = float(z @ chain.value(x @ v))
            if abs(value) > _ZERO * size:
                found.append((v, signs, value, at_kink))
    found.sort(key=lambda point: -point[2])
    return ReducedPoints(
        directions=np.array([v for v, *_ in found]).reshape(-1, x.shape[1]),
        signs=np.array([s for _, s, *_ in found], int).reshape(len(found), depth - 1),
        values=np.array([value for *_, value, _ in found]),
        at_kink=np.array([kink for *_, kink in found], bool),
    )


def lift(
    direction: np.ndarray | Float[Array, " d"],
    signs: Sequence | np.ndarray,
    sizes: Sequence,
    activation: LeakyReLU,
    neurons: Sequence,
    *,
    dtype=None,
) -> FeedForward:
    """The rank-one network of unit norm that a point of the reduced problem stands for.

    `W_l = s_l u_l v_lᵀ` with `s_l² = p^(D-l)/L`, `v_1 = v`, `v_{l+1} = ε_l u_lᵖ/‖u_lᵖ‖`,
    `u_D = 1`. It is a KKT point of the constrained neural correlation function if `v` is
    one of the reduced problem.

    Arguments:
        direction: `v`, (d,), of unit norm.
        signs: `ε_1 … ε_{D-1}`.
        sizes: the widths `(d, d_1, …, d_{D-1}, 1)`.
        activation: as in `reduced_kkt`.
        neurons: for each hidden layer the numbers of the active neurons, which get equal
            entries of `u_l`; for power 1 also `u_l` itself, a float array (d_l,) of entries
            that are not negative. For powers of two and more the best points have one
            active neuron in each layer: each further one multiplies `N` by a factor below
            one.
        dtype: of the weights; JAX's default float if not given.

    Returns:
        A `FeedForward` network.

    Raises:
        InputError: for arguments that do not fit.

    Source:
        arXiv:2403.08121, section 4.

    Examples:
        >>> import jaxflow as jf, numpy as np
        >>> network = jf.kkt.lift(
        ...     np.array([0.6, 0.8]), [1], (2, 3, 1), jf.LeakyReLU(0.5), [[0, 2]]
        ... )
        >>> [round(float(norm) ** 2, 6) for norm in jf.layer_norms(network)]
        [0.5, 0.5]
    """
    vector = check_numbers("direction", direction)
    sizes, dtype = check_sizes("sizes", sizes, least=2), check_dtype("dtype", dtype)
    check_sharp("activation", activation)
    depth, power = len(sizes) - 1, int(activation.power)
    if vector.shape != sizes[:1] or abs(np.linalg.norm(vector) - 1) > 1e-6:
        raise InputError(
            "direction",
            f"shape {vector.shape}, norm {np.linalg.norm(vector):g}",
            f"a unit vector of shape {sizes[:1]}",
        )
    if sizes[-1] != 1:
        raise InputError("sizes", repr(sizes), "one output")
    expected = f"{depth - 1} numbers, each 1 or -1"
    epsilons = check_numbers("signs", signs, expected, lambda sign: np.abs(sign) == 1)
    if epsilons.shape != (depth - 1,):
        raise InputError("signs", shown(signs), expected)
    neurons = check_items("neurons", neurons, "a list for each hidden layer")
    if len(neurons) != depth - 1:
        raise InputError(
            "neurons", f"{len(neurons)} layers", f"{depth - 1}, one for each hidden layer"
        )
    weights, right = [], vector
    for layer, square in enumerate(squared_norms(depth, power), start=1):
        last = layer == depth
        left = np.ones(1) if last else _entries(neurons[layer - 1], sizes[layer], power)
        weights.append(square**0.5 * np.outer(left, right))
        if not last:
            right = epsilons[layer - 1] * left**power / np.linalg.norm(left**power)
    network = FeedForward(sizes, activation, key=jax.random.key(0), dtype=dtype)
    arrays = tuple(jnp.asarray(w, old.dtype) for w, old in zip(weights, network.weights))
    return eqx.tree_at(lambda n: n.weights, network, arrays)


def _entries(given, width: int, power: int) -> np.ndarray:
    """`u_l`: equal entries for active neurons, or any that are not negative for power 1."""
    given = check_numbers("neurons", given, "lists of numbers", np.isfinite, kept=True)
    if given.dtype.kind in "iu" and given.ndim == 1 and 0 < given.size:
        if (
            given.min() >= 0
            and given.max() < width
            and len(set(given.tolist())) == len(given)
        ):
            left = np.zeros(width)
            left[given] = 1.0
            return left / np.linalg.norm(left)
    elif given.dtype.kind == "f" and power == 1 and given.shape == (width,):
        if np.isfinite(given).all() and given.min() >= 0 and given.max() > 0:
            return given / np.linalg.norm(given)
    vectors = f", or {width} entries that are not negative" if power == 1 else ""
    raise InputError(
        "neurons", shown(given), f"different numbers from 0 to {width - 1}{vectors}"
    )


class _Chain(eqx.Module):
    """`φ` and its derivative, for NumPy and JAX alike."""

    slope: float = eqx.field(static=True)
    power: int = eqx.field(static=True)
    signs: tuple[int, ...] = eqx.field(static=True)

    @property
    def degree(self) -> int:
        """`φ` is positively homogeneous of this degree."""
        return self.power ** len(self.signs)

    def value(self, t):
        return self._value_and_slope(t)[0]

    def derivative(self, t):
        return self._value_and_slope(t)[1]

    def _value_and_slope(self, t):
        value, slope = t, 1.0
        for sign in self.signs:
            passed, own = sigma_and_derivative(value, self.slope, self.power)
            value, slope = sign * passed, sign * own * slope
        return value, slope


def _on_circle(chain: _Chain, x, z, size) -> list[tuple[np.ndarray, bool]]:
    """All critical directions in the plane, with whether they lie on a kink."""

    def turned(angles):
        """`d/dθ Σ_i z_i φ(⟨v(θ), x_i⟩)`."""
        v = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        across = np.stack([-np.sin(angles), np.cos(angles)], axis=-1)
        return (chain.derivative(v @ x.T) * (across @ x.T)) @ z

    used = np.linalg.norm(x, axis=1) > 0
    normal = np.arctan2(x[used, 1], x[used, 0])
    cuts = np.concatenate([normal + np.pi / 2, normal - np.pi / 2, [0.0]])
    cuts = np.unique(np.mod(cuts, 2 * np.pi))
    cuts = cuts[np.concatenate([[True], np.diff(cuts) > 1e-12])]
    ends = np.append(cuts[1:], cuts[0] + 2 * np.pi)
    small = 1e-13 * chain.degree * size
    angles, sides = [], []
    for start, end in zip(cuts, ends):
        # Chebyshev nodes lie inside the arc, where every sample keeps its sign.
        nodes = 2 * chain.degree + 24
        arc = np.polynomial.Chebyshev.interpolate(turned, nodes, domain=[start, end])
        sides.append((float(arc(start)), float(arc(end))))
        if np.abs(arc.coef).max() <= small:
            continue  # constant along the arc
        kept = arc.trim(1e-15 * np.abs(arc.coef).max())
        roots = kept.roots() if kept.degree() > 0 else np.zeros(0)
        roots = roots[np.abs(roots.imag) < 1e-6 * (end - start)].real
        for root in roots[(roots > start - 1e-9) & (roots < end + 1e-9)]:
            angles.append(_polished(turned, arc, np.clip(root, start, end), start, end))
    points = [(angle, False) for angle in angles]
    for cut, (_, before), (after, _) in zip(cuts, [sides[-1], *sides[:-1]], sides):
        # Both one-sided slopes nonzero, of opposite signs: a kink with zero in between.
        if min(abs(before), abs(after)) > small and before * after < 0:
            points.append((cut, True))
    distinct: list[tuple[np.ndarray, bool]] = []
    for angle, at_kink in points:
        v = np.array([np.cos(angle), np.sin(angle)])
        if all(np.linalg.norm(v - other) > _SAME for other, _ in distinct):
            distinct.append((v, at_kink))
    return distinct


def _polished(turned, arc, root: float, start: float, end: float) -> float:
    """A root of `turned`, from one of its interpolant, by Newton steps inside the arc.

    The interpolant is accurate to the rounding of its largest value on the arc. Near a root
    the function itself may be much more accurate.
    """
    slope = arc.deriv()
    rest = abs(float(turned(np.array(root))))
    for _ in range(16):
        steepness = slope(root)
        if steepness == 0 or rest == 0:
            break
        better = float(
            np.clip(root - float(turned(np.array(root))) / steepness, start, end)
        )
        left = abs(float(turned(np.array(better))))
        if left >= rest:
            break
        root, rest = better, left
    return float(root)


def _on_sphere(chain: _Chain, x, z, num_starts, key) -> list[tuple[np.ndarray, bool]]:
    """Critical directions that random starts lead to."""
    starts = jax.random.normal(key, (num_starts, x.shape[1]))
    inputs, pulls = jnp.asarray(x, starts.dtype), jnp.asarray(z, starts.dtype)
    vectors, residuals = map(np.asarray, _solved(chain, inputs, pulls, starts))
    precision = by_precision(starts.dtype, double=1e-9, single=1e-4)
    distinct: list[np.ndarray] = []
    for v in vectors[residuals <= precision].astype(np.float64):
        if all(np.linalg.norm(v - other) > 100 * precision for other in distinct):
            distinct.append(v)
    return [(v, False) for v in distinct]


@compiled
def _solved(chain: _Chain, x, z, starts):
    """Unit vectors and the relative KKT residual at each."""
    # Of unit size, whatever the data: tolerances below are then relative ones.
    size = jnp.abs(z) @ jnp.abs(chain.value(jnp.linalg.norm(x, axis=1)))

    def gradient(v):
        return (z * chain.derivative(x @ v)) @ x / size

    def equations(unknown, _):
        v, multiplier = unknown
        return gradient(v) - multiplier * v, (v @ v - 1) / 2

    def one(start):
        v = start / jnp.linalg.norm(start)
        solution = optx.least_squares(
            equations,
            optx.LevenbergMarquardt(rtol=1e-12, atol=1e-14),
            (v, v @ gradient(v)),
            max_steps=256,
            throw=False,
        )
        v = solution.value[0] / jnp.linalg.norm(solution.value[0])
        g = gradient(v)
        multiplier = v @ g
        rest = jnp.linalg.norm(g - multiplier * v)
        return v, jnp.where(multiplier == 0, jnp.inf, rest / jnp.abs(multiplier))

    return map_lanes(one, starts)
