"""Initial weights layer by layer, and layers that are kept as they are drawn."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import jaxflow as jf

from .problems import TSIT5
from .refusing import refused

KEY = jax.random.key(11)
NETWORK = jf.FeedForward((5, 8, 6, 1), jf.LeakyReLU(0.2), key=KEY)


def draw(network, layers, num=200, **more):
    distribution = jf.ByLayer(layers, **more)
    return jf.sample_ensemble(network, num, key=KEY, distribution=distribution)


def test_every_layer_is_drawn_as_is_said_for_it():
    ones = jax.nn.initializers.ones
    layers = {"weights[0]": jf.Gaussian(1e-3), "weights[1]": jf.Uniform(0.5)}
    first, second, third = draw(NETWORK, {**layers, "weights[2]": ones}).weights
    assert np.std(first) == pytest.approx(1e-3, rel=0.05)
    assert 0.499 < np.max(np.abs(second)) <= 0.5
    assert np.std(second) == pytest.approx(0.5 / math.sqrt(3), rel=0.05)
    assert np.all(np.asarray(third) == 1)
    # The longest name counts, and what has none is drawn otherwise.
    first, second, third = draw(
        NETWORK, {"weights": "signs", "weights[1]": "sphere"}
    ).weights
    expected = np.array([1, 1, 1, -1, -1]) / math.sqrt(5)
    np.testing.assert_allclose(first, np.broadcast_to(expected, first.shape), rtol=1e-14)
    np.testing.assert_allclose(np.sum(second**2, axis=(1, 2)), 1.0)
    module = eqx.nn.MLP(3, 1, 4, 1, key=KEY)
    layers = draw(module, {"layers[1]": jf.Signs(2.0)}, otherwise=jf.Uniform(0.1)).layers
    assert np.all(np.abs(np.asarray(layers[1].weight)) == 2)
    assert not np.any(layers[0].bias) and np.max(np.abs(layers[0].weight)) <= 0.1


def test_kept_layers_are_drawn_once_and_are_all_members():
    trainable = jf.all_but(NETWORK, "weights[1]", "weights[2]")
    distribution = jf.ByLayer({"weights[0]": "gaussian", "weights[1]": "gaussian"})
    given = {"key": KEY, "trainable": trainable, "distribution": distribution}
    drawn = jf.sample_ensemble(NETWORK, 3, **given)
    first, second, third = map(np.asarray, drawn.weights)
    assert np.all(second == second[0]) and np.all(second[0] != NETWORK.weights[1])
    assert np.all(first[0] != first[1])
    np.testing.assert_array_equal(third[1], NETWORK.weights[2])
    assert drawn.not_trained == (".weights[1]", ".weights[2]")
    # They depend on the key alone: parts of an ensemble have the same.
    many = jf.Initializations(NETWORK, 10, **given)
    part = many[4:6].members(np.array([0, 1]))
    np.testing.assert_array_equal(part.weights[1], second[:2])
    np.testing.assert_array_equal(
        many.members(np.array([4])).weights[0][0], part.weights[0][0]
    )
    other = jf.sample_ensemble(NETWORK, 3, **{**given, "key": jax.random.key(12)})
    assert np.all(other.weights[1][0] != second[0])
    assert np.std(second[0]) == pytest.approx(1 / math.sqrt(8), rel=0.35)  # of 48 entries


@pytest.mark.parametrize(
    ("kept", "of"),
    [
        ((), "sphere"),
        (("weights[2]",), jf.ByLayer({"weights[2]": "signs"})),
        (("weights[2]",), "gaussian"),
        (("weights[1]",), jf.ByLayer({"weights[1]": "uniform"})),
    ],
)
def test_pairs_cancel_and_stay_pairs(kept, of):
    drawn = jf.sample_ensemble(
        NETWORK,
        4,
        key=KEY,
        trainable=jf.all_but(NETWORK, *kept),
        distribution=jf.Symmetric(of),
    )
    inputs = np.random.default_rng(0).normal(size=(6, 5))
    outputs = eqx.filter_vmap(lambda one: jax.vmap(one)(jnp.asarray(inputs)))(drawn)
    first, second, third = map(np.asarray, drawn.weights)
    assert np.max(np.abs(outputs)) < 1e-15
    assert np.linalg.norm(first) > 0.1 and np.linalg.norm(second) > 0.1
    np.testing.assert_array_equal(second[:, :3], second[:, 3:])
    np.testing.assert_array_equal(third[..., :3], -third[..., 3:])
    assert not np.all(third == 0)


def two_neurons(gamma=0.2, size=0.7):
    """One neuron for each of two orthonormal samples, of which none ever switches."""
    network = jf.FeedForward((2, 2, 1), jf.LeakyReLU(gamma), key=KEY)
    first = jnp.array([[0.3, -0.2], [-0.4, 0.1]])
    network = eqx.tree_at(
        lambda n: n.weights, network, (first, size * jnp.array([[1.0, -1.0]]))
    )
    return network, jf.Task(np.eye(2), np.array([1.0, -1.0]), "logistic")


def margin_at(start, rate, log_time):
    """Where `q + e^q` has grown by `rate t`."""
    total = np.logaddexp(np.log(start + np.exp(start)), np.log(rate) + log_time)
    gap = lambda q: np.log1p(q * np.exp(-q)) + q - total
    return brentq(gap, 0, 300, rtol=1e-13)


@pytest.mark.parametrize("coordinates", ["polar"])
def test_a_layer_of_order_one_to_the_end_of_time(coordinates):
    """`dq/dt = s² (1 + γ²)/(1 + e^q)`, so that `q + e^q` grows linearly."""
    gamma, size = 0.2, 0.7
    network, task = two_neurons(gamma, size)
    trainable = jf.all_but(network, "weights[1]")
    assert jf.order(network, trainable=trainable) == 1
    times = np.log([1e-2, 1.0, 1e3, 1e30, 1e100])
    found = jf.gradient_flow(
        network,
        task,
        scale=0.5,
        stop=jf.LogTime(times[-1]),
        coordinates=coordinates,
        trainable=trainable,
        record={"margins": jf.margins, "norm": jf.norm},
        record_at=times,
        record_over="log_time",
        rtol=1e-8,
        atol=1e-11,
        progress=False,
        **TSIT5,
    )
    assert found.settings["order"] == 1
    starts = size * 0.5 * np.array([0.3 + gamma * 0.4, 0.1 + gamma * 0.2])
    rate = size**2 * (1 + gamma**2)
    expected = [[margin_at(start, rate, t) for start in starts] for t in times]
    np.testing.assert_allclose(found.records.values["margins"], expected, rtol=1e-6)
    # The fixed layer is as it was, and counts in no norm.
    np.testing.assert_array_equal(found.networks.weights[1], network.weights[1])
    norms = np.asarray(found.records.values["norm"])
    trained = np.linalg.norm(np.asarray(found.networks.weights[0]))
    assert norms[-1] == pytest.approx(trained, rel=1e-10)
    assert norms[0] == pytest.approx(0.5 * np.sqrt(0.30), rel=0.05)


def test_a_study_file_fixes_a_layer(tmp_path):
    layers = {"weights[0]": {"kind": "gaussian", "deviation": 2.0}, "weights[1]": "signs"}
    tables = {
        "network": {
            "kind": "FeedForward",
            "width": 4,
            "depth": 2,
            "activation": {"kind": "LeakyReLU", "slope": 0.2},
            "frozen": ["weights[1]"],
        },
        "data": {"kind": "values", "inputs": [[1.0, 0.0], [0.0, 1.0]], "targets": [1, -1]},
        "loss": "logistic",
        "initialization": {
            "num": 40,
            "distribution": {"kind": "by_layer", "layers": layers},
        },
        "equation": {"kind": "gradient_flow"},
        "stop": {"time": 1e-3},
        "stepping": {"solver": "Tsit5"},
        "record": {
            "functions": ["weights", "normalized_margins", "block_stable_ranks"],
            "at": [0.0, 1e-3],
            "over": "time",
        },
    }
    study = jf.Study(tables)
    (tmp_path / "study.toml").write_text(study.to_toml(), encoding="utf-8")
    assert jf.Study.from_toml(tmp_path / "study.toml") == study
    result = study.run(progress=False)
    found, dataset = result.results[0], result.dataset
    assert found.settings["order"] == 1 and found.settings["num_parameters"] == 8
    assert np.all(np.asarray(found.networks.weights[1]) == [[0.5, 0.5, -0.5, -0.5]])
    assert np.std(found.networks.weights[0]) == pytest.approx(2.0, rel=0.2)
    assert dataset.normalized_margins.dims == ("init", "time", "sample")
    assert dataset.block_stable_ranks.dims == ("init", "time", "block")
    pairs = study.replace({"initialization.distribution": {
        "kind": "symmetric", "of": tables["initialization"]["distribution"],
    }})  # fmt: skip
    margins = pairs.run(progress=False).dataset.normalized_margins.isel(time=0)
    assert float(abs(margins).max()) < 1e-15
    wrong = study.replace({"network.frozen": ["weights[2]"]})
    with pytest.raises(jf.StudyError, match=r"network\.frozen.*'weights\[2\]'"):
        wrong.run(progress=False)


def test_what_does_not_fit_says_so(as_users_have_it):
    with refused("distribution", match=r"weights\[7\]"):
        draw(NETWORK, {"weights[7]": "signs"})
    with refused("names", match="no_such"):
        jf.all_but(NETWORK, "no_such")
    odd = jf.FeedForward((3, 5, 1), jf.LeakyReLU(), key=KEY)
    diagonal = jf.DiagonalLinear(2, 3, key=KEY)
    with refused("distribution", match="pairs of 5 neurons"):
        jf.sample_ensemble(odd, 2, key=KEY, distribution="symmetric")
    with refused("distribution", match="pairs of neurons for a DiagonalLinear"):
        jf.sample_ensemble(diagonal, 2, key=KEY, distribution="symmetric")
    short = lambda key, shape, dtype: jnp.ones(shape[:1], dtype)
    layers = jf.ByLayer({"weights[0]": short})
    with refused("distribution", match="one that gives"):
        jf.sample_ensemble(NETWORK, 2, key=KEY, distribution=layers)
    kept = jf.all_but(NETWORK, "weights[0]")
    with pytest.raises(jf.InputError, match="distribution: found one that gives"):
        jf.sample_ensemble(NETWORK, 2, key=KEY, trainable=kept, distribution=layers)


def test_names_are_of_whole_arrays():
    many = jf.FeedForward(tuple(itertools.repeat(2, 13)), jf.LeakyReLU(), key=KEY)
    filter_ = jf.all_but(many, "weights[1]")
    assert [bool(flag) for flag in filter_.weights] == [True, False, *([True] * 10)]
