"""Networks that are chains of matrices with one activation between them.

`H(x) = W_D σ(W_{D-1} … σ(W_1 x))` is the network of which most is known: its neurons, its
kinks, its singular directions. A module need not be a `FeedForward` to be one. Whether it
is, is found out: its arrays must fit together as matrices, its activation is read off or
measured, and then it must have the outputs of the `FeedForward` with the same parameters
at random weights.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from .._arrays import on_device
from .._checks import check_numbers
from .._compiled import compiled
from .._samples import as_arrays, is_several, num_samples
from .._trained import not_trained
from ._activations import leaky_relus, LeakyReLU
from ._feed_forward import FeedForward
from ._parameters import check_module
from ._protocol import own_method

_NUM_POINTS, _NUM_INPUTS = 4, 8
"""Random weights and samples at which two networks are compared. Chosen: more
than one, since neurons may be off."""


def as_feed_forward(
    network: eqx.Module, inputs: ArrayLike | None = None
) -> FeedForward | None:
    """The same function as a `FeedForward` with the same parameters, or `None`.

    A module that knows may say so by a method `as_feed_forward()` of its own. Others are
    tried: all arrays are matrices (the last may be a vector) that fit together from input
    to output in the order of the leaves, and the outputs are those of the `FeedForward`
    with these weights, at several random ones, up to rounding. The activation is the one
    `LeakyReLU` in the module, or any `max(x, slope x)**power` that it applies.

    Arguments:
        network: one network, called on one sample.
        inputs: samples `(n, size)` to compare outputs at; random ones if not given.

    Returns:
        A `FeedForward` whose `flatten` is that of the network; `None` for a module that is
        none, as one with biases.

    Examples:
        >>> import equinox as eqx, jax, jaxflow as jf
        >>> options = {"use_bias": False, "use_final_bias": False, "key": jax.random.key(0)}
        >>> chain = jf.networks.as_feed_forward(
        ...     eqx.nn.MLP(3, 1, 8, 2, jax.nn.relu, **options)
        ... )
        >>> chain.sizes, chain.activation
        ((3, 8, 8, 1), LeakyReLU(slope=0.0))
        >>> jf.networks.as_feed_forward(
        ...     eqx.nn.MLP(3, 1, 8, 2, key=jax.random.key(0))
        ... ) is None
        True
    """
    check_module(network)
    check_inputs(inputs)
    if not_trained(network):  # its parameters are not those of a chain
        return None
    own = own_method(network, "as_feed_forward")
    given = None if own is None else own()
    if given is not None and _is_known(given):
        return given
    weights = _matrices(network)
    if weights is None or not _accepts_vectors(network, weights):
        return given
    samples = _samples(inputs, weights)
    if samples is None:
        return given
    for activation in _candidates(network, weights):
        chain = _feed_forward(weights, activation)
        if _same_outputs(network, chain, samples):
            return chain
    return given


def check_inputs(inputs: Any) -> None:
    """Samples, or none. Raises `InputError`."""
    # A task's are JAX arrays, and checked once: they may be many.
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree_util.tree_leaves(inputs)):
        return
    if is_several(inputs):
        num_samples("inputs", as_arrays("inputs", inputs))
    else:
        check_numbers("inputs", inputs)


def _is_known(chain: FeedForward) -> bool:
    """Whether the activation says what it is."""
    return leaky_relus(chain.activation) == [chain.activation]


def _matrices(network: eqx.Module) -> list[Any] | None:
    """The arrays as matrices that fit together; `None` where they do not."""
    arrays = jax.tree_util.tree_leaves(eqx.filter(network, eqx.is_array))
    if not arrays or not all(eqx.is_inexact_array(array) for array in arrays):
        return None
    if arrays[-1].ndim == 1:
        arrays[-1] = arrays[-1].reshape(1, -1)
    if any(array.ndim != 2 or array.size == 0 for array in arrays):
        return None
    fit = all(
        after.shape[1] == before.shape[0] for before, after in itertools.pairwise(arrays)
    )
    return arrays if fit and len({array.dtype for array in arrays}) == 1 else None


def _accepts_vectors(network: eqx.Module, weights: Sequence[Any]) -> bool:
    first = weights[0]
    sample = jax.ShapeDtypeStruct((first.shape[1],), first.dtype)
    try:
        output = eqx.filter_eval_shape(cast(Callable, network), sample)
    except Exception:  # whatever the user's module raises on a wrong shape
        return False
    shape = getattr(output, "shape", None)
    return shape is not None and math.prod(shape) == weights[-1].shape[0]


def _samples(inputs: ArrayLike | None, weights: Sequence[Any]) -> np.ndarray | None:
    """Samples to compare at; `None` for those that are no vectors of the right length."""
    size, dtype = weights[0].shape[1], weights[0].dtype
    if inputs is None:
        inputs = np.random.default_rng(0).standard_normal((_NUM_INPUTS, size))
    if is_several(inputs):
        return None
    samples = np.asarray(inputs)
    if samples.ndim != 2 or samples.shape[1] != size:
        return None
    return samples[:_NUM_INPUTS].astype(dtype)


def _candidates(network: eqx.Module, weights: Sequence[Any]) -> Iterator[LeakyReLU]:
    """Activations that the network may have between its matrices, the likeliest first."""
    kept = leaky_relus(network)
    if len(kept) == 1:
        yield kept[0]
    measured = _measured(network, weights)
    if measured is not None and measured not in kept[:1]:
        yield measured


def _measured(network: eqx.Module, weights: Sequence[Any]) -> LeakyReLU | None:
    """The activation `max(x, slope x)**power`, if it is one that is between the matrices.

    With matrices that have one entry `±1` each, the network is `σ(± σ(± … x))`. For `x > 0`
    that is `x^q` with `q = power^(D-1)`; where the first pre-activation is negative and
    signs are turned so that the others are positive, it is `(slope x)^q`.
    """
    depth = len(weights)
    if depth == 1:
        return LeakyReLU(1.0)
    ones, turned = np.ones(depth), np.ones(depth)
    at_one, at_two = (_along_one_path(network, weights, ones, x) for x in (1.0, 2.0))
    if not (0 < at_one < np.inf and 0 < at_two < np.inf):
        return None
    degree = np.log2(at_two / at_one)
    power = round(max(degree, 1.0) ** (1 / (depth - 1)))
    if abs(degree - power ** (depth - 1)) > 1e-3:
        return None
    turned[0], turned[1] = -1.0, (-1.0) ** power
    passed = abs(_along_one_path(network, weights, turned, 1.0))
    slope = float(f"{passed ** (1 / power ** (depth - 1)):.6g}")  # without its rounding
    return LeakyReLU(slope, power) if 0 <= slope <= 1 else None


def _along_one_path(
    network: eqx.Module, weights: Sequence[Any], signs: np.ndarray, x: float
) -> float:
    """The output for `x e_1` where each matrix is zero but for its first entry, a sign."""
    filled = []
    for weight, sign in zip(weights, signs):
        array = np.zeros(weight.shape, weight.dtype)
        array[0, 0] = sign
        filled.append(array[None])
    sample = np.zeros((1, weights[0].shape[1]), weights[0].dtype)
    sample[0, 0] = x
    outputs = _outputs(_with_weights(network, filled), on_device(sample))
    return float(np.asarray(outputs).reshape(-1)[0])


def _feed_forward(weights: Sequence[Any], activation: Callable) -> FeedForward:
    sizes = (weights[0].shape[1], *(weight.shape[0] for weight in weights))
    chain = eqx.filter_eval_shape(
        lambda: FeedForward(sizes, activation, key=jax.random.key(0))
    )
    return eqx.tree_at(lambda n: n.weights, chain, tuple(weights))


def _same_outputs(network: eqx.Module, chain: FeedForward, samples: np.ndarray) -> bool:
    """Whether both have the same outputs, not all zero, at the same random weights."""
    random = np.random.default_rng(0)
    drawn = [
        (
            random.standard_normal((_NUM_POINTS, *weight.shape)) / weight.shape[1] ** 0.5
        ).astype(weight.dtype)
        for weight in chain.weights
    ]
    inputs = on_device(samples)
    found, expected = (
        np.asarray(_outputs(_with_weights(one, drawn), inputs), np.float64).reshape(
            _NUM_POINTS, len(samples), -1
        )
        for one in (network, chain)
    )
    largest = np.max(np.abs(expected))
    precision = float(jnp.finfo(samples.dtype).eps) ** 0.5
    return bool(0 < largest < np.inf) and bool(
        np.all(np.abs(found - expected) <= precision * largest)
    )


def _with_weights(network: eqx.Module, stacked: Sequence[np.ndarray]) -> eqx.Module:
    """The network with stacks of matrices for its arrays, in the order of its leaves."""
    arrays, rest = eqx.partition(network, eqx.is_array)
    leaves, structure = jax.tree_util.tree_flatten(arrays)
    shaped = [
        on_device(stack.reshape(len(stack), *leaf.shape))
        for stack, leaf in zip(stacked, leaves)
    ]
    return eqx.combine(structure.unflatten(shaped), rest)


@compiled
def _outputs(networks: eqx.Module, inputs):
    """The outputs of stacked networks for every sample."""
    each = lambda network: jax.vmap(cast(Callable, network))(inputs)
    return eqx.filter_vmap(each)(networks)
