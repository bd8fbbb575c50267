"""Pictures of networks and of their layers: what is drawn, against NumPy."""

import dataclasses

import diffrax
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from matplotlib.patches import Wedge
from PIL import Image

import jaxflow as jf
from jaxflow import plot
from jaxflow.plot._plane import SIGNS
from jaxflow.plot._style import MAP
from jaxflow.results import Given

NUM, NEURONS = 3, 6
TIMES = [0.0, 0.4, 1.0]
RECORD = {"weights": jf.weights, "singular_values": jf.singular_values, "loss": jf.loss}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def solution():
    network = jf.FeedForward((2, NEURONS, 1), jf.LeakyReLU(0.5), key=jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((5, 2))
    return jf.gradient_flow(
        jf.sample_ensemble(network, NUM, key=jax.random.key(1)),
        jf.Task(x, np.sin(x[:, 0])),
        scale=0.5,
        stop=jf.RescaledTime(TIMES[-1]),
        solver=diffrax.Tsit5(),
        record=RECORD,
        record_at=TIMES,
        progress=False,
    )


@pytest.fixture(scope="module")
def opened(solution, tmp_path_factory):
    """The dataset of a file, as xarray opens it."""
    path = tmp_path_factory.mktemp("plots") / "flow.zarr"
    solution.save(path)
    return xarray.open_zarr(path, consolidated=False)


def expected_neurons(first, second):
    """Directions times norms over the norm of all, and signs of the output weights."""
    norms = np.sqrt(np.sum(first**2, axis=1) + np.sum(second**2, axis=0))
    unit = first / np.linalg.norm(first, axis=1, keepdims=True)
    return unit * norms[:, None] / np.linalg.norm(norms), np.sign(second[0])


def markers(ax, label):
    found = [line for line in ax.lines if line.get_label() == label]
    return found[0].get_xydata() if found else np.zeros((0, 2))


def check_markers(ax, at, sign):
    for which, label, *_ in SIGNS[:2]:
        found = markers(ax, label)
        np.testing.assert_allclose(found, at[sign == which], rtol=1e-6, atol=1e-12)


def test_neurons_lie_at_their_directions_as_far_as_their_norms_are_large(solution, opened):
    first, second = (np.asarray(w) for w in solution.networks.weights)
    ax = plot.neurons(solution, member=1)
    at, sign = expected_neurons(first[1], second[1])
    assert {-1.0, 1.0} == set(sign)
    check_markers(ax, at, sign)
    size = np.sqrt(np.sum(first[1] ** 2) + np.sum(second[1] ** 2))
    assert ax.get_title() == rf"member 1 of 3, at the end, $\|w\|$ = {size:.3g}"
    np.testing.assert_allclose(np.sum(at**2), 1.0)
    # The same from a file, of the last point that was recorded.
    ax = plot.neurons(opened, member=1)
    recorded = (opened[f"weights_weights_{k}"].values[1, -1] for k in (0, 1))
    check_markers(ax, *expected_neurons(*recorded))
    assert "rescaled time $s$ = 1," in ax.get_title()


def test_signs_can_be_told_apart_in_grey(solution):
    ax = plot.neurons(solution)
    faces = {line.get_label(): line.get_markerfacecolor() for line in ax.lines}
    assert faces["positive output weight"] != faces["negative output weight"] == "white"
    colors = plt.get_cmap(MAP)(np.linspace(0, 1, 256))[:, :3]
    grey = colors @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(grey) > 0) and grey[-1] - grey[0] > 0.6
    assert np.ptp(colors[127]) < 0.03  # zero, between the signs, has no colour


def test_neurons_over_time_are_in_one_unit(opened):
    axes = plot.neurons_over_time(opened, member=2)
    assert len(axes) == 3
    for point, ax in enumerate(axes):
        recorded = (opened[f"weights_weights_{k}"].values[2, point] for k in (0, 1))
        check_markers(ax, *expected_neurons(*recorded))
        assert f"$s$ = {TIMES[point]:.3g}, " in ax.get_title()
    assert len({ax.get_xlim() for ax in axes}) == 1
    two = [plt.figure().subplots() for _ in range(2)]
    first, last = plot.neurons_over_time(opened, axes=two)
    assert "$s$ = 0, " in first.get_title() and "$s$ = 1, " in last.get_title()
    with pytest.raises(jf.InputError, match="1 to 3, as there are points"):
        plot.neurons_over_time(opened, axes=[two[0]] * 4)


