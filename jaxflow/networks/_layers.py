"""The layers of a network as matrices."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._trained import parameters_of
from ._parameters import check_module


def layer_matrices(network: eqx.Module) -> tuple[Float[Array, "rows columns"], ...]:
    """The layers of a network as matrices, from input to output.

    The module's own `layer_matrices`, a property or a method, where it has them; otherwise
    every array that is trained, in the order of the module's leaves, with kernels flattened
    to (out, everything else) and vectors as single columns.

    Arguments:
        network: one network.

    Returns:
        A tuple of matrices.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.FeedForward((4, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> [matrix.shape for matrix in jf.networks.layer_matrices(network)]
        [(3, 4), (1, 3)]
    """
    check_module(network)
    own: Any = getattr(network, "layer_matrices", None)
    if own is not None:
        matrices: Any = own() if callable(own) else own
        return tuple(matrices)
    arrays = jax.tree_util.tree_leaves(parameters_of(network))
    return tuple(
        array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(-1, 1)
        for array in arrays
    )
