"""The one vector-Jacobian product from which every flow is made."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..networks import unflattener
from ..tasks import Task


def pull_back(
    network: eqx.Module,
    task: Task,
    parameters: Float[Array, " parameters"],
    weights: Callable[[Float[Array, "n out"]], Float[Array, "n out"]],
) -> Float[Array, " parameters"]:
    """`g = Σ_i J_i(w)ᵀ c_i` with `c = weights(H(x; w))` and `J_i = ∂H(x_i; w)/∂w`."""
    rebuild = unflattener(network)
    outputs, vjp = jax.vjp(lambda w: task.outputs(rebuild(w)), parameters)
    (gradient,) = vjp(weights(outputs))
    return gradient


def outputs_at(
    network: eqx.Module, task: Task, parameters: Float[Array, " parameters"]
) -> Float[Array, "n out"]:
    """`H(x_i; w)` for every sample."""
    return task.outputs(unflattener(network)(parameters))
