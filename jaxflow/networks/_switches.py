"""On which side of its kink every neuron is, on every sample."""

from collections.abc import Callable
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..errors import InputError
from ._activations import LeakyReLU


def switches(
    network: eqx.Module, inputs: Float[Array, "n *input_shape"]
) -> Bool[Array, "n neurons"]:
    """Whether the pre-activation `z` is positive, for every sample and neuron.

    Every `LeakyReLU` with a kink in the network is asked, wherever it is kept.

    **Arguments:** a `network` called on one sample, and samples.

    **Raises:** `InputError` if no activation in the network has a kink.

    >>> import jaxflow as jf
    >>> network = jf.FeedForward((2, 1, 1), jf.LeakyReLU(), key=jax.random.key(0))
    >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[1.0, -2.0]]))
    >>> switches(network, jnp.eye(2)).tolist()
    [[True], [False]]
    """
    sides: list[Array] = []

    def recorder(leaf):
        if not (isinstance(leaf, LeakyReLU) and leaf.has_kink):
            return leaf

        def activate(z):
            sides.append(z.ravel() > 0)
            return leaf(z)

        return activate

    recording = jax.tree_util.tree_map(
        recorder, network, is_leaf=lambda leaf: isinstance(leaf, LeakyReLU)
    )

    def of_one_sample(x):
        sides.clear()
        cast(Callable, recording)(x)
        if not sides:
            raise InputError(
                "network", "no activation with a kink", "LeakyReLU(slope, power=1)"
            )
        return jnp.concatenate(sides)

    return jax.vmap(of_one_sample)(inputs)
