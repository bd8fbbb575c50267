"""Kinks in the early phase: what smoothing saves, and what it changes."""

import jax
import numpy as np

import jaxflow as jf


def test_smoothing_takes_a_third_of_the_steps_to_the_same_values():
    key = jax.random.key(0)
    inputs = jf.data.sphere_points(50, 10, key=jax.random.key(1))
    teacher = jf.FeedForward((10, 20, 20, 1), jf.LeakyReLU(0.5), key=key)
    task = jf.data.teacher_student(teacher, inputs, target_norm=1.0)
    steps, values = {}, {}
    for smoothing in (0.0, 0.03):
        activation = jf.LeakyReLU(0.5, 1, smoothing=smoothing)
        network = jf.FeedForward((10, 20, 20, 1), activation, key=key)
        ensemble = jf.sample_ensemble(network, 16, key=jax.random.key(2))
        limit = jf.ncf_flow(
            ensemble, task, stop=jf.Stationary(1e-4), rtol=1e-5, max_steps=2000
        )
        reached = limit.status == "Stationary"
        assert reached.mean() > 0.9
        steps[smoothing] = np.median(limit.stats.num_steps)
        ends = np.asarray(jax.vmap(lambda n: jf.ncf(n, task))(limit.directions))
        values[smoothing] = np.where(reached, ends, np.nan)
    assert steps[0.03] <= steps[0.0] / 3
    relative = np.abs(values[0.03] / values[0.0] - 1)
    assert np.nanmedian(relative) < 1e-6
