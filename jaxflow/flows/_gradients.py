"""The one vector-Jacobian product from which every flow is made."""

from collections.abc import Callable

import equinox as eqx
import jax
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