def test_animation_is_a_file_with_a_frame_for_every_point(opened, tmp_path):
    ax = plt.figure(figsize=(3, 3)).subplots()
    animation = plot.neurons_animation(opened, ax=ax)
    animation.save(tmp_path / "neurons.gif", writer="pillow", dpi=50)
    # The figure is as the last frame has it.
    recorded = (opened[f"weights_weights_{k}"].values[0, -1] for k in (0, 1))
    check_markers(ax, *expected_neurons(*recorded))
    with Image.open(tmp_path / "neurons.gif") as read:
        assert (read.format, read.n_frames, read.size) == ("GIF", 3, (150, 150))
        frames = []
        for number in range(3):
            read.seek(number)
            frames.append(np.asarray(read.convert("L"), float))
    assert np.abs(frames[2] - frames[0]).max() > 100


def with_networks(solution, sizes):
    """The first member of a solution, with a network of other sizes in its place."""
    network = jf.FeedForward(sizes, jf.LeakyReLU(0.5), key=jax.random.key(3))
    return dataclasses.replace(solution[0], read_directions=Given(network))


def test_more_inputs_are_seen_in_a_plane(solution):
    solution = with_networks(solution, (4, 5, 1))
    first, second = (np.asarray(w) for w in solution.networks.weights)
    at, sign = expected_neurons(first, second)
    basis = np.linalg.svd(first)[2][:2]
    drawn = {label: markers(plot.neurons(solution), label) for _, label, *_ in SIGNS[:2]}
    for which, label, *_ in SIGNS[:2]:
        there = at[sign == which] @ basis.T
        np.testing.assert_allclose(np.abs(drawn[label]), np.abs(there), atol=1e-9)
    given = [[1.0, 1.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]]  # made orthonormal
    ax = plot.neurons(solution, plane=given)
    directions = np.array([[1, 1, 0, 0], [-1, 1, 0, 0]]) / np.sqrt(2)
    check_markers(ax, at @ directions.T, sign)
    with pytest.raises(jf.InputError, match=r"plane: .* two independent directions"):
        plot.neurons(solution, plane=[[1.0, 0, 0, 0], [2.0, 0, 0, 0]])


@pytest.mark.parametrize("sizes", [(2, 4, 3, 1), (2, 4, 2)])
def test_networks_of_other_forms(solution, sizes):
    """Deeper ones and those of two outputs have no sign, and of one input no plane."""
    other = with_networks(solution, sizes)
    ax = plot.neurons(other)
    first, second = (np.asarray(w) for w in other.networks.weights[:2])
    found = next(line for line in ax.lines if line.get_label() == "neuron")
    expected, _ = expected_neurons(first, second)
    np.testing.assert_allclose(found.get_xydata(), expected, rtol=1e-6)
    line = with_networks(solution, (1, 3, 1))
    with pytest.raises(jf.InputError, match="one with 1 input"):
        plot.angles(line)


def test_weights_that_no_float_holds(solution):
    tiny = dataclasses.replace(solution, log_norm=np.full(NUM, -2000.0))
    ax = plot.neurons(tiny)
    first, second = (np.asarray(w)[0] for w in solution.directions.weights)
    check_markers(ax, *expected_neurons(first, second))
    assert ax.get_title().endswith(r"$\|w\|$ = $2.6 \times 10^{-869}$")
    ax = plot.weights(tiny)
    largest = np.log10(np.abs(first).max()) - 2000 / np.log(10)
    assert np.floor(largest) == -869
    (bar,) = (each for each in ax.figure.axes if each is not ax)
    assert bar.get_ylabel().endswith(f"$10^{{{int(np.floor(largest))}}}$")
    assert np.abs(ax.images[0].get_array()).max() == pytest.approx(10 ** (largest % 1))


def test_members_without_finite_weights_are_left_out(solution):
    broken = dataclasses.replace(solution, log_norm=np.array([0.0, np.nan, np.inf]))
    assert plot.angles(broken).get_title().startswith("member 0 of 3")
    with pytest.raises(jf.InputError, match="final weights that are NaN or infinite"):
        plot.neurons(broken, member=1)


