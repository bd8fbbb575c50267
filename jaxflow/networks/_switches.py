"""On which side of its kink every neuron is, on every sample.

A module may call its activations wherever it likes: in a loop over layers, or inside of
`eqx.filter_vmap` as `eqx.nn.MLP` does. So the program of the network is read. In it every
activation with a kink is a call of a function of a name that nothing else has, and what
that function is called with is a pre-activation.
"""

from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree, Shaped

from .._samples import as_samples
from ..errors import InputError
from ._kinks import KINK, marked
from ._protocol import own_method
from ._reading import evaluate, Eye
from ._single import check_accepts, check_one


def switches(
    network: eqx.Module, inputs: PyTree[Shaped[Array, "n ..."]]
) -> Bool[Array, "n neurons"]:
    """Whether the pre-activation `z` is positive, for every sample and neuron.

    The module's own `switches(x)` of one sample, where it has such a method. Otherwise
    every `LeakyReLU` with a kink in the network is asked, wherever it is kept and called.

    Arguments:
        network: called on one sample.
        inputs: samples.

    Raises:
        InputError: if no activation in the network has a kink, or if one is called in a
            branch or in a loop of unknown length.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[1.0, -2.0]]))
        >>> jf.networks.switches(network, jnp.eye(2)).tolist()
        [[True], [False]]
    """
    check_one(network)
    inputs = as_samples(inputs, None)
    check_accepts(network, inputs)
    own = own_method(network, "switches")
    if own is not None:
        return jax.vmap(own)(inputs)
    arrays, rest = eqx.partition(marked(network), eqx.is_array)

    def of_one_sample(x):
        call = lambda arrays, x: cast(Callable, eqx.combine(arrays, rest))(x)
        program = jax.make_jaxpr(call)(arrays, x)
        operands = jax.tree_util.tree_leaves((arrays, x))
        sides: list[Array] = []
        evaluate(program.jaxpr, program.consts, operands, _EYE, sides)
        if not sides:
            raise InputError(
                "network", "no activation with a kink", "LeakyReLU(slope, power=1)"
            )
        return jnp.concatenate(sides)

    return jax.vmap(of_one_sample)(inputs)


def _sees(equation: Any) -> Callable | None:
    if equation.params.get("name") != KINK:
        return None
    return lambda given: given[0].ravel() > 0


def _bars(name: str) -> None:
    raise InputError(
        "network",
        f"an activation with a kink inside of {name}",
        "activations outside of branches and loops, or a method switches(x)",
    )


_EYE = Eye(_sees, skips=lambda equation: False, bars=_bars)
