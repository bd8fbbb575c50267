"""Observables of the terminal phase: margins, and KKT points of the margin problem.

Functions of (network, task), for losses with an exponential tail. With `q_i(w)` the
margins, `y_i H(x_i; w)` for labels ±1 and `H_y - H_k` for every class `k` but the label,
gradient flow on separated data maximizes the margin: `w/‖w‖` tends to a KKT point of

    min ½ ‖w‖²  subject to  q_i(w) >= 1.

Source:
    Lyu and Li (2020), arXiv:1906.05890; Ji and Telgarsky (2020), arXiv:2006.06657.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arrays import ratio
from ..flows import fitted
from ..flows._geometry import log_norm_and_direction, safe_norm, tangent_part
from ..flows._gradients import outputs_and_pull, outputs_at
from ..networks import flatten
from ..tasks import AbstractTask, margin_residual


def _with_margins(network: eqx.Module, task: AbstractTask) -> AbstractTask:
    """The task, known to fit the network and to have margins."""
    task = fitted(network, task)
    _ = task.margin_loss  # which says so where there is none
    return task


def margin(network: eqx.Module, task: AbstractTask) -> Float[Array, ""]:
    """The margin `q_min(w) = min_i q_i(w)`: positive if all samples are classified right.

    Arguments:
        network: one network.
        task: the data and the loss.

    Returns:
        A scalar.

    Raises:
        InputError: for a loss without margins, and for an ensemble.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[3.0, 4.0]]))
        >>> jf.margin(network, jf.Task(jnp.eye(2), jnp.ones(2), loss="logistic")).item()
        3.0
    """
    task = _with_margins(network, task)
    return jnp.min(task.margins(task.outputs(network)))


def normalized_margin(network: eqx.Module, task: AbstractTask) -> Float[Array, ""]:
    """The normalized margin `q_min(w/‖w‖)`, which is `q_min(w)/‖w‖^L` for homogeneous `H`.

    Arguments:
        network: one network.
        task: the data and the loss.

    Returns:
        A scalar.

    Raises:
        InputError: for a loss without margins, and for an ensemble.

    Source:
        Lyu and Li (2020), arXiv:1906.05890, section 3.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[3.0, 4.0]]))
        >>> task = jf.Task(jnp.eye(2), jnp.ones(2), loss="logistic")
        >>> round(jf.normalized_margin(network, task).item(), 6)
        0.6
    """
    task = _with_margins(network, task)
    _, direction = log_norm_and_direction(flatten(network))
    return jnp.min(task.margins(outputs_at(network, task, direction)))


def margins(network: eqx.Module, task: AbstractTask) -> Float[Array, " samples"]:
    """The margin `q_i(w)` of every sample: positive where it is classified right.

    For several classes the least over those that are not the label, `min_k (H_y - H_k)`.

    Arguments:
        network: one network.
        task: the data and the loss.

    Returns:
        (n,); infinite for samples of no weight.

    Raises:
        InputError: for a loss without margins, and for an ensemble.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[3.0, 4.0]]))
        >>> task = jf.Task(jnp.eye(2), jnp.ones(2), loss="logistic")
        >>> jf.margins(network, task).tolist()
        [3.0, 4.0]
    """
    task = _with_margins(network, task)
    return _of_samples(task, task.outputs(network))


def normalized_margins(network: eqx.Module, task: AbstractTask) -> Float[Array, " samples"]:
    """The normalized margin `q_i(w/‖w‖)` of every sample, the least of which is
    `jaxflow.normalized_margin`.

    Arguments:
        network: one network.
        task: the data and the loss.

    Returns:
        (n,); infinite for samples of no weight.

    Raises:
        InputError: for a loss without margins, and for an ensemble.

    Source:
        Lyu and Li (2020), arXiv:1906.05890, section 3.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[3.0, 4.0]]))
        >>> task = jf.Task(jnp.eye(2), jnp.ones(2), loss="logistic")
        >>> [round(each.item(), 6) for each in jf.normalized_margins(network, task)]
        [0.6, 0.8]
    """
    task = _with_margins(network, task)
    _, direction = log_norm_and_direction(flatten(network))
    return _of_samples(task, outputs_at(network, task, direction))


def _of_samples(task: AbstractTask, outputs: Float[Array, "n out"]):
    """One margin for each sample, whatever the number of classes."""
    found = task.margins(outputs)
    return jnp.min(found.reshape(found.shape[0], -1), axis=1)


def smoothed_normalized_margin(network: eqx.Module, task: AbstractTask) -> Float[Array, ""]:
    """The smoothed normalized margin `q̃(𝓛(w))/‖w‖^L`, which never falls once `𝓛 < ℓ(0)`.

    `q̃(𝓛)` is the single margin that has this loss: `log(1/𝓛)` for the exponential loss,
    `-log(e^𝓛 - 1)` for the logistic and cross-entropy. It is below `q_min` by at most
    `log` of the number of margins (up to `O(𝓛)`), so that both normalized margins have one
    limit. `‖w‖^L` is the ratio of the outputs at `w` and at `w/‖w‖`; minus infinity or NaN
    where they are zero.

    Arguments:
        network: one homogeneous network.
        task: the data and the loss.

    Returns:
        A scalar.

    Raises:
        InputError: for a loss without margins, and for an ensemble.

    Source:
        Lyu and Li (2020), arXiv:1906.05890, section 4, and appendix A.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(
        ...     lambda n: n.weights[0], network, jnp.array([[30.0, 40.0]])
        ... )
        >>> task = jf.Task(jnp.eye(2), jnp.ones(2), loss="logistic")
        >>> round(jf.smoothed_normalized_margin(network, task).item(), 6)
        0.599999
    """
    task = _with_margins(network, task)
    weights = flatten(network)
    _, direction = log_norm_and_direction(weights)
    outputs = outputs_at(network, task, weights)
    at_unit = outputs_at(network, task, direction)
    power = safe_norm(outputs.reshape(-1)) / safe_norm(at_unit.reshape(-1))  # ‖w‖^L
    return task.margin_loss.margin_at(task.log_loss(outputs)) / power


def margin_kkt_residual(network: eqx.Module, task: AbstractTask) -> Float[Array, ""]:
    """How far `w`, up to its norm, is from a KKT point of the margin problem.

    A KKT point has `w = Σ_i λ_i ∇q_i(w)` and `λ_i (q_i(w) - q_min(w)) = 0` with `λ_i >= 0`,
    up to a factor. With the multipliers that gradient flow itself provides,
    `λ_i = -∂ log 𝓛/∂q_i`, so that `Σ_i λ_i ∇q_i = -∇ log 𝓛`, this is the larger of

    - the sine of the angle between `w` and `-∇𝓛(w)`, and
    - `Σ_i λ_i (q_i - q_min) / Σ_i λ_i q_i`,

    and one if the data is not separated. Along gradient flow it falls like `1/log t` where
    all weights take part, and like `(log t)^(-1/L)` where some stand still, which then are
    that share of `‖w‖`.

    Where `H` has kinks, `∇q_i` is what automatic differentiation makes of it: an element of
    Clarke's subdifferential need not be small on a kink although another one is.

    Arguments:
        network: one homogeneous network.
        task: the data and the loss.

    Returns:
        A scalar from 0 to 1; 0 at KKT points with these multipliers only.

    Raises:
        InputError: for a loss without margins, and for an ensemble.

    Source:
        Lyu and Li (2020), arXiv:1906.05890, section 4, and appendix C.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jaxflow as jf
        >>> network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=jax.random.key(0))
        >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[3.0, 3.0]]))
        >>> task = jf.Task(jnp.eye(2), jnp.ones(2), loss="logistic")
        >>> round(jf.margin_kkt_residual(network, task).item(), 6)
        0.0
    """
    task = _with_margins(network, task)
    weights = flatten(network)
    outputs, pull_back = outputs_and_pull(network, task, weights)
    gradient = pull_back(task.relative_residuals(outputs))
    _, direction = log_norm_and_direction(weights)
    size = safe_norm(gradient)
    turning = safe_norm(tangent_part(gradient, direction))
    sine = ratio(turning, size)
    return margin_residual(task, outputs, sine)