@pytest.mark.parametrize("member", [None, 0])
def test_angles_are_those_of_the_weights_and_bars_count_neurons(solution, member):
    ax = plot.angles(solution, member=member)
    first, second = (np.asarray(w) for w in solution.networks.weights)
    if member is not None:
        first, second = first[member : member + 1], second[member : member + 1]
    angle = np.arctan2(first[..., 1], first[..., 0])
    for which, label, *_ in SIGNS[:2]:
        some = np.sign(second[:, 0]) == which
        dots = next(c for c in ax.collections if c.get_label() == label)
        assert len(dots.get_offsets()) == 0  # that of the legend
        at = np.stack([np.cos(angle[some]), np.sin(angle[some])], axis=1)
        drawn = [c.get_offsets() for c in ax.collections if len(c.get_offsets())]
        assert any(d.shape == at.shape and np.allclose(d, at, atol=1e-6) for d in drawn)
    # Lengths of bars, by the angle in their middle.
    lengths = {}
    for bar in (patch for patch in ax.patches if isinstance(patch, Wedge)):
        middle = round((bar.theta1 + bar.theta2) / 2) % 360
        lengths[middle] = lengths.get(middle, 0.0) + bar.width
    degrees = np.round(np.rad2deg(angle.ravel()) / 5) * 5 % 360
    places, counts = np.unique(degrees, return_counts=True)
    assert sorted(lengths) == places.tolist()
    found = np.array([lengths[place] for place in places])
    np.testing.assert_allclose(found / found.max(), counts / counts.max())
    share = counts.max() / angle.size
    assert ax.get_xlabel().endswith(f"longest bar: {share:.0%} of the neurons")


def test_weights_are_sorted_by_their_cosine(solution, opened):
    matrix = np.asarray(solution.networks.weights[0])[2]
    leading = np.linalg.svd(matrix)[2][0]
    cosine = matrix @ leading / np.linalg.norm(matrix, axis=1)
    cosine *= np.sign((matrix @ leading).sum())
    order = np.argsort(-cosine)
    ax = plot.weights(solution, member=2)
    np.testing.assert_allclose(ax.images[0].get_array(), matrix[order], rtol=1e-9)
    names = [text.get_text().replace("−", "-") for text in ax.get_yticklabels()]
    assert [float(name) for name in names] == pytest.approx(cosine[order], abs=6e-3)
    low, high = ax.images[0].get_clim()
    assert -low == high == pytest.approx(np.abs(matrix).max())
    last = opened["weights_weights_1"].values[0, -1]
    ax = plot.weights(opened, layer=2)
    np.testing.assert_allclose(ax.images[0].get_array(), last, rtol=1e-9)
    with pytest.raises(jf.InputError, match=r"layer: found 3; expected .* from 1 to 2"):
        plot.weights(opened, layer=3)


def test_spectra_are_those_of_the_layers(opened):
    axes = plot.spectra(opened)
    for layer, ax in enumerate(axes):
        matrices = opened[f"weights_weights_{layer}"].values
        values = np.linalg.svd(matrices, compute_uv=False)
        lines = [line for line in ax.lines if len(line.get_xdata())]
        assert len(lines) == values.shape[-1] == 2 - layer
        for number, line in enumerate(lines):
            np.testing.assert_allclose(line.get_xdata(), TIMES)
            median = np.median(values[..., number], axis=0)
            np.testing.assert_allclose(line.get_ydata(), median, rtol=1e-6)
            band = ax.collections[number].get_paths()[0].vertices[:, 1]
            high = np.quantile(values[..., number], 0.9, axis=0)
            assert band.max() == pytest.approx(high.max(), rel=1e-6)


def test_single_members_are_drawn_by_their_numbers(solution):
    some = solution[[2, 0]]
    ax = plot.recorded(some, "loss", members=[2])
    losses = solution.dataset["loss"].values
    named = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert set(named) == {"median", "member 2"}
    np.testing.assert_array_equal(named["member 2"], losses[2])
    np.testing.assert_allclose(named["median"], np.median(losses[[0, 2]], axis=0))
    with pytest.raises(jf.InputError, match="members: found 1; expected the number of a"):
        plot.recorded(some, "loss", members=[1])


def test_what_records_run_over_may_be_a_variable(opened):
    """As in the store of a run with points of each member's own."""
    plain = plot.recorded(opened, "loss", against="log_time")
    variables = opened.load().reset_index("rescaled_time").reset_coords()
    ax = plot.recorded(variables, "loss", against="log_time")
    assert ax.get_xlabel() == plain.get_xlabel() == "physical time t"
    for line, other in zip(ax.lines, plain.lines, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())


def test_a_dataset_without_whole_networks_is_told_what_to_record(opened):
    without = opened.drop_vars("weights_weights_0")
    functions = ("neurons", "neurons_over_time", "neurons_animation", "angles", "weights")
    for function in functions:
        for dataset in (without, xarray.Dataset({"a": ("init", [1.0])})):
            with pytest.raises(jf.InputError, match=r"record=\{.weights.: jf.weights\}"):
                getattr(plot, function)(dataset)
    with pytest.raises(jf.InputError, match="from 0 to 2"):
        plot.neurons(opened, member=3)
