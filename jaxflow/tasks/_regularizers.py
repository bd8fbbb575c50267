"""What a task adds to the loss of its samples: a function of the weights."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._arrays import on_device
from .._checks import check_not_negative, shown
from .._trained import parameters_of
from ..errors import InputError


class AbstractRegularizer(eqx.Module):
    """A term `R(w)` of the loss that is a function of the weights and of no sample.

    A subclass implements `__call__(network)`, differentiable in the weights. Numbers that
    it depends on are arrays of its own, so that changing them compiles nothing.

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> class Quartic(jf.AbstractRegularizer):
        ...     def __call__(self, network):
        ...         return jnp.sum(jf.networks.flatten(network) ** 4)
        >>> plain = jf.Task(jnp.eye(2), jnp.zeros(2))
        >>> task = jf.Task(jnp.eye(2), jnp.zeros(2), regularizer=Quartic())
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> bool(jf.loss(network, task) > jf.loss(network, plain))
        True
    """

    @abc.abstractmethod
    def __call__(self, network: Any) -> Float[Array, ""]:
        """`R(w)`, a scalar in the type of the weights."""


class L2(AbstractRegularizer):
    """`R(w) = λ/2 ‖w‖²` of all weights that are trained: weight decay of rate `λ`.

    Arguments:
        strength: `λ`, not negative.

    Raises:
        InputError: for another strength.

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> bool(jnp.allclose(jf.L2(0.5)(network), jf.norm(network) ** 2 / 4))
        True
    """

    strength: Float[Array, "..."]

    def __init__(self, strength: ArrayLike):
        number = check_not_negative("strength", strength)
        self.strength = on_device(np.asarray(number, jnp.result_type(float)))

    def __call__(self, network: Any) -> Float[Array, ""]:
        arrays = jax.tree_util.tree_leaves(parameters_of(network))
        return self.strength / 2 * jnp.sum(jnp.stack([jnp.vdot(a, a).real for a in arrays]))


def as_regularizer(given: Any) -> AbstractRegularizer | None:
    """What a caller gave. Raises `InputError` for what is no regularizer."""
    if given is None or isinstance(given, AbstractRegularizer):
        return given
    expected = "a jaxflow.L2(strength) or another AbstractRegularizer"
    raise InputError("regularizer", shown(given), expected)
