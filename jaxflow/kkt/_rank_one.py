"""Networks whose layers have rank one, and when they are KKT points.

With `W_l = s_l u_l v_lᵀ`, unit `u_l` and `v_l`, a sample passes a feed-forward network as
one number a layer: `τ_1 = ⟨v_1, x⟩`, `τ_{l+1} = Σ_j v_{l+1,j} σ(s_l u_{l,j} τ_l)`, and the
output is `s_D τ_D u_D`. Backwards, `c_D = s_D ⟨z, u_D⟩` and `c_l = c_{l+1} dτ_{l+1}/dτ_l`.
The theorem by which `rank_one_conditions` decides is in the documentation (Theory), with
its proof.
"""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._checks import check_positive, check_share
from ..errors import InputError
from ..networks import as_feed_forward, check_one, FeedForward
from ..tasks import check_task, Task
from ._activation import check_sharp, sigma_and_derivative

_OFF = 1e-8
"""Share of the largest entry of `u_l` below which a neuron is inactive: about the square
root of double rounding. Chosen."""


@dataclasses.dataclass(frozen=True)
class RankOne:
    """The numerical rank of every layer, and its leading singular vectors.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((4, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> print(jf.kkt.rank_one(network))
        layer 1: rank 3
        layer 2: rank 1, 1 active (+1 -0)
    """

    ranks: tuple[int, ...]
    """The number of singular values above `threshold` times the largest; 0 for zero."""
    norms: tuple[float, ...]
    """`s_l = ‖W_l‖_F`."""
    left: tuple[np.ndarray, ...]
    """`u_l`, (rows,), of unit norm, its entries of larger weight positive."""
    right: tuple[np.ndarray, ...]
    """`v_l`, (columns,), of unit norm, `W_l = s_l u_l v_lᵀ` for a layer of rank one."""
    gaps: tuple[float, ...]
    """The second singular value over the first."""
    threshold: float

    @property
    def is_rank_one(self) -> bool:
        """Whether every layer has rank one."""
        return set(self.ranks) == {1}

    @property
    def signs(self) -> tuple[np.ndarray, ...]:
        """The sign of every entry of `u_l`: 1, -1, or 0 for an inactive neuron."""
        return tuple(
            np.where(np.abs(u) > _OFF * np.abs(u).max(initial=0), np.sign(u), 0).astype(int)
            for u in self.left
        )

    @property
    def supports(self) -> tuple[np.ndarray, ...]:
        """The numbers of the active neurons of every layer."""
        return tuple(np.flatnonzero(sign) for sign in self.signs)

    def __str__(self) -> str:
        lines = []
        for layer, (rank, sign) in enumerate(zip(self.ranks, self.signs), start=1):
            positive, negative = int((sign > 0).sum()), int((sign < 0).sum())
            active = f", {positive + negative} active (+{positive} -{negative})"
            lines.append(f"layer {layer}: rank {rank}{active if rank == 1 else ''}")
        return "\n".join(lines)


def rank_one(network: eqx.Module, *, threshold: float = 1e-6) -> RankOne:
    """The rank of every layer, and the vectors `u_l`, `v_l` of layers of rank one.

    Arguments:
        network: one feed-forward network, or a module that is such a chain of matrices.
        threshold: singular values of at least this share of the largest count.

    Returns:
        A `RankOne`; its vectors are leading singular vectors.

    Raises:
        InputError: for another kind of network, NaN in it, or a threshold outside of 0 to
            1.

    Source:
        arXiv:2403.08121, section 4.

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((4, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> jf.kkt.rank_one(network).is_rank_one
        True
    """
    chain = _feed_forward(network)
    threshold = check_share("threshold", threshold)
    ranks, norms, left, right, gaps = [], [], [], [], []
    for matrix in (np.asarray(weight, np.float64) for weight in chain.weights):
        u, values, v = np.linalg.svd(matrix, full_matrices=False)
        first, second = values[0], values[1] if len(values) > 1 else 0.0
        sign = 1.0 if np.sum(np.sign(u[:, 0]) * u[:, 0] ** 2) >= 0 else -1.0
        ranks.append(int(np.sum(values > threshold * first)))
        norms.append(float(np.linalg.norm(values)))
        left.append(sign * u[:, 0])
        right.append(sign * v[0])
        gaps.append(float(second / first) if first > 0 else 0.0)
    return RankOne(
        tuple(ranks), tuple(norms), tuple(left), tuple(right), tuple(gaps), threshold
    )


