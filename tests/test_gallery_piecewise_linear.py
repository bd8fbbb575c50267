"""The gallery's claim on knots: its limit against a general solver, and its figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.optimize

from jaxflow import gallery
from jaxflow.gallery._piecewise_linear import DATA, STRENGTH


@pytest.mark.parametrize("data", DATA)
def test_the_limit_is_the_least_of_all_networks(data):
    """No network of several neurons costs less, wherever a local search begins; and the
    best of these has the knots of the limit."""
    one = DATA[data]
    x, y = np.array(one.inputs), np.array(one.targets)
    num, random = 6, np.random.default_rng(0)

    def cost(numbers):
        a, w, b = numbers.reshape(3, num)
        f = np.maximum(np.outer(x, w) + b, 0) @ a
        return np.mean((f - y) ** 2) / 2 + STRENGTH / 2 * np.sum(numbers**2)

    found = [
        scipy.optimize.minimize(cost, random.standard_normal(3 * num), method="BFGS")
        for _ in range(12)
    ]
    best = min(found, key=lambda each: each.fun)
    assert one.limit.minimum <= best.fun + 1e-7
    assert best.fun == pytest.approx(one.limit.minimum, rel=2e-4)
    a, w, b = best.x.reshape(3, num)
    masses, places = a * np.abs(w), -b / w
    inside = (one.limit.position > x[0]) & (one.limit.position < x[-1])
    for place, mass in zip(one.limit.position[inside], one.limit.mass[inside]):
        near = np.abs(places - place) < 0.05
        assert np.sum(masses[near]) == pytest.approx(mass, rel=0.05)
        center = np.average(places[near], weights=np.abs(masses[near]))
        assert center == pytest.approx(place, abs=0.02)


@pytest.mark.parametrize("data", DATA)
def test_it_is_optimal_for_every_angle(data):
    """No neuron pulls more than it costs, and those that are there as much as they cost."""
    one = DATA[data]
    x, y = np.array(one.inputs), np.array(one.targets)
    residual = y - one.limit.values(x)

    def pull(angles):
        features = np.outer(np.cos(angles), x) + np.sin(angles)[:, None]
        return np.maximum(features, 0) @ residual / len(x)

    everywhere = np.linspace(-np.pi, np.pi, 12_345)
    assert np.max(np.abs(pull(everywhere))) <= STRENGTH * (1 + 1e-6)
    of_chosen = pull(one.limit.angles) * np.sign(one.limit.weights)
    np.testing.assert_allclose(of_chosen, STRENGTH, rtol=1e-6)


def test_two_knots_away_from_the_inputs():
    claim = gallery.claim("piecewise-linear")
    shown = gallery.show(claim, "test", progress=False)
    figures = {verdict.statement: verdict.figure for verdict in shown.verdicts}
    of = lambda words: next(f for name, f in figures.items() if words in name)
    assert of("most knots") == 2
    assert of("without exactly two knots") == 0
    assert of("at inputs") < 0.02
    assert of("places of knots") < 0.02
    # A half of the time that is needed: the loss has come down, but not to the last noise.
    assert -0.01 < of("loss above") < 10
    assert 0.4 < of("order of the width") < 0.6
    knots = shown.found["off_50"].dataset
    assert knots.knots_position.shape == (8, 4, 50)
    figure = claim.draw(shown.found)
    left, middle, right = figure.axes
    assert left.get_xlabel() == "x" and len(left.get_lines()) >= 6
    assert len(middle.patches) == 4
    assert right.get_yscale() == "log"
    plt.close(figure)
