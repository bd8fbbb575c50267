"""The claim on leaky ReLU networks, at the size of a test."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxflow.gallery import claim, show


@pytest.fixture(scope="module")
def shown():
    return show(claim("implicit-bias-flow"), "test", progress=False)


def test_the_limit_has_rank_two_and_equal_margins(shown):
    flow = shown.found["flow"].dataset
    values = flow.singular_values.isel(layer=0, log_time=-1).values
    np.testing.assert_allclose(values[..., 1] / values[..., 0], 0.8 / 1.2, atol=1e-4)
    assert np.all(values[..., 2] < 1e-4 * values[..., 0])
    margins = flow.margins.isel(log_time=-1)
    assert float((margins.max("sample") / margins.min("sample")).max()) < 1 + 1e-6
    # q + e^q = rate t, with half of the neurons at slope one and half at γ.
    expected = 100 * np.log(10) + np.log((1 + 0.2**2) / 2)
    np.testing.assert_allclose(margins, expected, rtol=1e-4)
    normalized = flow.normalized_margin.isel(log_time=-1).values
    np.testing.assert_allclose(normalized, np.sqrt(1.04 / 20), rtol=1e-4)


def test_one_step_makes_the_rank_small_from_a_small_start_only(shown):
    descent = shown.found["descent"].dataset
    ranks = descent.stable_rank.isel(layer=0)
    assert np.all(ranks.isel(clock=0) > 35)
    small, large = ranks.sortby("scale").isel(scale=[0, 1]), ranks.sel(scale=1.0)
    assert float(small.sel(clock=[1.0, 100.0]).max()) < 1.2
    assert float(large.min()) > 30
    assert float(descent.loss.isel(clock=-1).max()) < 13.87  # n log 2 at the start
    # By hand: the start beside a step of rank one, for n = 20, m = 64, d = 1000.
    expected = 1 + 64_000 * (1e-4 * 4 * np.sqrt(20) / 1.2) ** 2
    found = ranks.sel(scale=1e-4, clock=1.0).values
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_what_is_said_of_it(shown):
    states = [each.state for each in shown.verdicts]
    assert states.count("held") == len(states) - 1
    outside = [each for each in shown.verdicts if not each.applies]
    assert len(outside) == 1 and "<= 1e-4" in outside[0].statement


def test_its_figure(shown):
    figure = shown.claim.draw(shown.found)
    first, second, third, fourth = figure.axes
    assert "t" in first.get_xlabel() and len(first.lines) >= 3
    assert second.get_yscale() == "log" and len(third.lines) == 3
    assert "omega" in fourth.get_xlabel()
    plt.close(figure)
