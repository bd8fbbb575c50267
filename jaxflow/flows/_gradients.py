"""The one vector-Jacobian product from which every flow is made."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..networks import unflattener
from ..tasks import AbstractTask


def pull_back(
    network: eqx.Module,
    task: AbstractTask,
    parameters: Float[Array, " parameters"],
    coefficients: Callable[[Float[Array, "n out"]], Float[Array, "n out"]],
) -> Float[Array, " parameters"]:
    """`g = Σ_i J_i(w)ᵀ c_i` with `c = coefficients(H(x; w))`, `J_i = ∂H(x_i; w)/∂w`."""
    outputs, pull = outputs_and_pull(network, task, parameters)
    return pull(coefficients(outputs))


def outputs_and_pull(
    network: eqx.Module, task: AbstractTask, parameters: Float[Array, " parameters"]
) -> tuple[
    Float[Array, "n out"], Callable[[Float[Array, "n out"]], Float[Array, " parameters"]]
]:
    """`H(x_i; w)` for every sample, and `c ↦ Σ_i J_i(w)ᵀ c_i`."""
    rebuild = unflattener(network)
    outputs, vjp = jax.vjp(lambda w: task.outputs(rebuild(w)), parameters)
    return outputs, lambda coefficients: vjp(coefficients)[0]


def outputs_at(
    network: eqx.Module, task: AbstractTask, parameters: Float[Array, " parameters"]
) -> Float[Array, "n out"]:
    """`H(x_i; w)` for every sample."""
    return task.outputs(unflattener(network)(parameters))


def downhill(
    network: eqx.Module,
    task: AbstractTask,
    parameters: Float[Array, " parameters"],
    scaled: Callable[[Float[Array, "n out"]], Float[Array, "n out"]] = lambda h: h,
) -> Float[Array, " parameters"]:
    """`-Σ_i J_i(w)ᵀ ℓ'(ŷ_i, y_i)` with `ŷ = scaled(H(x; w))`, and `-∇R(w)` if there is one.

    NaN where the loss is NaN or infinite.
    """
    on_samples = downhill_on_samples(network, task, parameters, scaled)
    return less_penalty(on_samples, network, task, parameters)


def downhill_on_samples(
    network: eqx.Module,
    task: AbstractTask,
    parameters: Float[Array, " parameters"],
    scaled: Callable[[Float[Array, "n out"]], Float[Array, "n out"]] = lambda h: h,
) -> Float[Array, " parameters"]:
    """The negative gradient of the loss of the samples alone."""
    outputs, pull = outputs_and_pull(network, task, parameters)
    outputs = scaled(outputs)
    return where_defined(pull(task.residuals(outputs)), task.total_loss(outputs))


def less_penalty(
    gradient: Float[Array, " parameters"],
    network: eqx.Module,
    task: AbstractTask,
    parameters: Float[Array, " parameters"],
) -> Float[Array, " parameters"]:
    """A field less `∇R(w)`, where the task has a regularizer."""
    if not task.has_penalty:
        return gradient
    rebuild = unflattener(network)
    of_weights = lambda weights: task.penalty(rebuild(weights))
    penalty, slope = jax.value_and_grad(of_weights)(parameters)
    return gradient - where_defined(slope, penalty)


def plus_penalty(
    loss: Float[Array, ""],
    network: eqx.Module,
    task: AbstractTask,
    parameters: Float[Array, " parameters"],
) -> Float[Array, ""]:
    """A loss of samples and `R(w)`, where the task has a regularizer."""
    if not task.has_penalty:
        return loss
    return loss + task.penalty(unflattener(network)(parameters))


def where_defined(
    gradient: Float[Array, " parameters"], *values: Float[Array, "..."]
) -> Float[Array, " parameters"]:
    """The gradient of a function with these values: NaN where they are NaN or infinite.

    Derivatives do not always notice: that of `jax.nn.relu` at NaN is zero, and that of
    `log` at a negative number is finite. A flow has no field where its loss is no number,
    and the outputs come with the gradient, so that saying so evaluates no network.
    """
    finite = jnp.stack([jnp.all(jnp.isfinite(value)) for value in values])
    return jnp.where(jnp.all(finite), gradient, jnp.nan)
