"""The neural correlation function."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..networks import flatten, parameter_dtype, unflattener
from ..tasks import Task


def ncf(network: eqx.Module, task: Task) -> Float[Array, ""]:
    """The neural correlation function `N(w) = Σ_i ⟨z_i, H(x_i; w)⟩`.

    With `z_i = -ℓ'(0, y_i)`: `y_i` for the square loss, `y_i/2` for the logistic, `y_i`
    for the exponential. Near the origin `-∇𝓛(w) ≈ ∇N(w)`.

    **Arguments:**

    - `network`: one network, called on one sample.
    - `task`: the data and the loss.

    **Returns:** `N(w)`, a scalar.

    **Source:** arXiv:2403.08121, section 3 (neural correlation function).

    >>> import jax, jax.numpy as jnp, jaxflow as jf
    >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
    >>> task = jf.Task(jnp.eye(2), jnp.array([1.0, 0.0]))
    >>> bool(ncf(network, task) == network.weights[0][0, 0])
    True
    """
    outputs = task.astype(parameter_dtype(network)).outputs(network)
    return jnp.sum(task.correlation_weights(outputs) * outputs)


def ncf_gradient(network: eqx.Module, task: Task) -> Float[Array, " parameters"]:
    """`∇N(w)` as one vector, in the order of the network's leaves."""
    rebuild = unflattener(network)
    return jax.grad(lambda vector: ncf(rebuild(vector), task))(flatten(network))
