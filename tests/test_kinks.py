"""Kinks: what smoothing saves and changes, and steps that slide along them."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf
from jaxflow.networks import switches
from jaxflow.solvers import (
    count_evaluations,
    PredictiveController,
    SlidingSteps,
    WrittenOut,
)

from .problems import self_taught, teacher_task


@pytest.mark.parametrize("seed, accuracy", [(5, 1e-6), (0, 1e-5)])
def test_smoothing_takes_a_third_of_the_steps_to_the_same_values(seed, accuracy):
    """Both ends are valued by the function without smoothing.

    How close they are depends on how many samples lie near the kinks of the end.
    """
    kinked = jf.LeakyReLU(0.5)
    _, task = self_taught((10, 20, 20, 1), kinked, 50, seed)
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


def on_a_kink(tolerance, solver, field, end):
    """Steps and end of a flow in the plane and a third coordinate, from (1, 0.3, 0)."""
    controller = PredictiveController(
        rtol=tolerance, atol=tolerance, norm=lambda error: jnp.max(jnp.abs(error))
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        end,
        None,
        jnp.array([1.0, 0.3, 0.0]),
        stepsize_controller=controller,
        max_steps=20_000,
    )
    return int(solution.stats["num_steps"]), np.asarray(solution.ys[-1])


def loosened(method, factor=30.0):
    return SlidingSteps(method, lambda y: y[1:2] > 0, jnp.asarray(factor))


@pytest.mark.parametrize("method", [diffrax.Bosh3(), diffrax.Heun()])
def test_sliding_takes_few_steps_to_the_filippov_solution(method):
    """`y' = 1/2 - sign y` reaches zero at 0.6 and stays; there 3/4 of the time is above."""

    def field(t, y, args):
        above = jnp.where(y[1] > 0, 1.0, 0.0)
        return jnp.stack([-y[0], 1.5 - 2 * above, above])

    exact = [np.exp(-3.0), 0.0, 0.6 + 0.75 * 2.4]
    slow, _ = on_a_kink(1e-3, WrittenOut(method), field, 3.0)
    for tolerance in (1e-3, 1e-4):
        steps, end = on_a_kink(tolerance, loosened(method), field, 3.0)
        # The error is the amplitude of the chatter, which follows the tolerance.
        assert np.abs(end - exact).max() < 100 * tolerance
        assert steps < slow / 10 * (1e-3 / tolerance)


def test_crossing_a_kink_once_is_held_to_the_tight_tolerance():
    def field(t, y, args):
        return jnp.stack([-y[0], -1.0 + 0 * y[1], jnp.where(y[1] > 0, 1.0, -1.0)])

    method = diffrax.Bosh3()
    steps, end = on_a_kink(1e-4, WrittenOut(method), field, 1.0)
    same, there = on_a_kink(1e-4, loosened(method), field, 1.0)
    assert same == steps
    np.testing.assert_allclose(there, end, rtol=1e-12)
    np.testing.assert_allclose(there, [np.exp(-1.0), -0.7, -0.4], atol=1e-3)


def test_switches_are_the_signs_of_all_pre_activations():
    network, task = teacher_task(power=1)
    first, second, _ = network.weights
    z = np.asarray(task.inputs @ first.T)
    h = np.maximum(z, 0.5 * z)
    expected = np.concatenate([z, h @ np.asarray(second).T], axis=1) > 0
    np.testing.assert_array_equal(switches(network, task.inputs), expected)
    key = jax.random.key(0)
    images = jax.random.normal(key, (3, 1, 6, 6))
    convolutional = jf.ConvNet((1, 6, 6), (2, 3), 1, jf.LeakyReLU(), key=key)
    assert switches(convolutional, images).shape == (3, (2 + 3) * 36)


def loss_curves(ensemble, task, step, method, times):
    """Losses of every member at multiples of `times`, by steps of constant size."""

    def velocity(networks):
        return jax.vmap(jax.grad(lambda n: -jf.loss(n, task)))(networks)

    def moved(networks, slope, size):
        return jax.tree_util.tree_map(lambda w, k: w + size * k, networks, slope)

    def euler(networks):
        return moved(networks, velocity(networks), step)

    def runge_kutta(networks):
        first = velocity(networks)
        second = velocity(moved(networks, first, step / 2))
        third = velocity(moved(networks, second, step / 2))
        fourth = velocity(moved(networks, third, step))
        for slope, share in ((first, 1), (second, 2), (third, 2), (fourth, 1)):
            networks = moved(networks, slope, share * step / 6)
        return networks

    one = {"euler": euler, "runge_kutta": runge_kutta}[method]
    count = round(times[0] / step)

    def several(networks, _):
        networks = jax.lax.fori_loop(0, count, lambda i, n: one(n), networks)
        return networks, jax.vmap(lambda n: jf.loss(n, task))(networks)

    run = jax.jit(lambda start: jax.lax.scan(several, start, None, length=len(times))[1])
    start = jax.tree_util.tree_map(lambda w: 0.1 * w, ensemble)
    return np.asarray(run(start)).T


def test_sliding_solver_keeps_the_loss_curve_with_a_fraction_of_the_gradients():
    """Loss curves through escape and sliding, to a 25th of the loss at the start.

    Distances are relative to the loss at the start; Euler's method is given more than
    twice the gradients, and is ten times further off.
    """
    network, task = self_taught((10, 20, 20, 1), jf.LeakyReLU(0.5), 50, 5)
    ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(7))
    times = np.arange(1, 241) * 0.5
    exact = loss_curves(ensemble, task, 0.05, "runge_kutta", times)
    assert (exact[:, -1] < 0.02).all()

    def flow(solver, rtol, **more):
        return jf.gradient_flow(
            ensemble,
            task,
            scale=0.1,
            stop=jf.Time(times[-1]),
            solver=solver,
            rtol=rtol,
            atol=1e-3 * rtol,
            max_steps=50_000,
            **more,
        )

    def distance(curves):
        return np.median(np.abs(curves - exact).max(axis=1) / 0.5)

    recorded = {"record": {"loss": jf.loss}, "record_at": np.log(times)}
    sliding = flow(
        jf.sliding_solver(diffrax.Bosh3(), network, task),
        3e-5,
        record_over="log_time",
        **recorded,
    )
    gradients = np.median(sliding.stats.num_vjps)
    plain = flow(diffrax.Bosh3(), 1e-4)
    assert gradients < np.median(plain.stats.num_vjps) / 1.5
    assert distance(np.asarray(sliding.records.values["loss"])) < 1e-3
    assert times[-1] / 0.01 > 2 * gradients
    assert distance(loss_curves(ensemble, task, 0.01, "euler", times)) > 1e-2


def test_sliding_solver_counts_gradients_as_its_method_does():
    network, task = teacher_task(power=1)
    for method in (diffrax.Bosh3(), diffrax.Heun()):
        solver = jf.sliding_solver(method, network, task)
        assert count_evaluations(solver, True) == count_evaluations(method, True)


def test_sliding_solver_works_in_cartesian_coordinates():
    network, task = teacher_task(power=1)
    ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(3))
    times = np.array([20.0, 40.0])
    exact = loss_curves(ensemble, task, 0.01, "runge_kutta", times)[:, -1]
    solution = jf.gradient_flow(
        ensemble,
        task,
        scale=0.1,
        stop=jf.Time(times[-1]),
        solver=jf.sliding_solver(diffrax.Bosh3(), network, task),
        rtol=1e-4,
        atol=1e-7,
        coordinates="cartesian",
    )
    assert set(solution.status) == {"Time"}
    assert np.abs(solution.loss - exact).max() < 1e-3


def test_sliding_solver_refuses_what_has_no_kinks():
    network, task = teacher_task(power=1)
    smooth, _ = teacher_task(power=1, smoothing=0.03)
    with pytest.raises(jf.InputError, match="network"):
        jf.sliding_solver(diffrax.Bosh3(), smooth, task)
    with pytest.raises(jf.InputError, match="solver"):
        jf.sliding_solver(diffrax.Kvaerno3(), network, task)  # pyright: ignore
    with pytest.raises(jf.InputError, match="factor"):
        jf.sliding_solver(diffrax.Bosh3(), network, task, factor=0.5)