@dataclasses.dataclass(frozen=True)
class RankOneConditions:
    """By how much each condition for a rank-one KKT point is missed; all are relative."""

    rank: float
    """The largest second singular value over the first."""
    norms: float
    """`|‖W_l‖_F² - p^(D-l)/L|`, the largest."""
    neurons: float
    """How far `v_{l+1}` is from `± (A⁺ u₊ᵖ + A⁻ u₋ᵖ)` in direction, and how much
    `|A^±| |u_{l,j}|^(p-1)` differs between active neurons; the larger."""
    inputs: float
    """How far `G_l^±` is from `± v_l` in direction, the largest of the signs that occur."""
    output: float
    """How far `Σ_i τ_{D,i} z_i` is from `± u_D` in direction."""
    value: float
    """`N(w)`."""
    tolerance: float

    @property
    def hold(self) -> bool:
        """Whether the network is a KKT point with all layers of rank one and `N ≠ 0`."""
        return self.value != 0 and self.missed <= self.tolerance

    @property
    def missed(self) -> float:
        """By how much the condition is missed that is missed most."""
        return max(self.rank, self.norms, self.neurons, self.inputs, self.output)

    def __str__(self) -> str:
        lines = [
            f"{name}: {getattr(self, name):.1e}"
            for name in ("rank", "norms", "neurons", "inputs", "output")
        ]
        verdict = "hold" if self.hold else "do not hold"
        return "\n".join([*lines, f"the conditions {verdict}; N = {self.value:.6g}"])


def rank_one_conditions(
    network: eqx.Module, task: Task, *, tolerance: float = 1e-8
) -> RankOneConditions:
    """Decide whether a network is a rank-one KKT point, by the exact conditions for it.

    A network of unit norm with layers of rank one and `N ≠ 0` is a KKT point of the
    constrained neural correlation function if and only if, with `u₊` and `u₋` the positive
    and the negated negative entries of `u_l`,

        ‖W_l‖_F² = p^(D-l)/L,
        v_{l+1} ∥ A_l⁺ u₊ᵖ + A_l⁻ u₋ᵖ    and    |A_l^±| |u_{l,j}|^(p-1) the same for all
                                                 active j of a hidden layer l,
        G_l^± ∥ v_l    for each sign ± that occurs in u_l,
        Σ_i τ_{D,i} z_i ∥ u_D,

    with `h_{l-1,i}` the input of layer `l`, `A_l^± = Σ_i c_{l+1,i} σ(±τ_{l,i})` and
    `G_l^± = Σ_i c_{l+1,i} σ'(±τ_{l,i}) h_{l-1,i}`.

    Arguments:
        network: a feed-forward network, a `FeedForward` or a module that is such a chain of
            matrices, with a (leaky) ReLU that is not smoothed. For power 1 no sample may
            lie on a kink, `τ_{l,i} ≠ 0`.
        task: the data and the loss.
        tolerance: the relative amount by which a condition may be missed.

    Returns:
        `RankOneConditions`, whose `hold` is the verdict.

    Raises:
        InputError: for another kind of network or activation.

    Source:
        arXiv:2403.08121, section 4, for one-signed `u_l`; the general case is derived in
        the documentation.

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> task = jf.Task(jnp.eye(2), jnp.array([3.0, 4.0]))
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> bool(jf.kkt.rank_one_conditions(network, task).hold)
        False
    """
    check_task(task)
    tolerance = check_positive("tolerance", tolerance)
    chain = _feed_forward(network)
    found, activation = rank_one(chain), check_sharp("network", chain.activation)
    x, z = _data(task, chain)
    power, depth = int(activation.power), len(chain.weights)
    sigma = lambda t: sigma_and_derivative(t, activation.slope, power)
    u, v, s = found.left, found.right, found.norms

    inputs, taus = [x], [x @ v[0]]  # what enters each layer, and its numbers τ
    for l in range(depth - 1):
        hidden = sigma(s[l] * np.outer(taus[l], u[l]))[0]
        inputs.append(hidden)
        taus.append(hidden @ v[l + 1])
    carried = chain.output_scale * s[-1] * (z @ u[-1])  # c_D
    value = float(carried @ taus[-1])

    neurons, along = [0.0], [0.0]
    for l in reversed(range(depth - 1)):
        parts = {sign: np.maximum(sign * u[l], 0.0) ** power for sign in (1, -1)}
        active = {sign: found.signs[l] == sign for sign in (1, -1)}
        strength = {sign: carried @ sigma(sign * taus[l])[0] for sign in (1, -1)}
        expected = strength[1] * parts[1] + strength[-1] * parts[-1]
        neurons.append(_angle(expected, v[l + 1]))
        sizes = np.concatenate(
            [
                abs(strength[sign]) * np.abs(u[l][active[sign]]) ** (power - 1)
                for sign in (1, -1)
            ]
        )
        neurons.append(float(np.ptp(sizes) / max(sizes.max(), np.finfo(float).tiny)))
        for sign in (1, -1):
            if active[sign].any():
                slopes = carried * sigma(sign * taus[l])[1]
                along.append(_angle(slopes @ inputs[l], v[l]))
        gains = sigma(s[l] * np.outer(taus[l], u[l]))[1] @ (s[l] * u[l] * v[l + 1])
        carried = carried * gains
    if depth == 1:
        along.append(_angle(carried @ x, v[0]))
    return RankOneConditions(
        rank=max(found.gaps),
        norms=max(
            abs(norm**2 - square) for norm, square in zip(s, squared_norms(depth, power))
        ),
        neurons=max(neurons),
        inputs=max(along),
        output=_angle(taus[-1] @ z, u[-1]),
        value=value,
        tolerance=tolerance,
    )


