"""Knots of a function of one variable, against second differences of the function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

from .refusing import refused

KEY = jax.random.key(0)


def network_of(slope=0.3, num=6, **more):
    more = {"biases": True, "output_scale": 0.5, **more}
    return jf.FeedForward((1, num, 1), jf.LeakyReLU(slope), key=KEY, **more)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_masses_are_second_differences(slope):
    network = network_of(slope)
    found = jf.knots(network)
    places, masses = np.asarray(found.position), np.asarray(found.mass)
    order = np.argsort(places)
    assert np.min(np.diff(places[order])) > 0.01  # they can be told apart on the grid
    step = 1e-3
    grid = np.arange(places.min() - 1, places.max() + 1, step)
    values = np.asarray(jax.vmap(network)(jnp.asarray(grid[:, None])))[:, 0]
    bends = np.diff(values, 2) / step
    for place, mass in zip(places, masses):
        near = np.abs(grid[1:-1] - place) < 2 * step
        assert np.sum(bends[near]) == pytest.approx(mass, abs=1e-9)
    assert np.sum(bends) == pytest.approx(np.sum(masses), abs=1e-9)


def test_neurons_without_a_knot():
    blind = eqx.tree_at(lambda n: n.weights[0], network_of(), jnp.zeros((6, 1)))
    found = jf.knots(blind)
    assert np.all(np.isinf(found.position)) and not np.any(found.mass)
    assert jf.distinct_knots(found.position, found.mass, within=0.1).count == 0
    assert jf.distinct_knots([], [], within=0.1).position.shape == (0,)
    plain = jf.knots(network_of(biases=False))
    np.testing.assert_array_equal(plain.position, 0)


def test_what_has_no_knots():
    smooth = jf.FeedForward((1, 3, 1), jf.LeakyReLU(0.3, 2), key=KEY)
    wide = jf.FeedForward((2, 3, 1), jf.LeakyReLU(), key=KEY)
    linear = jf.DiagonalLinear(2, 1, key=KEY)
    for network, told in ((smooth, "power 1"), (wide, "neurons"), (linear, "knots()")):
        with refused("network", match=told.replace("(", r"\(").replace(")", r"\)")):
            jf.knots(network)


def by_hand(places, masses, within, share):
    """One function's knots, one neuron after the other."""
    total = sum(abs(m) for m in masses)
    light = sorted(range(len(masses)), key=lambda j: abs(masses[j]))
    out, held = set(), 0.0
    for j in light:
        held += abs(masses[j])
        if held <= share * total:
            out.add(j)
    kept = sorted((places[j], masses[j]) for j in range(len(masses)) if j not in out)
    groups = []
    for place, mass in kept:
        if groups and place - groups[-1][-1][0] <= within:
            groups[-1].append((place, mass))
        else:
            groups.append([(place, mass)])
    found = []
    for group in groups:
        at, m = np.array(group).T
        mean = np.average(at, weights=np.abs(m))
        width = np.sqrt(np.average((at - mean) ** 2, weights=np.abs(m)))
        if abs(m.sum()) >= share * total:
            found.append((mean, m.sum(), width))
    return np.array(found).T


def test_distinct_knots_are_those_found_by_hand():
    random = np.random.default_rng(0)
    centers = random.uniform(-3, 3, (2, 5, 4))
    places = np.repeat(centers, 8, axis=2) + 0.03 * random.standard_normal((2, 5, 32))
    masses = random.standard_normal((2, 5, 32)) ** 3
    found = jf.distinct_knots(places, masses, within=0.05, share=0.03)
    counts = set()
    for row in np.ndindex(2, 5):
        expected = by_hand(places[row], masses[row], 0.05, 0.03)
        num = int(found.count[row])
        counts.add(num)
        assert num == expected.shape[1] > 0
        for values, wanted in zip(found[:3], expected):
            np.testing.assert_allclose(values[row][:num], wanted, rtol=1e-9, atol=1e-12)
            assert np.all(np.isnan(values[row][num:]))
    assert len(counts) > 1


def test_knots_are_recorded_by_studies():
    study = jf.Study(
        {
            "network": {
                "kind": "FeedForward",
                "depth": 2,
                "width": 3,
                "activation": {"kind": "LeakyReLU"},
                "biases": True,
            },
            "data": {"kind": "values", "inputs": [[1.0], [-0.5]], "targets": [0.5, 0.1]},
            "initialization": {"num": 2},
            "equation": {"kind": "langevin", "temperature": 0.1, "time": 0.2, "step": 0.1},
            "record": {"functions": ["knots", "weights"], "at": [0.0, 0.2]},
        }
    )
    dataset = study.run(progress=False).dataset
    rows, biases = (dataset[f"weights_{n}_0"].values for n in ("weights", "biases"))
    columns = dataset["weights_weights_1"].values[..., 0, :]
    assert dataset.knots_position.dims[-1] == "neuron"
    np.testing.assert_allclose(dataset.knots_position, -biases / rows[..., 0], rtol=1e-12)
    expected = columns * np.abs(rows[..., 0])
    np.testing.assert_allclose(dataset.knots_mass, expected, rtol=1e-12)
