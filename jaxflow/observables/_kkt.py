"""How far a direction is from a KKT point of the neural correlation function."""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Float

from .._arrays import ratio
from .._checks import check_flag
from ..flows import fitted, ncf_gradient
from ..flows._geometry import log_norm_and_direction, safe_norm, tangent_part
from ..networks import flatten, unflattener
from ..tasks import AbstractTask


def kkt_residual(
    network: eqx.Module, task: AbstractTask, *, relative: bool = False
) -> Float[Array, ""]:
    """How far the direction is from a KKT point: `‖∇N(v) - L N(v) v‖` at `v = w/‖w‖`.

    `L N(v) = ⟨v, ∇N(v)⟩` by Euler's identity, so the residual is the part of `∇N(v)`
    that is tangent to the unit sphere.

    Arguments:
        network: one network.
        task: the data and the loss.
        relative: whether to divide by `‖∇N(v)‖`.

    Returns:
        A scalar, not negative.

    Raises:
        InputError: for arguments that do not fit, such as an ensemble.

    Source:
        arXiv:2403.08121, section 3 (KKT points of the constrained problem).

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[3.0, 0.0]]))
        >>> jf.kkt_residual(network, jf.Task(jnp.eye(2), jnp.array([1.0, 0.0]))).item()
        0.0
    """
    relative, task = check_flag("relative", relative), fitted(network, task)
    _, direction = log_norm_and_direction(flatten(network))
    gradient = ncf_gradient(unflattener(network)(direction), task)
    residual = safe_norm(tangent_part(gradient, direction))
    size = safe_norm(gradient)
    return ratio(residual, size) if relative else residual