def missed_by(networks: Sequence[eqx.Module], task: Task) -> np.ndarray:
    """By how much each of these misses the conditions, which only some networks have.

    Returns:
        (networks,), NaN for networks that the conditions say nothing of.
    """
    try:
        return np.array([rank_one_conditions(one, task).missed for one in networks], float)
    except InputError:  # of another kind, or smoothed: so are all of them
        return np.full(len(networks), np.nan)


def squared_norms(depth: int, power: int) -> list[float]:
    """`‖W_l‖_F² = p^(D-l)/L` of every layer, at each KKT point with `N ≠ 0`."""
    shares = [power ** (depth - layer) for layer in range(1, depth + 1)]
    return [share / sum(shares) for share in shares]


def _angle(vector: np.ndarray, unit: np.ndarray) -> float:
    """The sine of the angle between two lines; one for a zero vector."""
    length = np.linalg.norm(vector)
    if length == 0:
        return 1.0
    vector = vector / length
    return float(np.linalg.norm(vector - (vector @ unit) * unit))


def _data(task: Task, network: FeedForward) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, d) and correlation weights `z` (n, out) in double precision."""
    size, out = network.sizes[0], network.sizes[-1]
    if task.inputs.shape[1:] != (size,):
        raise InputError("task", f"inputs of shape {task.inputs.shape}", f"(n, {size})")
    rows = task.target_rows
    if rows.ndim == 2 and rows.shape[1] != out:
        raise InputError("task", f"targets of shape {task.targets.shape}", f"{out} outputs")
    none = jnp.zeros((task.num_samples, out), task.inputs.dtype)
    z = task.correlation_weights(none)
    return np.asarray(task.inputs, np.float64), np.asarray(z, np.float64)


def _feed_forward(network: eqx.Module) -> FeedForward:
    check_one(network)
    chain = as_feed_forward(network)
    if chain is None:
        expected = "a FeedForward network, or one module that is such a network"
        raise InputError("network", type(network).__name__, expected)
    if not all(np.isfinite(np.asarray(weight)).all() for weight in chain.weights):
        raise InputError("network", "NaN or infinite weights", "finite weights")
    return chain
