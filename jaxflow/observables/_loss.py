"""The loss as an observable."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Float

from ..flows import fitted
from ..tasks import AbstractTask


def loss(network: eqx.Module, task: AbstractTask) -> Float[Array, ""]:
    """The loss `𝓛(w) = Σ_i ℓ(H(x_i; w), y_i)`, a sum over samples.

    Arguments:
        network: one network.
        task: the data and the loss.

    Returns:
        A scalar.

    Raises:
        InputError: for arguments that do not fit, such as an ensemble.

    Examples:
        >>> import jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> task = jf.Task(jnp.zeros((3, 2)), jnp.ones(3))
        >>> jf.loss(network, task).item()
        1.5
    """
    task = fitted(network, task)
    loss = task.total_loss(task.outputs(network))
    return loss + task.penalty(network) if task.has_penalty else loss
