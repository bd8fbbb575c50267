"""Norms, directions and singular values of the weights.

All of them are safe at every scale: weights of size 1e-30 are divided by their largest
entry before they are squared, also in float32.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arrays import ratio
from .._checks import check_flag
from .._trained import parameters_of
from ..errors import InputError
from ..flows._geometry import log_norm_and_direction, safe_norm
from ..networks import check_one, flatten, layer_matrices, num_members
from ..tasks import AbstractTask, check_task


def norm(network: eqx.Module, task: AbstractTask | None = None) -> Float[Array, ""]:
    """The norm `‖w‖` of all parameters together.

    Arguments:
        network: one network.
        task: not used.

    Returns:
        A scalar.

    Raises:
        InputError: for an ensemble, here and in the functions below: use
            `jax.vmap(norm)(ensemble)`, or `equinox.filter_vmap`.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
        >>> drawn = jf.sample_ensemble(network, 4, key=jax.random.key(1))
        >>> jax.vmap(jf.norm)(drawn).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    check_observed(network, task)
    return safe_norm(flatten(network))


def weights(network: eqx.Module, task: AbstractTask | None = None) -> eqx.Module:
    """The network itself, to be recorded: `record={"weights": jf.weights}`.

    What is recorded is a network whose arrays have leading axes, one of the points and,
    before it, one of the members. Arrays that are not trained, such as integers, are left
    out.

    Arguments:
        network: one network.
        task: not used.

    Returns:
        The network.

    Raises:
        InputError: for an ensemble.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(3), jax.numpy.ones(3))
        >>> solution = jf.gradient_flow(
        ...     network,
        ...     task,
        ...     stop=jf.Time(0.1),
        ...     record={"weights": jf.weights},
        ...     record_at=[0, 0.1],
        ... )
        >>> solution.records.values["weights"].factors[0].shape
        (2, 1, 3)
    """
    check_observed(network, task)
    trained = lambda leaf: not eqx.is_array(leaf) or eqx.is_inexact_array(leaf)
    return eqx.filter(network, trained)


def layer_norms(
    network: eqx.Module, task: AbstractTask | None = None
) -> Float[Array, " layers"]:
    """The Frobenius norm `‖W_l‖_F` of every layer.

    At a KKT point of the correlation function of a feed-forward network of power `p`,
    `‖W_l‖_F² = p^(D-l)/L`.

    Arguments:
        network: one network.
        task: not used.

    Returns:
        (layers,).

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((4, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> jf.layer_norms(network).shape
        (2,)
    """
    check_observed(network, task)
    return jnp.stack([safe_norm(matrix.reshape(-1)) for matrix in layer_matrices(network)])


def singular_values(
    network: eqx.Module, task: AbstractTask | None = None
) -> Float[Array, "layers rank"]:
    """The singular values of every layer, largest first.

    Arguments:
        network: one network.
        task: not used.

    Returns:
        (layers, rank), with NaN where a layer has fewer than the largest has.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((4, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> jf.singular_values(network).shape
        (2, 3)
    """
    check_observed(network, task)
    matrices = layer_matrices(network)
    exists = jnp.arange(max(min(m.shape) for m in matrices))
    values = values_of(matrices)
    rows = [jnp.where(exists < min(m.shape), v, jnp.nan) for m, v in zip(matrices, values)]
    return jnp.stack(rows)


def stable_rank(
    network: eqx.Module, task: AbstractTask | None = None
) -> Float[Array, " layers"]:
    """The stable rank `‖W_l‖_F² / ‖W_l‖₂²` of every layer: 1 for a matrix of rank one.

    Arguments:
        network: one network.
        task: not used.

    Returns:
        (layers,), NaN for a layer that is zero.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((4, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> round(float(jf.stable_rank(network)[1]), 6)
        1.0
    """
    check_observed(network, task)
    values = values_of(layer_matrices(network))
    return jnp.sum((values / values[:, :1]) ** 2, axis=1)


def cosine(network: eqx.Module, reference: eqx.Module) -> Float[Array, ""]:
    """The cosine `⟨w, r⟩ / (‖w‖ ‖r‖)` between the parameters of two networks.

    Arguments:
        first: one network.
        second: another, of the same structure.

    Returns:
        A scalar.

    Raises:
        InputError: for networks of different shapes, and for ensembles: use
            `equinox.filter_vmap(cosine)(ensemble, references)`.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
        >>> round(float(jf.cosine(network, network)), 6)
        1.0
    """
    check_one(network)
    check_one(reference, "reference")
    shapes, wanted = _shapes(reference), _shapes(network)
    if shapes != wanted:
        raise InputError("reference", f"arrays of shapes {shapes}", f"{wanted}")
    _, direction = log_norm_and_direction(flatten(network))
    _, other = log_norm_and_direction(flatten(reference))
    return jnp.dot(direction, other)


class CosineTo(eqx.Module):
    """An observable: the cosine between the weights and those of a given network.

    Arguments:
        reference: a network; or, with `per_member = True`, an ensemble that has one
            reference for each member.
        per_member: any recorder that is an Equinox module may have this attribute; where it
            is true, all arrays of the recorder have a leading axis of members and each
            member is given its own.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
        >>> round(float(jf.CosineTo(network)(network)), 6)
        1.0
    """

    reference: eqx.Module
    per_member: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if check_flag("per_member", self.per_member):
            num_members(self.reference, "reference")
        else:
            check_one(self.reference, "reference")

    def __call__(
        self, network: eqx.Module, task: AbstractTask | None = None
    ) -> Float[Array, ""]:
        return cosine(network, self.reference)


def check_observed(network: Any, task: Any) -> None:
    """Raises `InputError` for what is not one network, and for what is no task."""
    check_one(network)
    if task is not None:
        check_task(task)


def _shapes(network: eqx.Module) -> list[tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves(parameters_of(network))
    return [leaf.shape for leaf in leaves]


def values_of(matrices) -> Float[Array, "layers rank"]:
    """The singular values of matrices of any shapes, filled up with zeros.

    One matrix after the other, in one shape: in a program that is not jaxflow's,
    independent decompositions side by side can wait for each other for good once they are
    batched (see `_decompositions.py`).
    """
    rows = max(matrix.shape[0] for matrix in matrices)
    columns = max(matrix.shape[1] for matrix in matrices)
    most = max(min(matrix.shape) for matrix in matrices)
    padded = jnp.stack(
        [
            jnp.pad(matrix, [(0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])])
            for matrix in matrices
        ]
    )

    def decompose(matrix):
        size = jnp.max(jnp.abs(matrix))
        scaled = ratio(matrix, size)
        return size * jnp.linalg.svd(scaled, compute_uv=False)[:most]

    return jax.lax.map(decompose, padded)
