"""The gallery's claim on the early phase, at its smallest size and on figures made up."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray

from jaxflow import gallery

CLAIM = gallery.claim("early-phase")


@pytest.fixture(scope="module")
def shown():
    return gallery.show(CLAIM, "test", progress=False)


def test_the_theorem_is_seen(shown):
    refuted, enough, growth, exponent, order, missed, share = shown.verdicts
    assert refuted.figure == 0 and refuted.state == "held"
    assert enough.figure == 1
    assert 0.9 < growth.figure < 1.01
    assert exponent.figure < 1e-3
    # The order of a slowest mode from below, and of faster ones from above.
    assert -0.02 < order.figure < 0.1 and "6 members" in order.note
    assert missed.figure < 1e-9
    assert share.figure == 1 and share.state == "outside the theorem's conditions"
    cells = shown.found["cells"].dataset.isel(depth=0)
    assert np.all(cells["closest"].sel(scale=1e-30) < 1e-15)
    assert np.all(cells["expected_order"] < 0.9)  # not what any network has
    one = cells["closest"].sel(scale=[1e-10, 1e-15]).values
    local = np.log(one[0] / one[1]) / np.log(1e5)
    excess = local - cells["expected_order"].values
    assert np.all(excess > -0.01) and np.min(excess) < 0.02


def test_verdicts_can_fail(shown):
    cells = shown.found["cells"].dataset
    words = np.full(cells["verdict"].shape, "no: 1 - cosine is still 0.5 at δ = 1e-30")
    words[..., 0] = "slow: 1 - cosine is still 0.7 at δ = 1e-30, but falls"
    made = cells.assign(
        verdict=(cells["verdict"].dims, words),
        fitted_order=cells["expected_order"] - 0.1,
        growth=cells["growth"] * 1.5,
        rate=cells["rate"] + 0.02,
    )
    points = shown.found["points"].dataset
    points = points.assign(rank_one_missed=points["rank_one_missed"] + 1e-3)
    tree = xarray.DataTree.from_dict({"cells": made, "points": points})
    refuted, enough, *others, _ = CLAIM.verdicts(tree)
    assert refuted.figure == 5 and enough.figure == 0
    assert "1 of 6 are slow" in enough.note
    seen = {each.state for each in (refuted, enough, *others)}
    assert seen == {"did not hold"}


def test_what_is_outside_is_called_so(shown):
    cells = shown.found["cells"].dataset.isel(depth=0, drop=True)
    kinks = xarray.concat([cells, cells], xarray.Variable("smoothing", [0.0, 0.03]))
    losses = xarray.concat([cells, cells], xarray.Variable("loss", ["square", "logistic"]))
    parts = {name: part.dataset for name, part in shown.found.children.items()}
    tree = xarray.DataTree.from_dict({**parts, "kinks": kinks, "digits": losses})
    seen = CLAIM.verdicts(tree)
    assert len(seen) == 11
    assert [each.applies for each in seen[-2:]] == [False, False]
    assert [each.figure for each in seen[-2:]] == [1, 1]
    figure = CLAIM.draw(tree)
    assert len(figure.axes[1].get_yticks()) == 3  # a network and two losses
    plt.close(figure)


def test_figure(shown):
    figure = CLAIM.draw(shown.found)
    left, right = figure.axes
    cells = shown.found["cells"].dataset.isel(depth=0)
    line = left.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), cells["scale"])
    np.testing.assert_allclose(line.get_ydata(), cells["closest"].median("init"))
    order = float(cells["fitted_order"].median())
    assert f"$D=2$, $p=2$: {order:.2f}" in line.get_label()
    np.testing.assert_allclose(right.lines[1].get_xdata(), 1)
    plt.close(figure)


def test_sizes_grow():
    quick, full = CLAIM.studies("quick"), CLAIM.studies("full")
    assert set(quick) == {"cells", "points", "digits"} == set(full) - {"kinks"}
    for name in quick:
        lengths = [np.prod([len(axis) for axis in of[name].axes]) for of in (quick, full)]
        assert lengths[0] < lengths[1]
