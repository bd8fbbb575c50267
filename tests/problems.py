"""Small random problems that several tests share."""

import diffrax
import jax
import numpy as np

import jaxflow as jf

TSIT5 = {"solver": diffrax.Tsit5()}
"""For tests of what has nothing to do with the solver: its programs compile in half the
time of the default's."""


def feed_forward(
    sizes=(5, 6, 6, 1),
    slope=0.5,
    power=2,
    smoothing=0.0,
    seed=0,
    dtype=None,
    num_samples=20,
):
    """A network, and inputs on the sphere."""
    key = jax.random.key(seed)
    activation = jf.LeakyReLU(slope, power, smoothing)
    network = jf.FeedForward(sizes, activation, key=key, dtype=dtype)
    key = jax.random.key(seed + 1)
    inputs = jf.data.sphere_points(num_samples, sizes[0], key=key, dtype=dtype)
    return network, inputs


def teacher_task(sizes=(5, 6, 6, 1), loss="square", seed=0, **options):
    """A network and a teacher-student task for it, targets of unit norm if numbers."""
    network, inputs = feed_forward(sizes, seed=seed, **options)
    teacher, _ = feed_forward(sizes, seed=seed + 7, **options)
    norm = 1.0 if loss == "square" else None
    task = jf.data.teacher_student(teacher, inputs, loss=loss, target_norm=norm)
    return network, task


def self_taught(sizes, activation, num_samples, seed=0):
    """A network, and a task whose targets are its own outputs, scaled to unit norm."""
    network = jf.FeedForward(sizes, activation, key=jax.random.key(seed))
    inputs = jf.data.sphere_points(num_samples, sizes[0], key=jax.random.key(seed + 1))
    return network, jf.data.teacher_student(network, inputs, target_norm=1.0)


def modes_task(modes=(3.0, 2.0, 1.0), size=6):
    """Whitened data, and targets with these singular values."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.standard_normal((size, size)))[0] for _ in range(2))
    singular = np.zeros(size)
    singular[: len(modes)] = modes
    return jf.Task(np.eye(size), ((left * singular) @ right.T).T)


def weights_at(solution):
    """`u = w/δ` of every member, flat (num, parameters)."""
    import jax.numpy as jnp

    leaves = jax.tree_util.tree_leaves(solution.networks)
    flat = jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)
    scale = solution.scale if solution.blow_up_time is None else 1 + 0 * solution.scale
    return flat / jnp.asarray(scale)[:, None]
