"""Networks and tasks that several benchmarks share."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxflow as jf
from jaxflow.flows._gradients import pull_back
from jaxflow.networks import flatten


def teacher_student(
    sizes: tuple[int, ...], activation: jf.LeakyReLU, num_samples: int = 50
) -> tuple[jf.FeedForward, jf.Task]:
    """A network and what a teacher of its shape makes of samples of unit norm."""
    network = jf.FeedForward(sizes, activation, key=jax.random.key(0))
    inputs = jf.data.sphere_points(num_samples, sizes[0], key=jax.random.key(1))
    return network, jf.data.teacher_student(network, inputs, target_norm=1.0)


def three_modes() -> tuple[jf.FeedForward, jf.Task]:
    """Linear, D = 3, 6 x 6, whitened data, modes 3, 2, 1."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.standard_normal((6, 6)))[0] for _ in range(2))
    targets = (left * np.array([3.0, 2.0, 1.0, 0, 0, 0])) @ right.T
    network = jf.FeedForward((6, 6, 6, 6), jf.LeakyReLU(1.0), key=jax.random.key(0))
    return network, jf.Task(np.eye(6), targets.T)


def two_neurons(weaker: float) -> tuple[jf.FeedForward, jf.Task]:
    """Smoothed leaky ReLU, n = 20, a teacher of two neurons of weights 3 and `weaker`.

    The weaker one keeps the student, of twenty neurons, waiting at a saddle.
    """
    activation = jf.LeakyReLU(0.5, 1, smoothing=0.1)
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((20, 6)))
    rows = np.linalg.qr(random.standard_normal((6, 6)))[0][:2]
    teacher = jf.FeedForward((6, 2, 1), activation, key=jax.random.key(0))
    weights = (jnp.asarray(rows), jnp.array([[3.0, weaker]]))
    teacher = eqx.tree_at(lambda t: t.weights, teacher, weights)
    student = jf.FeedForward((6, 20, 1), activation, key=jax.random.key(0))
    return student, jf.Task(x, jax.vmap(teacher)(x)[:, 0])


def largest_rate(network: eqx.Module, task: jf.Task) -> float:
    """The largest eigenvalue of the Hessian of the loss."""
    field = lambda w: -pull_back(network, task, w, task.residuals)
    hessian = jax.jit(jax.jacfwd(field))(flatten(network))
    return float(np.linalg.eigvalsh(np.asarray(hessian))[-1])
