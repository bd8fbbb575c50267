"""The claim on margins and blocks of neurons, at the size of a test."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxflow.gallery import claim, show

LOG_END = 100 * np.log(10)


@pytest.fixture(scope="module")
def shown():
    return show(claim("margins-descent"), "test", progress=False)


def test_blocks_of_leaky_relu_have_rank_one_and_the_layer_has_not(shown):
    flow = shown.found["flow"].dataset.isel(num=0).sel(slope=0.2)
    blocks = flow.block_stable_ranks.isel(log_time=-1).values
    assert np.all(blocks - 1 < 1e-8) and np.all(blocks >= 1 - 1e-12)
    whole = flow.stable_rank.isel(layer=0, log_time=-1).values
    np.testing.assert_allclose(whole, 1 + (0.8 / 1.2) ** 2, atol=1e-3)


def test_margins_differ_by_what_neurons_are_switched_on(shown):
    """For ReLU and orthogonal data `q_i` is `log t` and the logarithm of a count."""
    flow = shown.found["flow"].dataset.isel(num=0).sel(slope=0.0)
    margins = flow.margins.isel(log_time=-1).values
    counts = 40 * np.exp(margins - LOG_END)  # of neurons with outer weight² 1/40
    np.testing.assert_allclose(counts, np.round(counts), rtol=2e-3)
    assert np.all(np.round(counts) >= 1) and np.all(counts < 20.5)
    assert np.ptp(np.round(counts)) > 2
    ranks = flow.block_stable_ranks.isel(log_time=-1).values
    assert np.all(ranks > 1.1) and np.all(ranks < 2.9)


def test_spread_times_log_t_is_flat_over_fifty_decades(shown):
    flow = shown.found["flow"].dataset.isel(num=0)
    late = flow.sel(log_time=slice(0.5 * LOG_END, None))
    margins = late.margins
    spread = (margins.max("sample") - margins.min("sample")) / margins.mean("sample")
    law = spread * late.log_time
    assert late.sizes["log_time"] >= 8
    assert float((law.max("log_time") / law.min("log_time")).max()) < 1.01


def test_descent_goes_the_same_way(shown):
    descent = shown.found["descent"].dataset.isel(num=0, clock=-1)
    assert float(descent.block_stable_ranks.sel(slope=0.2).max()) < 1.001
    relu = descent.margins.sel(slope=0.0).values
    assert np.all(relu > 0) and np.all(relu.max(axis=-1) - relu.min(axis=-1) < np.log(20))
    leaky = descent.margins.sel(slope=0.2).values
    np.testing.assert_allclose(leaky, np.log(1000 * 1.04 / 2), rtol=0.01)


def test_what_is_said_of_it(shown):
    of_flow = [each for each in shown.verdicts if each.statement.startswith("flow")]
    assert len(of_flow) == 6 and all(each.state == "held" for each in of_flow)
    # 2,000 steps are too few for margins to be as far apart as in the limit.
    failed = {each.statement for each in shown.verdicts if each.state == "did not hold"}
    assert failed and all("the change of spread" in statement for statement in failed)


def test_its_figure(shown):
    figure = shown.claim.draw(shown.found)
    assert len(figure.axes) == 4
    margins, ranks = figure.axes[:2]
    assert margins.get_yscale() == "log" and len(margins.lines) == 3
    assert ranks.get_xscale() == "log" and len(ranks.lines) == 4
    plt.close(figure)
