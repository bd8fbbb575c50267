"""Gradient descent: Euler's method, and what optimizers keep of their state."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxflow as jf

from .problems import teacher_task


def _flat(networks):
    leaves = jax.tree_util.tree_leaves(eqx.filter(networks, eqx.is_array))
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def _gradients(network, task):
    parameters, structure = eqx.partition(network, eqx.is_array)
    _, unravel = ravel_pytree(parameters)

    def total(w):
        outputs = jax.vmap(eqx.combine(unravel(w), structure))(task.inputs)
        return jnp.sum((outputs - task.targets) ** 2) / 2

    return jax.jit(jax.vmap(jax.grad(total)))


def test_sgd_is_a_hand_written_euler_loop():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(0))
    gradients, w = _gradients(network, task), 1.2 * _flat(ensemble)
    path = [w]
    for _ in range(40):
        w = w - 0.05 * np.asarray(gradients(w))
        path.append(w)
    descent = jf.gradient_descent(
        ensemble,
        task,
        scale=1.2,
        optimizer=optax.sgd(0.05),
        num_steps=40,
        record={"norm": jf.norm},
        record_at=np.arange(0, 41, 10),
    )
    np.testing.assert_allclose(_flat(descent.networks), w, rtol=1e-12, atol=1e-15)
    norms = np.linalg.norm(np.stack(path[::10], axis=1), axis=2)
    np.testing.assert_allclose(descent.records.values["norm"], norms, rtol=1e-12)
    assert set(descent.status) == {"NumSteps"}
    assert descent.stats.num_vjps.tolist() == [40] * 4
    assert descent.dataset["norm"].dims == ("init", "clock")
    assert np.all(np.isnan(descent.rescaled_time))


@pytest.mark.parametrize(
    "make", [lambda: optax.sgd(0.02, momentum=0.9), lambda: optax.adam(0.01)]
)
def test_optimizers_keep_their_state(make):
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(0))
    gradients, w, optimizer = _gradients(network, task), _flat(ensemble), make()
    state = jax.vmap(optimizer.init)(w)
    with jax.numpy_dtype_promotion("standard"):  # inside optax
        for _ in range(25):
            updates, state = jax.vmap(optimizer.update)(gradients(w), state, w)
            w = w + updates
    descent = jf.gradient_descent(ensemble, task, optimizer=make(), num_steps=25)
    np.testing.assert_allclose(_flat(descent.networks), w, rtol=1e-10, atol=1e-13)


def test_distance_to_the_flow_is_of_first_order_in_the_step():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(0))
    end = 8.0
    flow = jf.gradient_flow(
        ensemble, task, scale=1.5, stop=jf.Time(end), rtol=1e-10, atol=1e-12
    )
    steps = np.array([80, 160, 320, 640])
    distances = [
        np.linalg.norm(
            _flat(
                jf.gradient_descent(
                    ensemble,
                    task,
                    scale=1.5,
                    optimizer=optax.sgd(end / int(num)),
                    num_steps=int(num),
                ).networks
            )
            - _flat(flow.networks),
            axis=1,
        )
        for num in steps
    ]
    slopes = np.polyfit(np.log(end / steps), np.log(distances), 1)[0]
    np.testing.assert_allclose(slopes, 1.0, atol=0.1)


def test_descent_stops_and_diverges_with_a_status():
    network, task = teacher_task(power=1, slope=1.0)
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(0))
    stopped = jf.gradient_descent(
        ensemble, task, optimizer=optax.sgd(0.1), num_steps=400, stop=jf.LossBelow(0.3)
    )
    assert set(stopped.status) == {"LossBelow"}
    assert np.all(stopped.loss <= 0.3)
    assert np.all(stopped.stats.num_steps < 400)
    diverged = jf.gradient_descent(
        ensemble, task, scale=30.0, optimizer=optax.sgd(10.0), num_steps=50
    )
    assert set(diverged.status) == {"non_finite"}
