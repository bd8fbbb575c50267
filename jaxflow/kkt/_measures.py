"""What is measured of members at the end of a flow, as rows of parameters."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..flows import ncf_gradient
from ..networks import layer_matrices, unflattener
from ._finish import finish

RANK_ONE = 1e-6
"""The second singular value over the first up to which a layer has rank one; the default
of `rank_one`. Chosen."""


def layers_of(networks: eqx.Module) -> list[np.ndarray]:
    """The layers of stacked networks as matrices, (members, rows, columns) each."""
    layers = eqx.filter_vmap(layer_matrices)(networks)
    return [np.asarray(layer, np.float64) for layer in layers]


def second_over_first(matrices: np.ndarray) -> np.ndarray:
    values = np.linalg.svd(matrices, compute_uv=False)
    return values[:, 1] / values[:, 0] if values.shape[1] > 1 else np.zeros(len(values))


def finished(objective, tolerance, row):
    before = objective.value(row, objective.first_slopes(row))
    return finish(objective, row, tolerance), before


def outputs_of(one, task, row):
    return task.outputs(unflattener(one)(row)).ravel()


def measured(one, task, row):
    """`λ = ⟨v, ∇N⟩`, `‖∇N‖`, and the sum of the sizes that `λ` is made of."""
    network = unflattener(one)(row)
    gradient = ncf_gradient(network, task)
    outputs = task.outputs(network)
    terms = jnp.sum(jnp.abs(task.correlation_weights(outputs) * outputs))
    return jnp.dot(row, gradient), jnp.linalg.norm(gradient), terms
