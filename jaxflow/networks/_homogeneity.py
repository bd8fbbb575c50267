"""The order of homogeneity of a network, measured.

Two independent laws are tested at several random points, since a ReLU network is zero at
many of them and a piecewise one can satisfy the first law by accident:

    Euler's identity   ⟨w, ∇H(x; w)⟩ = L H(x; w)
    scaling            H(x; c w) = c^L H(x; w)
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .._arrays import on_device
from .._checks import check_whole
from .._compiled import compiled
from .._samples import as_samples, sample_of
from .._trained import parameters_of, split, with_trainable
from ..errors import InputError, NotHomogeneousError
from ._parameters import parameter_dtype
from ._single import (
    accepts,
    check_accepts,
    check_one,
    declared_shape,
    seen_on_sample,
)

_NUM_POINTS, _NUM_INPUTS, _ATTEMPTS = 8, 8, 4
"""Random weights and samples, and how often they are drawn again while all outputs are
zero. Chosen: several, since a ReLU network is zero at many of them."""

_SCALINGS = (0.5, 2.0)
"""Factors `c` of the scaling law: powers of two, which are multiplied without rounding."""


def order(
    network: eqx.Module,
    inputs: PyTree | None = None,
    *,
    seed: int = 0,
    trainable: Any = None,
) -> int | float:
    """Find the order `L` of positive homogeneity of a network in its parameters.

    `H(x; c w) = c^L H(x; w)` for `c >= 0`, tested by Euler's identity
    `⟨w, ∇H⟩ = L H` and by scaling, at several random points.

    Arguments:
        network: any Equinox module, called on one sample.
        inputs: samples `(n, *input_shape)` to test at. If not given, random ones of the
            shape that the module names (`input_shape`, or Equinox's `in_size`) or, failing
            that, of the only length that it accepts.
        seed: of the random points.
        trainable: a filter, as for `equinox.partition`, of the arrays that are parameters,
            where not all are: `L` is the order in these, at the others as they are.

    Returns:
        `L`, an `int` where it is whole.

    Raises:
        NotHomogeneousError: with the measured `discrepancy`.
        InputError: if the input shape cannot be found or the network is zero wherever it
            was tried.

    Source:
        arXiv:2403.08121, section 2 (Euler's identity for homogeneous functions).

    Examples:
        >>> import equinox as eqx, jax, jaxflow as jf
        >>> key = jax.random.key(0)
        >>> jf.order(jf.FeedForward((4, 8, 1), jf.LeakyReLU(0.0, 3), key=key))
        4
        >>> jf.order(eqx.nn.MLP(4, 1, 8, 1, key=key))
        Traceback (most recent call last):
        jaxflow.errors.NotHomogeneousError: network: found ...
    """
    check_one(network)
    if trainable is not None:
        network = with_trainable(network, trainable)
    dtype = parameter_dtype(network)
    seed = check_whole("seed", seed, least=0)
    # NumPy's generator, as compiling JAX's takes longer than everything else here.
    random = np.random.default_rng(seed)
    if inputs is None:
        shape = _input_shape(network, dtype)
        inputs = random.standard_normal((_NUM_INPUTS, *shape))
    inputs = as_samples(inputs, dtype, _NUM_INPUTS)
    check_accepts(network, inputs)
    network = seen_on_sample(network, sample_of(inputs))
    for _ in range(_ATTEMPTS):
        outputs, derivatives, scaled = jax.device_get(
            _probe(_random_points(network, random), split(network)[1], inputs)
        )
        if not np.all(np.isfinite(outputs)):
            raise InputError(
                "network", "outputs that are NaN or infinite", "finite outputs"
            )
        if np.any(outputs != 0):
            return _judge(outputs, derivatives, scaled, float(jnp.finfo(dtype).eps))
    raise InputError(
        "network", "an output of zero at every random point", "a network that is not zero"
    )


def _random_points(network, random):
    """Random weights for what is trained, stacked.

    Entries are normal with variance 1/fan-in, so that deep networks stay of order one.
    """

    def draw(leaf):
        fan_in = max(math.prod(leaf.shape[1:]), 1)
        points = random.standard_normal((_NUM_POINTS, *leaf.shape)) / fan_in**0.5
        return on_device(points, leaf.dtype)

    return jax.tree_util.tree_map(draw, parameters_of(network))


@compiled
def _probe(points, structure, inputs):
    """Outputs, `⟨w, ∇H⟩` and `H(c w)` at every point, each (points, outputs)."""

    def one(parameters):
        def evaluate(weights):
            outputs = jax.vmap(eqx.combine(weights, structure))(inputs)
            return ravel_pytree(outputs)[0]

        outputs, derivative = jax.jvp(evaluate, (parameters,), (parameters,))
        scaled = [evaluate(_times(c, parameters)) for c in _SCALINGS]
        return outputs, derivative, jnp.stack(scaled)

    return jax.vmap(one)(points)


def _times(factor, tree):
    return jax.tree_util.tree_map(lambda leaf: factor * leaf, tree)


def _judge(outputs, derivatives, scaled, eps):
    outputs, derivatives = outputs.astype(float), derivatives.astype(float)
    size = np.abs(outputs).max()
    significant = np.abs(outputs) > 1e-3 * size
    measured = float(np.median(derivatives[significant] / outputs[significant]))
    euler = np.abs(derivatives - measured * outputs).max() / size
    scaling = max(
        np.abs(scaled[:, i].astype(float) - c**measured * outputs).max()
        / (c**measured * size)
        for i, c in enumerate(_SCALINGS)
    )
    discrepancy = float(max(euler, scaling) / max(1.0, abs(measured)))
    # Not `>`: a discrepancy that is NaN is a failure too.
    if not discrepancy <= eps**0.5:
        raise NotHomogeneousError(
            "network",
            f"a relative discrepancy of {discrepancy:.1e} from homogeneity at random "
            f"points (Euler's identity {euler:.1e}, scaling {scaling:.1e}; closest order "
            f"{measured:.3g})",
            "H(x; c w) = c^L H(x; w) for some L: a network without biases whose "
            "activations are homogeneous",
            discrepancy,
        )
    return _nearest_simple(measured, eps**0.5 * max(1.0, abs(measured)))


def _nearest_simple(value: float, tolerance: float) -> int | float:
    """The rounded value where rounding is all that separates them."""
    simple = Fraction(value).limit_denominator(12)
    if abs(float(simple) - value) > tolerance:
        return value
    return int(simple) if simple.denominator == 1 else float(simple)


def _input_shape(network, dtype) -> tuple[int, ...]:
    declared = declared_shape(network)
    if declared is not None:
        return declared
    arrays = jax.tree_util.tree_leaves(eqx.filter(network, eqx.is_array))
    lengths = sorted({length for array in arrays for length in array.shape})
    accepted = [length for length in lengths if accepts(network, (length,), dtype)]
    if len(accepted) == 1:
        return (accepted[0],)
    raise InputError(
        "inputs",
        f"none, and a module that accepts vectors of length {accepted or 'nothing tried'}",
        "samples (n, *input_shape) to test the network at",
    )
