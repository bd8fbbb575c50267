"""Polar coordinates of blocks: the same flow, small blocks as accurate as large ones."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf
from jaxflow.networks import blocks

from .problems import TSIT5

KEY = jax.random.key(0)


def _two_layer(power=1, slope=1.0):
    activation = jf.LeakyReLU(slope, power)
    return jf.FeedForward((3, 4, 1), activation, key=KEY)


def test_blocks():
    assert blocks(_two_layer()).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 1, 2, 3]
    two_outputs = jf.FeedForward((1, 2, 2), jf.LeakyReLU(), key=KEY)
    assert blocks(two_outputs).tolist() == [0, 1, 0, 1, 0, 1]
    assert blocks(jf.DiagonalLinear(3, 2, key=KEY)).tolist() == [0, 1, 0, 1, 0, 1]
    deep = jf.FeedForward((1, 2, 2, 1), jf.LeakyReLU(), key=KEY)
    assert blocks(deep).tolist() == [0] * 2 + [1] * 4 + [2] * 2


@pytest.mark.parametrize(
    ("network", "loss"),
    [
        (_two_layer(power=2, slope=0.5), "square"),
        (jf.FeedForward((3, 3, 3, 1), jf.LeakyReLU(1.0), key=KEY), "square"),
        (jf.DiagonalLinear(3, 3, key=KEY), "logistic"),
    ],
    ids=["neurons", "layers", "coordinates"],
)
def test_the_flow_is_that_of_polar_coordinates(network, loss):
    x = jf.data.sphere_points(6, 3, key=KEY)
    teacher = jf.data.teacher_student(network, x, target_norm=2.0)
    targets = jnp.sign(teacher.targets) if loss == "logistic" else teacher.targets
    task = jf.Task(x, targets, loss=loss)
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(1))
    settings = {"rtol": 1e-9, "atol": 1e-12}
    runs = [
        jf.gradient_flow(
            ensemble,
            task,
            scale=0.1,
            stop=[jf.NormAbove(1.2), jf.RescaledTime(200.0)],
            coordinates=coordinates,
            record={"norms": jf.layer_norms},
            record_at=[0.5, 2.0],
            **settings,
            **TSIT5,
        )
        for coordinates in ("polar", "block_polar")
    ]
    polar, block = runs
    assert block.settings["flow_coordinates"] == "block_polar"
    np.testing.assert_array_equal(block.status, polar.status)
    for name in ("log_norm", "log_time", "rescaled_time", "loss"):
        ours, theirs = getattr(block, name), getattr(polar, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    for ours, theirs in zip(
        jax.tree_util.tree_leaves(block.directions),
        jax.tree_util.tree_leaves(polar.directions),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(
        block.records.values["norms"], polar.records.values["norms"], rtol=1e-5
    )


@pytest.mark.parametrize("small", [1e-6, 1e-12])
def test_small_coordinates_keep_their_accuracy(small):
    """Beside a coordinate that is learned at once, one that grows from 1e-12.

    Coordinates of a diagonal network of depth two with equal factors are logistic curves:
    `d(u²)/dt = 2 y u² - 2 u⁴`, so `u² = y / (1 + (y/u₀² - 1) e^(-2yt))`.
    """
    start, targets, time = np.array([0.5, small]), np.array([1.0, 0.5]), 12.0
    network = jf.DiagonalLinear(2, 2, key=KEY)
    factor = jnp.asarray(start)[None]
    network = eqx.tree_at(lambda n: n.factors, network, (factor, factor))
    task = jf.Task(np.eye(2), targets)
    exact = np.sqrt(targets / (1 + (targets / start**2 - 1) * np.exp(-2 * targets * time)))
    errors = {}
    for coordinates in ("polar", "block_polar"):
        end = jf.gradient_flow(
            network,
            task,
            stop=jf.Time(time),
            coordinates=coordinates,
            ensemble=False,
            **TSIT5,
        )
        found = np.asarray(end.networks.factors[0])[0]
        errors[coordinates] = np.abs(found / exact - 1)
    assert errors["block_polar"].max() < 1e-4
    assert errors["polar"][0] < 1e-4
    # One direction for all: the small one has what the absolute tolerance leaves of it.
    assert errors["block_polar"][1] < 0.1 * errors["polar"][1] or small > 1e-9


def test_neurons_without_weights_stay_without():
    network = _two_layer(power=2, slope=0.5)
    dead = eqx.tree_at(
        lambda n: n.weights,
        network,
        (
            network.weights[0].at[1].set(0.0),
            network.weights[1].at[:, 1].set(0.0),
        ),
    )
    x = jf.data.sphere_points(6, 3, key=KEY)
    task = jf.data.teacher_student(network, x, target_norm=1.0)
    end = jf.gradient_flow(
        dead,
        task,
        scale=0.5,
        stop=jf.RescaledTime(3.0),
        coordinates="block_polar",
        **TSIT5,
    )
    assert end.status == "RescaledTime"
    assert np.all(np.isfinite(end.networks.weights[0]))
    np.testing.assert_array_equal(end.networks.weights[0][1], 0.0)


def test_what_block_polar_coordinates_refuse(as_users_have_it):
    deep = jf.FeedForward((3, 3, 3, 1), jf.LeakyReLU(1.0), key=KEY)
    x = jf.data.sphere_points(6, 3, key=KEY)
    task = jf.Task(x, jnp.ones(6))
    zero = eqx.tree_at(lambda n: n.weights[1], deep, jnp.zeros((3, 3)))
    with pytest.raises(jf.InputError, match="without a direction") as caught:
        jf.gradient_flow(zero, task, stop=jf.LossBelow(1.0), coordinates="block_polar")
    assert caught.value.argument == "networks"
    biased = eqx.nn.MLP(3, 1, 4, 1, key=KEY)
    with pytest.raises(jf.NotHomogeneousError, match="block_polar"):
        jf.gradient_flow(biased, task, stop=jf.LossBelow(1.0), coordinates="block_polar")
    with pytest.raises(jf.InputError, match="block_polar") as caught:
        jf.gradient_flow(deep, task, stop=jf.LossBelow(1.0), coordinates="spherical")
    assert caught.value.argument == "coordinates"


def test_steps_may_slide_along_kinks():
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5), key=jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((8, 3))
    task = jf.Task(x, x[:, 0])
    solver = jf.sliding_solver(diffrax.Bosh3(), network, task)
    runs = [
        jf.gradient_flow(
            jf.sample_ensemble(network, 3, key=jax.random.key(1)),
            task,
            scale=0.1,
            stop=jf.RescaledTime(0.2),
            coordinates=coordinates,
            solver=solver,
        )
        for coordinates in ("block_polar", "polar")
    ]
    np.testing.assert_allclose(runs[0].loss, runs[1].loss, rtol=1e-4)
