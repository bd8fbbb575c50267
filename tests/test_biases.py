"""Networks with biases and a factor of their output."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf
from jaxflow.kkt._objective import objective_of
from jaxflow.networks import as_feed_forward, blocks

from .filled import filled
from .refusing import refused

KEY = jax.random.key(3)
X = np.random.default_rng(0).standard_normal(3)


def network_of(sizes=(3, 4, 4, 2), activation=None, **more):
    activation = activation or jf.LeakyReLU(0.3)
    return filled(lambda: jf.FeedForward(sizes, activation, key=KEY, **more))


def two_layers(**more):
    return jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.3), key=KEY, **more)


def formula(network, activation, num):
    """The output in plain NumPy, with biases in the first `num` hidden layers."""
    h, scale = X, network.output_scale
    weights = [np.asarray(w, float) for w in network.weights]
    for layer, weight in enumerate(weights[:-1]):
        z = weight @ h
        if layer < num:
            z = z + np.asarray(network.biases[layer], float)
        h = activation(z)
    return scale * (weights[-1] @ h)


@pytest.mark.parametrize(("biases", "num"), [(False, 0), (True, 2), ("first", 1)])
def test_the_network_is_its_formula(biases, num):
    network = network_of(biases=biases, output_scale=0.25)
    assert [b.shape for b in network.biases] == [(4,)] * num
    assert all(np.any(b != 0) for b in network.biases)
    expected = formula(network, lambda z: np.maximum(z, 0.3 * z), num)
    np.testing.assert_allclose(network(jnp.asarray(X)), expected, rtol=1e-12)


def test_weights_are_drawn_as_without_biases():
    plain, biased = two_layers(), two_layers(biases=True)
    for one, other in zip(plain.weights, biased.weights):
        np.testing.assert_array_equal(one, other)


def test_biases_of_the_first_layer_are_as_a_constant_input():
    """The smoothed kink too: its radius is that of the longer row and input."""
    activation = jf.LeakyReLU(0.3, 2, smoothing=0.5)
    biased = network_of((3, 4, 1), activation, biases="first")
    longer = jf.FeedForward((4, 4, 1), activation, key=KEY)
    rows = jnp.concatenate([biased.weights[0], biased.biases[0][:, None]], axis=1)
    longer = eqx.tree_at(lambda n: n.weights, longer, (rows, biased.weights[1]))
    found, expected = biased(jnp.asarray(X)), longer(jnp.append(jnp.asarray(X), 1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("sizes", [(3, 4, 1), (3, 4, 4, 1)])
@pytest.mark.parametrize("power", [1, 2])
def test_the_order_where_one_remains(sizes, power):
    activation = jf.LeakyReLU(0.3, power)
    plain = jf.FeedForward(sizes, activation, key=KEY)
    first = jf.FeedForward(sizes, activation, biases="first", output_scale=0.1, key=KEY)
    assert jf.order(first) == jf.order(plain)


def test_no_order_with_biases_of_later_layers():
    with pytest.raises(jf.NotHomogeneousError):
        jf.order(network_of(biases=True))


def test_what_is_known_of_its_form():
    biased = two_layers(biases=True)
    assert as_feed_forward(biased) is None
    assert blocks(biased).tolist() == [*np.repeat(range(4), 3), *range(4), *range(4)]
    deep = blocks(network_of(biases=True))
    assert len(set(deep.tolist())) == 5  # each array is a block
    scaled = two_layers(output_scale=0.25)
    assert as_feed_forward(scaled) is scaled
    np.testing.assert_array_equal(blocks(scaled), blocks(two_layers()))
    with refused("network", match="FeedForward network, or one"):
        jf.kkt.rank_one(biased)


def test_the_output_is_the_sum_of_its_blocks():
    biased = two_layers(biases=True)
    vector, block = jf.networks.flatten(biased), blocks(biased)
    of = lambda row: jf.networks.unflattener(biased)(row)(jnp.asarray(X))
    parts = [of(jnp.where(block == number, vector, 0.0)) for number in range(4)]
    np.testing.assert_allclose(sum(parts), of(vector), rtol=1e-12)


def test_the_correlation_function_of_a_scaled_network():
    """Where its parts are computed from the matrices, too: at a point of rank one."""
    task = jf.Task(np.array([[1.0, 0.2], [0.4, 1.0], [-0.5, 0.8]]), [1.0, 0.5, 0.3])
    sizes, activation = (2, 4, 1), jf.LeakyReLU(0.3)
    plain = jf.kkt.lift(np.array([0.6, 0.8]), [1], sizes, activation, [[0, 2]])
    scaled = jf.FeedForward(sizes, activation, output_scale=0.25, key=KEY)
    scaled = eqx.tree_at(lambda n: n.weights, scaled, plain.weights)
    expected = 0.25 * float(jf.ncf(plain, task))
    assert jf.ncf(scaled, task) == pytest.approx(expected, rel=1e-12)
    assert jf.kkt.rank_one_conditions(scaled, task).value == pytest.approx(expected)
    objective = objective_of(scaled, task, 0.0)
    vector = jf.networks.flatten(scaled)
    pre = np.asarray(task.inputs) @ np.asarray(scaled.weights[0]).T
    slopes = jnp.asarray(np.where(pre > 0, 1.0, 0.3).ravel())
    assert objective.value(vector, slopes) == pytest.approx(expected, rel=1e-12)


def test_biases_are_drawn_where_asked_for():
    network = jf.FeedForward((3, 50, 50, 1), jf.LeakyReLU(), biases=True, key=KEY)
    draw = lambda how: jf.sample_ensemble(network, 40, key=KEY, distribution=how)
    zero, drawn = draw("gaussian"), draw(jf.networks.Gaussian(biases=0.5))
    uniform = draw(jf.networks.Uniform(biases=0.5))
    for layer in range(2):
        assert not np.any(zero.biases[layer])
        entries = np.asarray(drawn.biases[layer])
        assert np.std(entries) == pytest.approx(0.5, rel=0.06)
        assert 0.49 < np.max(np.abs(uniform.biases[layer])) <= 0.5
        np.testing.assert_array_equal(zero.weights[layer], drawn.weights[layer])
    with refused("biases", match="-1"):
        jf.networks.Gaussian(biases=-1.0)
    with pytest.raises(jf.InputError, match="chain of matrices"):
        draw("balanced")


def test_a_result_in_a_file_and_from_a_study(tmp_path):
    study = jf.Study(
        {
            "network": {
                "kind": "FeedForward",
                "depth": 2,
                "width": 3,
                "activation": {"kind": "LeakyReLU"},
                "biases": True,
                "output_scale": 0.5,
            },
            "data": {"kind": "values", "inputs": [[1.0], [-0.5]], "targets": [0.5, 0.1]},
            "initialization": {"num": 2, "scale": 0.1},
            "equation": {"kind": "gradient_flow"},
            "stop": {"rescaled_time": 1.0},
        }
    )
    solution = study.run(progress=False).results[0]
    assert solution.networks.output_scale == 0.5
    assert solution.networks.biases[0].shape == (2, 3)
    solution.save(tmp_path / "run.zarr")
    loaded = jf.load(tmp_path / "run.zarr").networks
    assert jax.tree_util.tree_structure(loaded) == jax.tree_util.tree_structure(
        solution.networks
    )
    np.testing.assert_array_equal(loaded.biases[0], solution.networks.biases[0])


def test_a_file_that_is_older_than_biases():
    """It names no biases, and the network has none."""
    from jaxflow.results._structure import describe, rebuild

    kept = []
    network = two_layers()
    described = describe(
        network, lambda a: kept.append(a) or str(len(kept) - 1), whole=True
    )
    for name in ("biases", "output_scale"):
        del described["fields"][name]
    found = rebuild(described, lambda name: kept[int(name)], ())
    same = jax.tree_util.tree_structure(found) == jax.tree_util.tree_structure(network)
    assert same and found.output_scale == 1
