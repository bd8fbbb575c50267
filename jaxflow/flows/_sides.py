"""On which side of every kink a network is, for solvers that look at them."""

import hashlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arrays import words_of
from .._compiled import describe, LastUsed
from .._trained import parameters_of
from ..networks import (
    choices,
    kinks,
    marked,
    own_method,
    switches,
    unflattener,
)
from ..tasks import AbstractTask
from ._gradients import plus_penalty

Weights = Float[Array, " parameters"]


class Sides(eqx.Module):
    """Tells for everything at which the gradient jumps on which side of its kink it is.

    Given a `network`, of which only the structure is read, and the `task`; `function` of
    both and the weights, whose derivative jumps; the `kinks` among its choices; and the
    `weights` of a state.
    """

    network: eqx.Module
    task: AbstractTask
    function: Callable = eqx.field(static=True)
    kinks: tuple[int, ...] = eqx.field(static=True)
    weights: Callable[[Any], Weights] = eqx.field(static=True)

    def __call__(self, state: Any, args: Any = None) -> Bool[Array, " pairs"]:
        data = self.network, self.task
        found, _ = choices(lambda w: self.function(data, w), self.weights(state))
        return jnp.concatenate([found[place] for place in self.kinks])


class NamedSides(eqx.Module):
    """The same where a network has a method `switches(x)` of its own."""

    network: eqx.Module
    task: AbstractTask
    weights: Callable[[Any], Weights] = eqx.field(static=True)

    def __call__(self, state: Any, args: Any = None) -> Bool[Array, " pairs"]:
        network = unflattener(self.network)(self.weights(state))
        return switches(network, self.task.inputs).ravel()


class SidesOfLoss(eqx.Module):
    """The same for the kinks of a loss as a function of the outputs, and the network's.

    A state may stand for weights whose outputs are tiny. The network is asked at the state,
    and the loss at the outputs that it stands for.

    Given the `task`; the `kinks` among the choices of its loss; `outputs`, a
    function of (state, args); and the sides `of_network`, if it has kinks.
    """

    task: AbstractTask
    kinks: tuple[int, ...] = eqx.field(static=True)
    outputs: Callable[[Any, Any], Array]
    of_network: Sides | NamedSides | None

    def __call__(self, state: Any, args: Any = None) -> Bool[Array, " pairs"]:
        outputs = self.outputs(state, args)
        found, _ = choices(lambda z: _loss_of_outputs(self.task, z), outputs)
        sides = jnp.concatenate([found[place] for place in self.kinks])
        if self.of_network is None:
            return sides
        return jnp.concatenate([sides, self.of_network(state, args)])


def _state(weights: Weights) -> Weights:
    return weights


def sides_of_outputs(
    network: eqx.Module, task: AbstractTask, weights: Callable[[Any], Weights] = _state
) -> Sides | NamedSides | None:
    """The sides of a network's kinks; `None` if its outputs have none.

    Given `network`, `task`, and the `weights` of a state.
    """
    return _sides(network, task, _outputs, weights)


def sides_of_loss(
    network: eqx.Module, task: AbstractTask, weights: Callable[[Any], Weights] = _state
) -> Sides | NamedSides | None:
    """Those of its loss: the kinks of the network and of the loss."""
    return _sides(network, task, _loss, weights)


def sides_of_flow(
    network: eqx.Module,
    task: AbstractTask,
    weights: Callable[[Any], Weights],
    outputs: Callable[[Any, Any], Array],
) -> Sides | NamedSides | SidesOfLoss | None:
    """Those of a flow whose states stand for weights of another norm.

    Given `network`, `task`, the `weights` of a state, up to their norm, and the true
    `outputs` of (state, args).
    """
    of_network = sides_of_outputs(network, task, weights)
    example = eqx.filter_eval_shape(task.outputs, network)
    ones = np.ones(example.shape, example.dtype)
    found = _kinks_of(_loss_of_outputs, task, ones)
    if not found:
        return of_network
    return SidesOfLoss(task, found, outputs, of_network)  # pyright: ignore


def _outputs(data: Any, weights: Weights) -> Array:
    network, task = data
    return task.outputs(unflattener(marked(network))(weights))


def _loss(data: Any, weights: Weights) -> Array:
    network, task = data
    return plus_penalty(task.total_loss(_outputs(data, weights)), network, task, weights)


def _loss_of_outputs(task: Any, outputs: Array) -> Array:
    return task.total_loss(outputs)


def _sides(network, task, function, weights) -> Sides | NamedSides | None:
    if own_method(network, "switches") is not None:
        return NamedSides(network, task, weights)  # pyright: ignore
    data = network, task
    leaves = jax.tree_util.tree_leaves(parameters_of(network))
    entries = np.concatenate([np.ravel(leaf) for leaf in leaves])
    found = _kinks_of(function, data, entries)
    return Sides(network, task, function, found, weights) if found else None  # pyright: ignore


def _kinks_of(function: Callable, data: Any, weights: np.ndarray) -> tuple[int, ...]:
    find = lambda: kinks(function, data, weights)
    return _known.get((function, describe(data), _digest(data)), find)


_known: LastUsed[tuple[int, ...]] = LastUsed(256)
"""By everything but the parameters, which kinks do not depend on."""


def _digest(data: Any) -> str:
    fixed = data
    if isinstance(data, tuple):  # with a network, of which the arrays are the parameters
        network, task = data
        fixed = eqx.filter(network, eqx.is_inexact_array, inverse=True), task
    digest = hashlib.sha256()
    for leaf in jax.tree_util.tree_leaves(eqx.filter(fixed, eqx.is_array)):
        digest.update(words_of(leaf).tobytes())
    return digest.hexdigest()
