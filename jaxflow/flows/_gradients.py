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
    """`-Σ_i J_i(w)ᵀ ℓ'(ŷ_i, y_i)` with `ŷ = scaled(H(x; w))`.

    NaN where the loss is NaN or infinite.
    """
    outputs, pull = outputs_and_pull(network, task, parameters)
    outputs = scaled(outputs)
    return where_defined(pull(task.residuals(outputs)), task.total_loss(outputs))


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
