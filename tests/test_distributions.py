"""Distributions of initial weights: moments, bounds, and what a flow conserves."""

import itertools
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

from .comparing import assert_same
from .problems import teacher_task, TSIT5
from .refusing import refused

KEY = jax.random.key(7)
DEEP = jf.FeedForward((4, 6, 5, 2), jf.LeakyReLU(0.3, 2), key=KEY)
LINEAR = jf.FeedForward((4, 6, 3, 5), jf.LeakyReLU(1.0), key=KEY)


def draw(network, distribution, num=300):
    return jf.sample_ensemble(network, num, key=KEY, distribution=distribution)


def test_the_sphere_is_what_it_was():
    """`g / ‖g‖` from `fold_in(key, i)`, over all parameters together."""
    drawn = jf.networks.flatten_rows(jf.sample_ensemble(DEEP, 5, key=KEY))
    for number, row in enumerate(drawn):
        normal = np.asarray(jax.random.normal(jax.random.fold_in(KEY, number), row.shape))
        np.testing.assert_allclose(row, normal / np.linalg.norm(normal), rtol=1e-13)


def test_gaussian_layers_have_the_variance_of_what_feeds_them():
    module = eqx.nn.MLP(4, 2, 8, 2, key=KEY)
    drawn = draw(module, "gaussian")
    for layer in drawn.layers:
        assert not np.any(layer.bias)
        entries = np.asarray(layer.weight)
        variance = 1 / entries.shape[2]
        few = 1 / np.sqrt(entries.size)
        assert abs(np.mean(entries)) < 4 * few * np.sqrt(variance)
        assert np.mean(entries**2) == pytest.approx(variance, rel=6 * few)
        kurtosis = np.mean(entries**4) / np.mean(entries**2) ** 2
        assert kurtosis == pytest.approx(3, abs=50 * few)


def test_uniform_layers_keep_their_bounds():
    convolution = eqx.nn.Conv2d(3, 5, 2, key=KEY)
    drawn = draw(convolution, "uniform")
    entries, bound = np.asarray(drawn.weight), 1 / np.sqrt(3 * 2 * 2)
    assert not np.any(drawn.bias)
    assert 0.999 * bound < np.max(np.abs(entries)) <= bound
    assert np.mean(entries**2) == pytest.approx(bound**2 / 3, rel=0.05)


def test_every_neuron_is_balanced():
    weights = [np.asarray(layer) for layer in draw(DEEP, "balanced", 20).weights]
    for before, after in itertools.pairwise(weights):
        into, out = np.sum(before**2, axis=2), np.sum(after**2, axis=1)
        np.testing.assert_allclose(into, 2 * out, rtol=1e-12)
    first = weights[0]
    assert np.mean(first**2) == pytest.approx(1 / 4, rel=0.2)


def test_linear_layers_are_balanced():
    weights = [np.asarray(layer) for layer in draw(LINEAR, "balanced", 20).weights]
    for before, after in itertools.pairwise(weights):
        inside = np.swapaxes(after, 1, 2) @ after - before @ np.swapaxes(before, 1, 2)
        np.testing.assert_allclose(inside, 0, atol=1e-13)
    product = weights[2] @ weights[1] @ weights[0]
    values = np.linalg.svd(product, compute_uv=False)
    of_each = np.linalg.svd(weights[0], compute_uv=False)[:, :3]
    np.testing.assert_allclose(values[:, :3], of_each**3, rtol=1e-10)
    assert np.all(values[:, 2] > 0) and np.all(values[:, 3:] < 1e-12)


def test_the_flow_keeps_the_balance():
    _, task = teacher_task(sizes=(4, 6, 5, 2))
    drawn = draw(DEEP, "balanced", 3)
    options = {"stop": jf.Time(0.5), "rtol": 1e-9, "atol": 1e-12, "progress": False}
    ends = jf.gradient_flow(drawn, task, **options, **TSIT5).networks.weights
    assert np.linalg.norm(ends[0] - drawn.weights[0]) > 0.1
    for before, after in itertools.pairwise(ends):
        into, out = jnp.sum(before**2, axis=2), jnp.sum(after**2, axis=1)
        np.testing.assert_allclose(into, 2 * out, rtol=1e-6)


class Ones(jf.AbstractDistribution):
    """Every weight is the number one, but the member's own in the last place."""

    def __call__(self, parameters, key):
        own = jax.random.uniform(key)
        ones = jax.tree_util.tree_map(jnp.ones_like, parameters)
        return eqx.tree_at(lambda p: p.weights[-1], ones, replace_fn=lambda w: own * w)


def test_a_distribution_of_ones_own_in_a_store(tmp_path):
    """Members depend on their numbers only, and files and pickles know how to draw them."""
    network, task = teacher_task(sizes=(3, 4, 1))
    drawn = jf.Initializations(network, 6, key=KEY, distribution=Ones())
    sim = jf.Simulation(
        jf.GradientFlow(), drawn, task, stop=jf.Time(0.1), stepping=jf.Stepping(**TSIT5)
    )
    whole = jf.run(sim, store=tmp_path / "run.zarr")
    assert len(set(whole.loss.tolist())) == 6
    assert_same(whole[2:], jf.run(sim[2:]))
    assert jf.Simulation.load(tmp_path / "run.zarr", trust=[__name__]) == sim
    assert pickle.loads(pickle.dumps(sim)) == sim
    other = jf.Initializations(network, 6, key=KEY)
    assert jf.Simulation(sim.equation, other, task, stop=jf.Time(0.1)) != sim
    alone = jf.Initializations(network, 1, key=KEY, start=4, distribution=Ones())
    row = alone.members(np.array([0]))
    np.testing.assert_array_equal(
        row.weights[1][0], drawn.members(np.array([4])).weights[1][0]
    )


class Short(jf.AbstractDistribution):
    def __call__(self, parameters, key):
        return jax.tree_util.tree_map(lambda leaf: leaf[:1], parameters)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("normal", "'normal'"),
        (Ones, "Ones"),
        (1.0, "1.0"),
        (Short(), "one that gives"),
    ],
)
def test_what_is_no_distribution(given, found, as_users_have_it):
    with refused("distribution", match=found):
        jf.Initializations(DEEP, 3, key=KEY, distribution=given)


CELL = eqx.nn.GRUCell(3, 4, key=KEY)


def test_what_cannot_be_balanced():
    with pytest.raises(jf.InputError, match=r"distribution: .* a chain of matrices"):
        draw(CELL, "balanced")
