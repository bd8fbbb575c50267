"""Kinks in the early phase: what smoothing saves, and what it changes."""

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxflow as jf


@pytest.mark.parametrize("seed, accuracy", [(5, 1e-6), (0, 1e-5)])
def test_smoothing_takes_a_third_of_the_steps_to_the_same_values(seed, accuracy):
    """Both ends are valued by the function without smoothing.

    How close they are depends on how many samples lie near the kinks of the end.
    """
    inputs = jf.data.sphere_points(50, 10, key=jax.random.key(seed + 1))
    kinked = jf.LeakyReLU(0.5)
    teacher = jf.FeedForward((10, 20, 20, 1), kinked, key=jax.random.key(seed))
    task = jf.data.teacher_student(teacher, inputs, target_norm=1.0)
    steps, values = {}, {}
    for smoothing in (0.0, 0.03):
        activation = jf.LeakyReLU(0.5, 1, smoothing=smoothing)
        network = jf.FeedForward((10, 20, 20, 1), activation, key=jax.random.key(0))
        ensemble = jf.sample_ensemble(network, 16, key=jax.random.key(2))
        limit = jf.ncf_flow(
            ensemble, task, stop=jf.Stationary(1e-4), rtol=1e-5, max_steps=2000
        )
        assert set(limit.status) == {"Stationary"}
        steps[smoothing] = np.median(limit.stats.num_steps)
        ends = eqx.tree_at(lambda n: n.activation, limit.directions, kinked)
        values[smoothing] = np.asarray(jax.vmap(lambda n: jf.ncf(n, task))(ends))
    assert steps[0.03] <= steps[0.0] / 3
    assert np.median(np.abs(values[0.03] / values[0.0] - 1)) < accuracy
