"""On which side of every kink a network is, for solvers that look at them."""

import hashlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._compiled import describe, LastUsed
from ..networks import (
    choices,
    flatten,
    kinks,
    marked,
    own_method,
    switches,
    unflattener,
)
from ..tasks import AbstractTask

Weights = Float[Array, " parameters"]


class Sides(eqx.Module):
    """Tells for everything at which the gradient jumps on which side of its kink it is.

    **Arguments:** a `network`, of which only the structure is read, and the `task`;
    `function` of both and the weights, whose derivative jumps; the `kinks` among its
    choices; and the `weights` of a state.
    """

    network: eqx.Module
    task: AbstractTask
    function: Callable = eqx.field(static=True)
    kinks: tuple[int, ...] = eqx.field(static=True)
    weights: Callable[[Any], Weights] = eqx.field(static=True)

    def __call__(self, state: Any) -> Bool[Array, " pairs"]:
        data = self.network, self.task
        found, _ = choices(lambda w: self.function(data, w), self.weights(state))
        return jnp.concatenate([found[place] for place in self.kinks])


class NamedSides(eqx.Module):
    """The same where a network has a method `switches(x)` of its own."""

    network: eqx.Module
    task: AbstractTask
    weights: Callable[[Any], Weights] = eqx.field(static=True)

    def __call__(self, state: Any) -> Bool[Array, " pairs"]:
        network = unflattener(self.network)(self.weights(state))
        return switches(network, self.task.inputs).ravel()


def _state(weights: Weights) -> Weights:
    return weights


def sides_of_outputs(
    network: eqx.Module, task: AbstractTask, weights: Callable[[Any], Weights] = _state
) -> Sides | NamedSides | None:
    """The sides of a network's kinks; `None` if its outputs have none.

    **Arguments:** `network`, `task`, and the `weights` of a state.
    """
    return _sides(network, task, _outputs, weights)


def sides_of_loss(
    network: eqx.Module, task: AbstractTask, weights: Callable[[Any], Weights] = _state
) -> Sides | NamedSides | None:
    """Those of its loss: the kinks of the network and of the loss."""
    return _sides(network, task, _loss, weights)


def _outputs(data: Any, weights: Weights) -> Array:
    network, task = data
    return task.outputs(unflattener(marked(network))(weights))


def _loss(data: Any, weights: Weights) -> Array:
    _, task = data
    return task.total_loss(_outputs(data, weights))


def _sides(network, task, function, weights) -> Sides | NamedSides | None:
    if own_method(network, "switches") is not None:
        return NamedSides(network, task, weights)  # pyright: ignore
    data = network, task
    find = lambda: kinks(function, data, flatten(network))
    found = _known.get((function, describe(data), _digest(data)), find)
    return Sides(network, task, function, found, weights) if found else None  # pyright: ignore


_known: LastUsed[tuple[int, ...]] = LastUsed(256)
"""By everything but the parameters, which kinks do not depend on."""


def _digest(data: Any) -> str:
    network, task = data
    fixed = eqx.filter(network, eqx.is_inexact_array, inverse=True), task
    digest = hashlib.sha256()
    for leaf in jax.tree_util.tree_leaves(eqx.filter(fixed, eqx.is_array)):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        digest.update(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes())
    return digest.hexdigest()
