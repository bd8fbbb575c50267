"""The hidden neurons of a two-layer network in two blocks, by the sign of their weight."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import InputError
from ..networks import layer_matrices
from ..tasks import AbstractTask
from ._weights import check_observed, values_of


def block_singular_values(
    network: eqx.Module, task: AbstractTask | None = None
) -> Float[Array, "blocks rank"]:
    """The singular values of the neurons of each sign, largest first.

    In `H(x) = Σ_j a_j σ(⟨w_j, x⟩)` the rows `w_j` with `a_j > 0` are one block of the first
    matrix, and those with `a_j < 0` the other. Neurons of weight zero are in neither.

    Arguments:
        network: one network of two matrices and one output, the second of which may be kept
            as it is.
        task: not used.

    Returns:
        (2, rank), the block of positive outer weights first; zero beyond the rank of a
        block.

    Raises:
        InputError: for networks of another form, and for ensembles.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((4, 6, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> jf.block_singular_values(network).shape
        (2, 4)
    """
    check_observed(network, task)
    first, outer = _two_layers(network)
    blocks = [jnp.where((sign * outer > 0)[:, None], first, 0.0) for sign in (1, -1)]
    return values_of(blocks)


def block_stable_ranks(
    network: eqx.Module, task: AbstractTask | None = None
) -> Float[Array, " blocks"]:
    """The stable rank `‖W_±‖_F² / ‖W_±‖₂²` of the neurons of each sign.

    `W_±` are the rows of the first matrix whose outer weight is positive, or negative, as
    for `jaxflow.block_singular_values`.

    Arguments:
        network: one network of two matrices and one output, the second of which may be kept
            as it is.
        task: not used.

    Returns:
        (2,), the block of positive outer weights first; NaN for a block that is zero.

    Raises:
        InputError: for networks of another form, and for ensembles.

    Source:
        arXiv:2310.18935 (the stable rank of each block tends to one for leaky ReLU).

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> first = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> outer = jnp.array([[1.0, 1.0, -1.0]])
        >>> network = eqx.tree_at(lambda n: n.weights, network, (first, outer))
        >>> jf.block_stable_ranks(network).round(6).tolist()
        [2.0, 1.0]
    """
    values = block_singular_values(network, task)
    return jnp.sum((values / values[:, :1]) ** 2, axis=1)


def _two_layers(network: Any) -> tuple[Float[Array, "m d"], Float[Array, " m"]]:
    """The first matrix, and the outer weight of each of its rows."""
    matrices = layer_matrices(network)
    shapes = [matrix.shape for matrix in matrices]
    fits = len(shapes) == 2 and sorted(shapes[1]) == sorted((1, shapes[0][0]))
    if not fits:
        found = f"a {type(network).__name__} of layers {' and '.join(map(str, shapes))}"
        raise InputError("network", found, "two layers, and one output")
    return matrices[0], matrices[1].reshape(-1)
