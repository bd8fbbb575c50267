"""The blocks of a network's parameters that grow one by one."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike

from .._trained import not_trained, parameters_of
from ..errors import InputError
from ._chains import as_feed_forward, check_inputs
from ._feed_forward import FeedForward
from ._parameters import check_module
from ._protocol import own_method


def blocks(network: eqx.Module, inputs: ArrayLike | None = None) -> np.ndarray:
    """A block for every parameter of one network, in the order of `flatten`.

    Blocks of which the output is a sum, where the network has them: while one of them is
    small its gradient is in proportion to it, whatever the others do. A module says which
    by a method `blocks()` of its own, as `DiagonalLinear` does for its coordinates;
    networks of two layers have their hidden neurons, with the weights into and out of
    each, and its bias. For all other networks each array (layer) is a block.

    Arguments:
        network: without a leading axis.
        inputs: samples to find out its form at, as for `as_feed_forward`.

    Returns:
        Numbers `0, 1, …`, (parameters,).

    Raises:
        InputError: if the module's own `blocks()` are not such numbers.

    Examples:
        >>> import jax, jaxflow as jf
        >>> jf.networks.blocks(
        ...     jf.FeedForward((2, 3, 1), jf.LeakyReLU(), key=jax.random.key(0))
        ... ).tolist()
        [0, 0, 1, 1, 2, 2, 0, 1, 2]
    """
    check_module(network)
    check_inputs(inputs)
    found = separable_blocks(network, inputs)
    if found is not None:
        return found
    sizes = [array.size for array in _arrays(network)]
    return np.repeat(np.arange(len(sizes)), sizes)


def are_separable(network: eqx.Module, inputs: ArrayLike | None = None) -> bool:
    """Whether a block of zeros stays zero, as that of a neuron without weights does."""
    return separable_blocks(network, inputs) is not None


def separable_blocks(
    network: eqx.Module, inputs: ArrayLike | None = None
) -> np.ndarray | None:
    """The blocks of which the output is a sum; `None` where none are known."""
    own = own_blocks(network)
    if own is not None:
        return own
    chain = as_feed_forward(network, inputs)
    return None if chain is None or len(chain.weights) != 2 else _neurons(chain)


def own_blocks(network: eqx.Module) -> np.ndarray | None:
    """What the module's own `blocks()` says, checked; `None` where it has or knows none."""
    own = own_method(network, "blocks")
    # Beside weights that are not trained a block of zeros need not stay zero.
    if own is None or not_trained(network):
        return None
    told = own()
    if told is None:
        return None
    numbers, size = _whole(told), sum(leaf.size for leaf in _arrays(network))
    if numbers is None or numbers.shape != (size,) or not _all_occur(numbers):
        raise InputError(
            "network",
            f"a {type(network).__name__} whose blocks() are {told!r}",
            f"a number 0, 1, … for each of its {size} parameters",
        )
    return numbers


def _whole(given: Any) -> np.ndarray | None:
    array = np.asarray(given)
    return array.astype(np.int64) if array.dtype.kind in "iu" else None


def _all_occur(numbers: np.ndarray) -> bool:
    return np.array_equal(np.unique(numbers), np.arange(numbers.max(initial=-1) + 1))


def _arrays(network: eqx.Module) -> list[Any]:
    return jax.tree_util.tree_leaves(parameters_of(network))


def _neurons(chain: FeedForward) -> np.ndarray:
    """The hidden neuron that each weight leads into or out of."""
    (hidden, fan_in), (out, _) = (weight.shape for weight in chain.weights)
    neurons = np.arange(hidden)
    return np.concatenate([np.repeat(neurons, fan_in), np.tile(neurons, out)])
