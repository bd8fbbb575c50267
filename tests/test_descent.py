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
    "make",
    [
        lambda: optax.sgd(0.02, momentum=0.9),
        lambda: optax.adam(0.01),
        lambda: optax.sign_sgd(0.003),
    ],
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


def _same_members(num):
    network, task = teacher_task()
    one = jf.sample_ensemble(network, 1, key=jax.random.key(0))
    repeated = jax.tree_util.tree_map(
        lambda leaf: jnp.repeat(leaf, num, axis=0) if eqx.is_array(leaf) else leaf, one
    )
    return network, task, repeated


def test_stochastic_gradients_have_the_mean_and_the_covariance_of_sampling():
    """Without replacement: covariance `n²/b (1 - b/n)` times that of the samples."""
    num, batch, rate = 4096, 3, 0.1
    network, task, ensemble = _same_members(num)
    end = jf.gradient_descent(
        ensemble,
        task,
        optimizer=optax.sgd(rate),
        num_steps=1,
        batch_size=batch,
        key=jax.random.key(7),
    )
    steps = (_flat(ensemble) - _flat(end.networks)) / rate
    start = _flat(ensemble)[:1]
    n = task.num_samples
    each = np.concatenate(
        [
            _gradients(network, jf.Task(task.inputs[i : i + 1], task.targets[i : i + 1]))(
                start
            )
            for i in range(n)
        ]
    )
    covariance = n**2 / batch * (1 - batch / n) * np.cov(each.T)
    scale = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(steps.mean(0) - each.sum(0)) <= 5 * scale / np.sqrt(num) + 1e-12)
    assert np.linalg.norm(np.cov(steps.T) - covariance) < 0.1 * np.linalg.norm(covariance)
    assert end.kind == "stochastic gradient descent"
    np.testing.assert_array_equal(end.stats.num_vjps, 1)


def test_a_batch_of_all_samples_is_gradient_descent():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(0))
    settings = {"optimizer": optax.adam(0.01), "num_steps": 30}
    plain = jf.gradient_descent(ensemble, task, **settings)
    key, n = jax.random.key(1), task.num_samples
    whole = jf.gradient_descent(ensemble, task, batch_size=n, key=key, **settings)
    np.testing.assert_allclose(_flat(whole.networks), _flat(plain.networks), rtol=1e-9)
    np.testing.assert_allclose(whole.loss, plain.loss, rtol=1e-9)


def test_batches_do_not_depend_on_the_schedule_or_the_store(tmp_path):
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 9, key=jax.random.key(0))
    settings = {
        "optimizer": optax.sgd(0.02, momentum=0.9),
        "num_steps": 40,
        "batch_size": 2,
        "key": jax.random.key(1),
    }
    wide = jf.gradient_descent(ensemble, task, **settings, schedule=jf.Schedule(width=9))
    narrow = jf.gradient_descent(ensemble, task, **settings, schedule=jf.Schedule(width=2))
    stored = jf.gradient_descent(ensemble, task, **settings, store=tmp_path / "sgd.zarr")
    for other in (narrow, stored):
        np.testing.assert_allclose(_flat(other.networks), _flat(wide.networks), rtol=1e-10)
    # Members that start together part: each has samples of its own.
    *_, same = _same_members(4)
    apart = _flat(jf.gradient_descent(same, task, **settings).networks)
    assert np.linalg.norm(apart - apart[0], axis=1)[1:].min() > 1e-5


@pytest.mark.parametrize(
    "argument, settings",
    [
        ("batch_size", {"batch_size": 0, "key": jax.random.key(0)}),
        ("batch_size", {"batch_size": 10_000, "key": jax.random.key(0)}),
        ("batch_size", {"batch_size": "few", "key": jax.random.key(0)}),
        ("batch_size", {"key": jax.random.key(0)}),
        ("key", {"batch_size": 2}),
        ("key", {"batch_size": 2, "key": 0}),
    ],
)
def test_wrong_batches(argument, settings, as_users_have_it):
    network, task = teacher_task()
    with pytest.raises(jf.InputError) as caught:
        jf.gradient_descent(
            network, task, optimizer=optax.sgd(0.1), num_steps=2, **settings
        )
    assert caught.value.argument == argument


def test_descent_ends_after_the_first_step_beyond_a_norm():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(0))
    gradients, path = _gradients(network, task), [2 * _flat(ensemble)]
    for _ in range(300):
        path.append(path[-1] - 0.05 * np.asarray(gradients(path[-1])))
    norms = np.linalg.norm(np.stack(path), axis=2)  # (steps, members)
    bound = 0.5 * (norms[0] + norms.max(axis=0))
    reached = norms.max(axis=0) > 1.001 * norms[0]
    first = np.where(reached, np.argmax(norms >= bound, axis=0), 300)
    end = jf.gradient_descent(
        ensemble,
        task,
        scale=2.0,
        optimizer=optax.sgd(0.05),
        num_steps=300,
        stop=jf.NormAbove(np.where(reached, bound, 10.0)),
    )
    assert reached.any()
    assert (end.status == np.where(reached, "NormAbove", "NumSteps")).all()
    assert end.stats.num_steps.tolist() == first.tolist()
    expected = np.stack([path[k][i] for i, k in enumerate(first)])
    np.testing.assert_allclose(_flat(end.networks), expected, rtol=1e-9, atol=1e-14)
