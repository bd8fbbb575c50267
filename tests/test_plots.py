"""What pictures show of members that end at different times, and in which words."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray

import jaxflow as jf
from jaxflow import plot
from jaxflow.plot._style import COLORS

GRID = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
NAN = np.nan


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def dataset(values, over="rescaled_time", grid=GRID, dims=(), **coordinates):
    """Records as a dataset has them; own points if the grid has an axis of members."""
    grid = np.asarray(grid)
    axis = over if grid.ndim == 1 else "record"
    at = (axis,) if grid.ndim == 1 else ("init", axis)
    return xarray.Dataset(
        {"value": (("init", axis, *dims), np.asarray(values, float))},
        {over: (at, grid), **{n: (("init", axis), v) for n, v in coordinates.items()}},
        {"jaxflow": {"records": {"over": over}}},
    )


def line(ax, label):
    return next(each for each in ax.lines if each.get_label() == label)


def strip(ax):
    """The height of the strip of running members, by place."""
    found = [c for c in ax.collections if c.get_label() == "share that still runs"]
    if not found:
        return None
    vertices = found[0].get_paths()[0].vertices
    return {x: vertices[vertices[:, 0] == x, 1].max() for x in np.unique(vertices[:, 0])}


def named(ax):
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_members_that_have_ended_keep_their_last_value():
    values = [
        [2.0, 1.0, NAN, NAN, NAN],
        [2.0, 1.5, 1.0, NAN, NAN],
        [2.0, 2.0, 2.0, 4.1, 4.1],
    ]
    ax = plot.recorded(dataset(values), "value")
    np.testing.assert_array_equal(line(ax, "median").get_ydata(), [2, 1.5, 1, 1, 1])
    # Its own line ends where a member does.
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), values[0])
    heights = list(strip(ax).values())
    assert max(heights) == pytest.approx(3 * min(h for h in heights if h > 0))
    assert named(ax) == ["median", "share that still runs"]
    # Nothing lies under the strip.
    assert ax.transData.transform((0, 1.0))[1] > ax.transAxes.transform((0, 0.08))[1]


def test_band_of_entries_keeps_last_values_too():
    values = np.full((5, 5, 2), 1.0)
    values[:4, 2:] = NAN
    values[4, 2:] = 9.0
    ax = plot.recorded(dataset(values, dims=["layer"]), "value")
    for band in [c for c in ax.collections if c.get_label().startswith("_")]:
        top = band.get_paths()[0].vertices[:, 1].max()
        assert top == pytest.approx(np.quantile([1, 1, 1, 1, 9], 0.9))
    assert named(ax) == ["layer 1", "layer 2", "share that still runs"]


def test_points_of_each_members_own_are_compared_at_the_same_places():
    """Two members on straight lines of their own, one of which ends at 2."""
    grid = [[0.0, 1.0, 2.0, NAN], [0.0, 1.0, 3.0, 4.0]]
    values = [[0.0, 1.0, 2.0, NAN], [0.0, 3.0, 9.0, 12.0]]
    ax = plot.recorded(dataset(values, grid=grid), "value")
    x, y = line(ax, "median").get_data()
    np.testing.assert_allclose(y, (np.minimum(x, 2.0) + 3 * x) / 2, atol=1e-12)
    heights = strip(ax)
    assert {h for x, h in heights.items() if 0.1 < x < 1.9} == {max(heights.values())}
    late = [h for x, h in heights.items() if 2.1 < x < 3.9]
    np.testing.assert_allclose(late, max(heights.values()) / 2)


def test_scales_follow_the_numbers():
    times = np.geomspace(1e-3, 1e3, 5)
    values = [[1.0, 1e-1, 1e-2, 1e-3, 1e-4]] * 2
    ax = plot.recorded(dataset(values, over="time", grid=times), "value")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert strip(ax) is None
    ax = plot.recorded(dataset([[0.3, 0.2, -0.1, 0.4, 0.9]] * 2), "value")
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")


def test_words_and_powers_of_ten():
    """Logarithms are shown as that of which they are the logarithm."""
    attrs = {"long_name": "natural logarithm of the physical time t", "units": "1"}
    found = dataset([[1.0, 2.0, 2.0, 3.0, 4.0]] * 2, over="log_time")
    found["log_time"].attrs.update(attrs)
    ax = plot.recorded(found, "value")
    assert ax.get_xlabel() == "physical time t"
    x = line(ax, "median").get_xdata()
    np.testing.assert_allclose(x, GRID / np.log(10))
    ax.figure.canvas.draw()
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert "$10^{1}$" in labels and ax.get_xscale() == "linear"
    found = dataset([[1.0, 2.0, 2.0, 3.0, 4.0]] * 2).rename(value="stable_rank")
    ax = plot.recorded(found, "stable_rank")
    assert ax.get_xlabel() == "rescaled time s = δ^(L-2) t"
    assert ax.get_ylabel() == r"stable rank $\|W_l\|_F^2 / \|W_l\|_2^2$"


def test_against_another_quantity_by_its_name():
    grid = [[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]]
    found = dataset([[0.0, 1.0, 2.0]] * 2, grid=grid, loss=[[9.0, 5.0, 2.0]] * 2)
    ax = plot.recorded(found, "value", against="loss")
    np.testing.assert_allclose(line(ax, "median").get_xdata()[[0, -1]], [9.0, 2.0])
    with pytest.raises(jf.InputError, match="against"):
        plot.recorded(found, "value", against="speed")


@pytest.mark.parametrize("num", [3, 100])
def test_many_entries_have_a_colour_bar(num):
    values = np.ones((4, 5, num)) * np.arange(num)
    ax = plot.recorded(dataset(values, dims=["singular_value"]), "value")
    assert len(named(ax)) == (num if num <= 7 else 0)
    bars = [each for each in ax.figure.axes if each is not ax]
    assert [bar.get_ylabel() for bar in bars] == ([] if num <= 7 else ["singular value"])


def test_many_members_have_a_band_and_few_lines():
    ax = plot.recorded(dataset(np.random.default_rng(0).random((500, 5))), "value")
    assert len(ax.lines) <= 61
    assert named(ax) == ["10–90 %", "median"]
    ax = plot.recorded(dataset(np.ones((1, 5))), "value")
    assert len(ax.lines) == 1 and named(ax) == []


def test_members_without_a_value_are_left_out():
    ax = plot.recorded(dataset([[NAN] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]]), "value")
    assert [list(each.get_ydata()) for each in ax.lines] == [[1, 2, 3, 4, 5]]
    plot.recorded(dataset([[NAN] * 5] * 2), "value")


def _linear(color):
    part = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def test_colours_can_be_told_apart_and_seen_on_white():
    """By people without one kind of cones: Machado, Oliveira and Fernandes (2009)."""
    visions = [
        np.eye(3),
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.052]],
        [[0.3673, 0.8607, -0.228], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
        [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
    ]
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )

    def lab(color, vision):
        xyz = to_xyz @ np.clip(vision @ _linear(color), 0, 1) / [0.9505, 1.0, 1.089]
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    for vision in visions:
        seen = [lab(color, np.asarray(vision)) for color in COLORS]
        apart = [np.linalg.norm(a - b) for k, a in enumerate(seen) for b in seen[:k]]
        assert min(apart) > 15  # a difference of 2 is just seen
    contrast = [1.05 / ((to_xyz @ _linear(color))[1] + 0.05) for color in COLORS[:5]]
    assert min(contrast) > 3  # what WCAG 2.1 asks of graphics
