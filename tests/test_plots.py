"""What pictures show of members that end at different times, and in which words."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray

import jaxflow as jf
from jaxflow import plot
from jaxflow.plot._style import (
    COLORS,
    exponential_in_words,
    number_in_words,
    show_powers,
)

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


def test_numbers_are_written_in_powers_of_ten():
    assert [number_in_words(v) for v in (0.0, 1.5, 1234.0)] == ["0", "1.5", "1.23e+03"]
    assert number_in_words(-2e-7) == r"$-2.0 \times 10^{-7}$"
    assert exponential_in_words(np.log(9.99e7)) == r"$10^{8}$"


def test_spectra_end_at_the_rounding_error_of_the_largest():
    values = np.array([[[[1.0, 1e-3, 1e-40]], [[10.0, 1e-3, 0.0]]]], np.float32)
    dims = ("init", "time", "layer", "singular_value")
    dataset = xarray.Dataset({"s": (dims, values)}, {"time": [0.0, 1.0]})
    (ax,) = plot.spectra(dataset, "s")
    smallest = [line for line in ax.lines if len(line.get_xdata())][2]
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(smallest.get_ydata(), [eps, 10 * eps], rtol=1e-6)


def ends(losses, codes=None):
    dataset = xarray.Dataset({"final_loss": ("init", np.asarray(losses, float))})
    if codes is not None:
        names = {"flag_values": [-1, 1], "flag_meanings": "max_steps LossBelow"}
        dataset["status"] = ("init", np.asarray(codes, np.int8), names)
    return dataset


def heights(ax):
    return [[bar.get_height() for bar in bars] for bars in ax.containers]


def words(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_final_losses_are_counted_by_what_ended_them():
    draw = np.random.default_rng(0)
    losses = np.exp(draw.normal(size=500) * 3)
    codes = np.where(losses > 1, -1, 1)
    losses = np.concatenate([losses, [np.nan, np.inf, 0.0]])
    codes = np.concatenate([codes, [-1, -1, 1]])
    ax = plot.final_losses(ends(losses, codes))
    edges = np.geomspace(losses[:500].min(), losses[:500].max(), 33)
    counts = np.histogram(losses[:500], edges)[0]
    below = np.histogram(losses[:500][codes[:500] > 0], edges)[0]
    assert ax.get_xscale() == "log"
    found = np.array(heights(ax))
    np.testing.assert_array_equal(found.sum(axis=0), counts)
    done, failed = (int(np.sum(codes == code)) for code in (1, -1))
    assert sorted(words(ax)) == sorted(
        [
            f"LossBelow: {done}",
            f"max_steps (failed): {failed}",
            "loss is no number: 2",
            "loss is zero: 1",
        ]
    )
    by_name = dict(zip((bars.get_label() for bars in ax.containers), found))
    np.testing.assert_array_equal(by_name[f"LossBelow: {done}"], below)
    tops = [bar.get_y() + bar.get_height() for bar in ax.containers[-1]]
    np.testing.assert_array_equal(tops, counts)


def test_losses_that_are_alike_have_one_bar_and_few_are_written_down():
    for losses in ([0.01], [0.01, 0.01 + 1e-9, 0.01 - 1e-9], [0.0]):
        ax = plot.final_losses(ends(losses))
        assert sorted(heights(ax)[0])[-2:] == [0, len(losses)]
        assert ax.containers[0][0].get_x() < losses[0]
    ax = plot.final_losses(ends([1.0] * 900 + [2.0] * 3))
    assert [text.get_text().strip() for text in ax.texts] == ["3"]
    ax = plot.final_losses(ends([np.nan] * 3))
    assert sorted(words(ax)) == ["loss is no number: 3", "members: 3"]


def swept(values, **coordinates):
    return xarray.Dataset({"value": ((*coordinates, "init"), values)}, coordinates)


def test_sweep_draws_medians_at_the_values_that_were_swept():
    values = np.exp(5 * np.random.default_rng(0).normal(size=(3, 4, 7)))
    values[0, 0] = np.nan
    values[1, 1, :3] = np.inf
    scales = np.array([1e-3, 1e-4, 1e-2, 1e-1])
    ax = plot.sweep(swept(values, depth=[2, 3, 4], scale=scales), "value")
    mesh = ax.collections[0]
    expected = np.median(values, axis=-1)[:, np.argsort(scales)]
    expected[1] = np.median(values[1], axis=-1)[np.argsort(scales)]
    row = np.flatnonzero(np.argsort(scales) == 1)[0]
    expected[1, row] = np.median(values[1, 1, 3:])
    drawn = mesh.get_array()
    row_of_nan = np.flatnonzero(np.argsort(scales) == 0)[0]
    assert np.argwhere(np.ma.getmaskarray(drawn)).tolist() == [[0, row_of_nan]]
    known = ~np.ma.getmaskarray(drawn)
    np.testing.assert_allclose(drawn[known], expected[known])
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], 10 ** np.arange(-4.5, 0))
    np.testing.assert_allclose(corners[:, 0, 1], [1.5, 2.5, 3.5, 4.5])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    np.testing.assert_allclose(ax.get_xticks(), np.sort(scales))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("scale", "depth")
    (bar,) = (each for each in ax.figure.axes if each is not ax)
    assert bar.get_ylabel() == "value, median over members"


def test_sweep_over_one_quantity():
    values = np.exp(np.random.default_rng(0).normal(size=(3, 9)) * 4)
    values[1, 2] = np.nan
    dataset = xarray.Dataset(
        {"value": (("scale", "init"), values)}, {"scale": [1e-2, 1e-4, 1e-3]}
    )
    ax = plot.sweep(dataset, "value")
    *_, line = ax.lines
    np.testing.assert_allclose(line.get_xdata(), [1e-4, 1e-3, 1e-2])
    expected = [np.median(values[1][~np.isnan(values[1])]), *np.median(values, 1)[[2, 0]]]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (alone,) = plot.sweep(dataset.isel(init=0), "value").lines
    np.testing.assert_allclose(alone.get_ydata(), values[[1, 2, 0], 0])


def test_sweep_over_words_and_what_it_refuses():
    values = np.arange(12.0).reshape(2, 3, 2)
    found = swept(values, solver=["Tsit5", "Dopri8"], width=[10, 30, 1000])
    ax = plot.sweep(found, "value")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Tsit5", "Dopri8"]
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(ax.collections[0].get_array(), values.mean(axis=-1))
    with pytest.raises(jf.InputError, match="two dimensions besides init"):
        plot.sweep(found.expand_dims(third=2), "value")
    with pytest.raises(jf.InputError, match="a column of numbers"):
        plot.sweep(found.assign(value=found["value"] > 3), "value")


def test_work_precision_draws_evaluations_against_errors():
    work = {"Tsit5": ([200, 100], [1e-8, 1e-4]), "Euler": (np.arange(1, 4), [1, 0.5, 0.3])}
    ax = plot.work_precision(work)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    first, second = ax.lines
    np.testing.assert_array_equal(first.get_xydata(), [[1e-4, 100], [1e-8, 200]])
    np.testing.assert_array_equal(second.get_ydata(), [1, 2, 3])
    assert first.get_marker() != second.get_marker()
    for wrong in ({"a": [[1.0]]}, {"a": ([1.0], [0.0])}, {"a": ([1.0], [1.0, 2.0])}):
        with pytest.raises(jf.InputError, match="curves"):
            plot.work_precision(wrong)


def test_times_and_norms_follow_from_what_was_recorded():
    """At order 4 with δ = 0.1 and 0.01, s = δ² t."""
    s = np.array([1.0, 2.0, 3.0])
    scale = np.array([0.1, 0.01])
    dims = ("init", "rescaled_time")
    dataset = xarray.Dataset(
        {"value": (dims, np.ones((2, 3))), "scale": ("init", scale)},
        {"rescaled_time": s, "log_norm": (dims, np.log([[1.0, 2.0, 4.0]] * 2))},
        {"jaxflow": {"records": {"over": "rescaled_time"}, "settings": {"order": 4}}},
    )
    time = s / scale[:, None] ** 2
    ax = plot.recorded(dataset, "value", against="time")
    np.testing.assert_allclose([ax.lines[k].get_xdata() for k in (0, 1)], time)
    ax = plot.recorded(dataset, "value", against="log_time")
    np.testing.assert_allclose([ax.lines[k].get_xdata() for k in (0, 1)], np.log10(time))
    assert ax.get_xlabel() == "physical time t"
    ax = plot.recorded(dataset, "value", against="norm")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.log10([1, 2, 4]))
    assert ax.get_xlabel() == r"norm $\|w\|$"
    back = dataset.assign_coords(time=(dims, time)).drop_vars("rescaled_time")
    back.attrs["jaxflow"] = {"records": {"over": "time"}, "settings": {"order": 4}}
    ax = plot.recorded(back, "value", against="rescaled_time")
    np.testing.assert_allclose([ax.lines[k].get_xdata() for k in (0, 1)], [s, s])
    limit = dataset.assign(scale=("init", np.zeros(2)))
    with pytest.raises(jf.InputError, match="against: found 'time'"):
        plot.recorded(limit, "value", against="time")


def test_basins_have_boundaries_that_grey_keeps():
    """Four cells, of which the last is of another point."""
    columns = {"value": ("point", [0.5, 0.2]), "end": ("init", [0, 0, 0, 1])}
    ax = plot.stable_sets(xarray.Dataset(columns), extent=2.0)
    (lines,) = ax.collections
    found = sorted(np.sort(segment, axis=0).tolist() for segment in lines.get_segments())
    assert found == [[[0.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [2.0, 0.0]]]
    assert len(np.unique(ax.images[0].get_array().reshape(4, 3), axis=0)) == 2


@pytest.mark.parametrize(
    ("shares", "scale"), [([0.4, 0.6], "linear"), ([0.01, 0.99], "log")]
)
def test_shares_of_one_size_are_on_a_linear_axis(shares, scale):
    columns = {
        name: ("point", np.asarray(shares))
        for name in ("share", "share_low", "share_high", "value")
    }
    more = {"rank_one": ("point", [True, True]), "index": ("point", [0, 1])}
    ends = {"end": ("init", [0, 1, 1])}
    ax = plot.kkt_points(xarray.Dataset({**columns, **more, **ends}))
    assert ax.get_xscale() == scale
    assert ax.get_title() == "2 KKT points from 3 initializations"


def test_ticks_of_few_decades_are_at_1_2_and_5():
    ax = plt.figure().subplots()
    show_powers(ax.xaxis)
    ax.set_xlim(0.2, 1.1)
    np.testing.assert_allclose(10 ** ax.get_xticks(), [2, 5, 10])
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["2", "5", "$10^{1}$"]
    ax.set_xlim(0, 6)
    assert set(ax.get_xticks()) >= {0, 2, 4, 6}
