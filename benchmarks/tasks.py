"""The networks and tasks of all benchmarks."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxflow as jf
from jaxflow.flows import CartesianFlow, pull_back
from jaxflow.networks import flatten


@dataclasses.dataclass(frozen=True)
class Learner:
    """A network that learns a task from weights of norm `scale`, down to some loss."""

    network: eqx.Module
    task: jf.Task
    scale: float
    level: float  # of the loss, at which members have learned something

    @functools.cached_property
    def order(self) -> int | float | None:
        """The order of homogeneity, if there is one."""
        if isinstance(self.network, eqx.nn.MLP):
            return None
        return jf.order(self.network)

    @property
    def num_parameters(self) -> int:
        return flatten(self.network).size

    @property
    def cartesian_flow(self) -> CartesianFlow:
        """In `u = w/δ` and `s = δ^(L-2) t`; in `w` and `t` without an order."""
        return CartesianFlow(self.network, self.task, self.order)


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


def signs_of_teacher() -> tuple[jf.FeedForward, jf.Task]:
    """Two layers of power 2 learn the signs of a teacher's outputs, n = 40."""
    network, values = teacher_student((5, 10, 1), jf.LeakyReLU(0.5, 2), 40)
    signs = jnp.where(values.targets > jnp.median(values.targets), 1.0, -1.0)
    return network, jf.Task(values.inputs, signs, loss="logistic")


def digits(num: int) -> tuple[jf.FeedForward, jf.Task]:
    """Images of 3 and 8, logistic loss, for two layers of power 2."""
    task = jf.data.digits((3, 8), num)
    return jf.FeedForward((64, 16, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0)), task


def square_digits(num: int) -> tuple[jf.ConvNet, jf.Task]:
    """The same images for four 3 x 3 kernels of power 2."""
    flat = jf.data.digits((3, 8), num)
    task = jf.Task(flat.inputs.reshape(-1, 1, 8, 8), flat.targets, loss="logistic")
    activation = jf.LeakyReLU(0.5, 2)
    return jf.ConvNet((1, 8, 8), (4,), 1, activation, key=jax.random.key(0)), task


def softplus(inputs: int, width: int) -> tuple[eqx.nn.MLP, jf.Task]:
    """One hidden layer of softplus neurons with biases, a teacher of half the width."""

    def perceptron(hidden, seed):
        return eqx.nn.MLP(
            inputs,
            1,
            hidden,
            1,
            activation=jax.nn.softplus,
            key=jax.random.key(seed),
        )

    x = np.random.default_rng(0).standard_normal((200, inputs))
    teacher = jax.tree_util.tree_map(
        lambda leaf: 3 * leaf if eqx.is_array(leaf) else leaf, perceptron(width // 2, 7)
    )
    y = jax.vmap(teacher)(jnp.asarray(x))[:, 0]
    y = (y - y.mean()) / jnp.std(y)
    return perceptron(width, 0), jf.Task(x, y)


def largest_rate(network: eqx.Module, task: jf.Task) -> float:
    """The largest eigenvalue of the Hessian of the loss."""
    field = lambda w: -pull_back(network, task, w, task.residuals)
    hessian = jax.jit(jax.jacfwd(field))(flatten(network))
    return float(np.linalg.eigvalsh(np.asarray(hessian))[-1])
