"""The clock of the polar flow, and the gradient that belongs to it.

The polar flow is of order one on the clock `τ` as long as the residuals `-ℓ'` are. With
an exponential tail they fall like the loss itself once the data is separated, and `τ`
would have to run to infinity like `t`. Such losses have the clock

    dσ = (𝓛/𝓛(0)) dτ,    𝓛(0) the loss at the origin,

which is `τ` while the weights are small, and on which the gradient is

    𝓛(0) Σ_i J_i(v)ᵀ r_i,    r_i = -∂ log 𝓛/∂ŷ_i,

which stays of order one. Nothing in it underflows: the loss only enters by its logarithm.

Source:
    Lyu and Li (2020), arXiv:1906.05890, and Ji and Telgarsky (2020), arXiv:2006.06657,
    whose proofs measure time by `𝓛 dt`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..tasks import AbstractTask, log_loss_at_origin


class Pull(NamedTuple):
    """What the samples pull their outputs towards, per unit of the flow's clock."""

    coefficients: Float[Array, "n out"]  # `c_i`: `-ℓ'`, times `dτ/dσ`
    log_pace: Float[Array, ""]  # `log dτ/dσ`
    defined_by: Float[Array, ""]  # no finite number where the flow has no field


def pull_at(task: AbstractTask, outputs: Float[Array, "n out"]) -> Pull:
    """The coefficients `c_i` of the polar flow at these outputs, and its clock's pace."""
    if not task.has_margins:
        pace = jnp.zeros((), outputs.dtype)
        return Pull(task.residuals(outputs), pace, task.total_loss(outputs))
    at_origin = log_loss_at_origin(task, outputs)
    coefficients = jnp.exp(at_origin) * task.relative_residuals(outputs)
    # The loss itself may overflow at a start from which the flow is well-defined.
    log_loss = task.log_loss(outputs)
    return Pull(coefficients, at_origin - log_loss, log_loss)
