"""The blocks of a network's parameters that grow one by one."""

from typing import TypeGuard

import equinox as eqx
import jax
import numpy as np

from ._diagonal import DiagonalLinear
from ._feed_forward import FeedForward


def blocks(network: eqx.Module) -> np.ndarray:
    """A block for every parameter of one network, in the order of `flatten`.

    Hidden neurons of a two-layer network, with the weights into and out of each, and the
    coordinates of a diagonal network: the output is a sum over these, so that while one of
    them is small its gradient is in proportion to it, whatever the others do. For all
    other networks each array (layer) is a block.

    **Arguments:** `network`, without a leading axis.

    **Returns:** numbers `0, 1, …`, (parameters,).

    >>> import jax, jaxflow as jf
    >>> blocks(jf.FeedForward((2, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))).tolist()
    [0, 0, 1, 1, 2, 2, 0, 1, 2]
    """
    if _has_two_layers(network):
        (hidden, fan_in), (out, _) = (weight.shape for weight in network.weights)
        neurons = np.arange(hidden)
        return np.concatenate([np.repeat(neurons, fan_in), np.tile(neurons, out)])
    if isinstance(network, DiagonalLinear):
        return np.concatenate([np.arange(factor.size) for factor in network.factors])
    leaves = jax.tree_util.tree_leaves(eqx.filter(network, eqx.is_inexact_array))
    return np.concatenate([np.full(leaf.size, i) for i, leaf in enumerate(leaves)])


def are_separable(network: eqx.Module) -> bool:
    """Whether a block of zeros stays zero, as that of a neuron without weights does."""
    return _has_two_layers(network) or isinstance(network, DiagonalLinear)


def _has_two_layers(network: eqx.Module) -> TypeGuard[FeedForward]:
    return isinstance(network, FeedForward) and len(network.weights) == 2
