"""Early directional convergence for scales from 1e-1 to 1e-12, and the pictures of it."""

import dataclasses

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxflow as jf
from jaxflow import plot
from jaxflow.early_phase._judging import fitted_orders, judge
from jaxflow.kkt._find import begin_search
from jaxflow.kkt._points import CONVERGED, NOT_CONVERGED
from jaxflow.networks import member

SCALES = [1e-1, 1e-3, 1e-6, 1e-9, 1e-12]


def _problem(sizes, activation, seed=0, samples=12):
    key = jax.random.key(seed)
    network = jf.FeedForward(sizes, activation, key=key)
    inputs = jf.data.sphere_points(samples, sizes[0], key=key)
    return network, jf.data.teacher_student(network, inputs, target_norm=1.0)


@pytest.fixture(scope="module")
def found():
    network, task = _problem((5, 8, 8, 1), jf.LeakyReLU(0.5, 2))
    ensemble = jf.sample_ensemble(network, 12, key=jax.random.key(1))
    return jf.verify_early_convergence(ensemble, task, SCALES, progress=False)


def test_theorem_holds_down_to_tiny_scales(found):
    assert found.verdict.tolist() == ["converges"] * 12
    assert found.scales.tolist() == SCALES
    # 1 - cosine falls with δ, in all by as many orders as δ^(2 · rate/λ) gives.
    assert np.all(np.diff(found.closest, axis=0) < 1e-11)
    assert np.median(found.closest[-1]) < 1e-10 < 1e-3 < np.median(found.closest[0])
    # ‖w‖/δ up to a time that does not depend on δ is that of the limit, however small δ.
    assert np.all(found.growth <= 1.01 * found.limit_growth)
    np.testing.assert_allclose(
        found.growth[-1], np.broadcast_to(found.growth[-2], 12), rtol=1e-6
    )
    # And the time of escape is T* δ^(2-L).
    np.testing.assert_allclose(found.escape_time[-1], found.limit.blow_up_time, rtol=1e-4)
    np.testing.assert_allclose(found.rate, -5, atol=1e-3)


def test_order_of_the_cosine_is_that_of_the_hessian(found):
    # The distance shrinks like (‖w‖/δ)^(-μ/λ). Other modes shrink faster, so that the
    # order seen over finitely many scales is that or more; the slowest one is left alone
    # at the smallest δ.
    expected = found.expected_order
    assert np.all((0.5 < expected) & (expected <= 1 + 1e-9))
    assert np.all(found.fitted_order > expected - 0.02)
    assert np.all(found.fitted_order < 1.02)
    late = np.log(found.closest[-2] / found.closest[-1]) / np.log(1e3)
    slowest = expected < 0.8
    assert slowest.any() and np.all(np.abs(late - expected)[slowest] < 0.02)
    assert np.all(found.closest[1:][:, found.fitted_from == 1e-1] < 1e-2)
    assert np.all(found.fitted_to == 1e-12) and found.rank_one.all()


def test_fit_takes_what_it_can_see():
    scales = np.array([1e-2, 1e-4, 1e-6, 1e-8])
    exact = 3.0 * scales**1.5
    hidden = np.where(exact > 1e-8, exact, 1e-11)
    late = np.array([0.9, 0.5, 4e-3, 4e-5])
    once = np.array([1e-3, np.nan, np.nan, np.nan])
    columns = np.stack([exact, hidden, late, once], axis=1)
    order, largest, smallest = fitted_orders(scales, columns, 1e-6)
    np.testing.assert_allclose(order[:2], 1.5, rtol=1e-12)
    np.testing.assert_allclose(order[2], 1.0, rtol=1e-12)
    assert np.isnan(order[3]) and np.isnan(largest[3])
    np.testing.assert_array_equal(largest[:3], [1e-2, 1e-2, 1e-6])
    np.testing.assert_array_equal(smallest[:3], [1e-6, 1e-4, 1e-8])


@pytest.mark.parametrize(
    ("closest", "begins"),
    [
        ([0.9, 0.7, 0.3], "slow: 1 - cosine is still 0.3"),
        ([0.9, 0.5, 0.49], "no: 1 - cosine is still 0.5"),  # levels off elsewhere
        ([0.5, 0.7, 0.6], "no: 1 - cosine is still 0.6"),
        ([1e-1, 1e-3, 1e-4], "converges"),
    ],
)
def test_slow_is_not_no(found, closest, begins):
    scales = np.array([1e-2, 1e-4, 1e-6])
    made = dataclasses.replace(
        found,
        scales=scales,
        closest=np.array(closest)[:, None],
        cosine=np.full((3, 1), np.nan),
        growth=np.full((3, 1), 2.0),
        limit_growth=np.array([2.0]),
        needed_scale=np.array([1e-9]),
        settings={"order": 3, "closeness": 1e-3},
    )
    assert judge(made, CONVERGED, 0).startswith(begins)
    # A limit that comes close before says that these should have, too.
    early = dataclasses.replace(made, needed_scale=np.array([1e-3]))
    assert judge(early, CONVERGED, 0).startswith(begins.replace("slow", "no"))
    # Norms are compared where the limit's can be reached, far below √δ.
    large = dataclasses.replace(made, growth=np.full((3, 1), 50.0))
    assert judge(large, CONVERGED, 0).startswith("no: ‖w‖/δ depends on δ, at δ = 1e-02")
    beyond = dataclasses.replace(large, limit_growth=np.array([20.0]))
    assert "at δ = 1e-04" in judge(beyond, CONVERGED, 0)


def test_linear_chain_against_its_closed_form():
    # One input, width one, depth three, all weights equal: u' = c u², T* = ‖w₀‖-dependent.
    network = jf.FeedForward((1, 1, 1, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    weights = tuple(np.full((1, 1), 3**-0.5) for _ in range(3))
    network = _with_weights(network, weights)
    task = jf.Task(np.array([[1.0]]), np.array([2.0]))
    found = jf.verify_early_convergence(
        network, task, [1e-4, 1e-8], progress=False, ensemble=False
    )
    assert found.verdict.tolist() == ["converges"]
    # a(s)⁻¹ = a₀⁻¹ - 2s: infinite at s = √3/2.
    np.testing.assert_allclose(found.escape_time[-1], 3**0.5 / 2, rtol=1e-3)
    np.testing.assert_allclose(found.closest, 0, atol=1e-15)  # at the point from the start


def test_two_layers_need_times_of_order_log():
    network, task = _problem((5, 8, 1), jf.LeakyReLU(1.0))
    ensemble = jf.sample_ensemble(network, 8, key=jax.random.key(1))
    scales = [1e-4, 1e-8, 1e-12]
    found = jf.verify_early_convergence(ensemble, task, scales, progress=False)
    assert found.verified.all(), found
    # N = ‖Σ y_i x_i‖/2 at the KKT point; ‖w‖ grows like e^(2Nt).
    x, y = np.asarray(task.inputs), np.asarray(task.targets).ravel()
    value = np.linalg.norm(y @ x) / 2
    np.testing.assert_allclose(found.expected_rate, 1 / (4 * value), rtol=1e-9)
    np.testing.assert_allclose(found.rate, found.expected_rate, rtol=1e-3)
    # ∇²N vanishes on inputs across Σ y_i x_i, and is as large as λ between the layers.
    np.testing.assert_allclose(found.kkt_value, value, rtol=1e-9)
    np.testing.assert_allclose(found.expected_order, 1, rtol=1e-6)
    np.testing.assert_allclose(found.fitted_order, 1, rtol=1e-2)
    assert "log(1/δ)" in str(found)


def test_members_that_go_to_zero():
    # A neuron that is dead from the start, and one that only ever hinders.
    network = jf.FeedForward((1, 1, 1), jf.LeakyReLU(0.0, 2), key=jax.random.key(0))
    into = np.array([[[-0.6]], [[0.6]], [[0.6]]])
    out = np.array([[[0.8]], [[-0.8]], [[0.8]]])
    task = jf.Task(np.array([[1.0]]), np.array([1.0]))
    found = jf.verify_early_convergence(
        _with_weights(network, (into, out)), task, [1e-2, 1e-4], progress=False
    )
    assert found.verdict.tolist() == ["goes to zero", "goes to zero", "converges"]
    assert np.all(found.growth[:, :2] <= 1 + 1e-9)


def test_members_lost_on_kinks_are_taken_past_them():
    network, task = _problem((2, 3, 1), jf.LeakyReLU(0.5), samples=5)
    ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
    given = (None, None, False, None)
    search, rows = begin_search(ensemble, task, None, 6, *given)
    with pytest.warns(jf.RunWarning, match="max_steps"):
        lost = search.ends(rows, past_kinks=False)
    assert np.sum(lost.kind == NOT_CONVERGED) >= 2
    longer, _ = begin_search(ensemble, task, None, 2_000, *given)
    found = longer.go_past_kinks(lost)
    assert np.all(found.kind != NOT_CONVERGED)
    # In the plane all rank-one points are known: N = zᵀφ(Xv) ‖W_1‖ ‖W_2‖, each 2^(-1/2).
    values = jf.kkt.reduced_kkt(task, jf.LeakyReLU(0.5), 2).values / 2
    value = found.finish.value[found.kind == CONVERGED]
    away = np.min(np.abs(value[:, None] - values), axis=1)
    assert len(value) and np.all(away < 1e-9)


def test_reasons_are_given():
    network, task = _problem((5, 8, 8, 1), jf.LeakyReLU(0.5, 2))
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(1))
    found = jf.verify_early_convergence(
        ensemble, task, [1e-1, 1e-2], closeness=1e-9, progress=False
    )
    # A thousandth would do, but not a billionth: smaller δ would bring them there.
    assert found.slow.all() and not found.verified.any()
    assert all("still" in verdict and "falls" in verdict for verdict in found.verdict)
    with pytest.warns(jf.RunWarning) as told:
        short = jf.verify_early_convergence(
            ensemble, task, [1e-1, 1e-2], max_steps=5, progress=False
        )
    assert len(told) == 1 and "3 of 3 members could not be" in str(told[0].message)
    assert set(short.verdict) == {"no: the limit flow did not converge"}
    assert not short.verified.any()
    assert "did not converge" in str(short)


def test_summary_and_dataset(found):
    text = str(found)
    assert "12 initializations, order 7" in text and "12: converges" in text
    assert "in theory -5" in text
    assert dict(found.dataset.sizes) == {"scale": 5, "init": 12}
    assert all("units" in found.dataset[name].attrs for name in found.dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": [1e-3]}, "scales: found"),
        ({"scales": [1e-3, 2.0]}, "scales: found"),
        ({"closeness": 0}, "closeness: found 0"),
        ({"networks": 3}, "networks: found 3"),
        ({"sizes": (3, 1)}, "networks: found networks of order 1"),
    ],
)
def test_wrong_input(change, message, as_users_have_it):
    network, task = _problem(change.pop("sizes", (3, 2, 1)), jf.LeakyReLU(1.0))
    given = {"networks": network, "task": task, "scales": [1e-2, 1e-3]} | change
    with pytest.raises(jf.InputError, match=message):
        jf.verify_early_convergence(**given, ensemble=False)


def test_pictures_show_what_was_found(found):
    left, right = plot.early_convergence(found)
    assert len(left.lines) == len(right.lines) == 13  # twelve members and their median
    np.testing.assert_allclose(right.lines[-1].get_xdata(), SCALES)
    np.testing.assert_allclose(
        right.lines[-1].get_ydata(), np.median(found.closest, axis=1)
    )
    plt.close("all")


def test_pictures_of_points_and_layers():
    network, task = _problem((3, 4, 1), jf.LeakyReLU(0.3, 2))
    ensemble = jf.sample_ensemble(network, 32, key=jax.random.key(2))
    points = jf.find_kkt(ensemble, task, progress=False)
    ax = plot.kkt_points(points)
    drawn = np.concatenate([bars.lines[0].get_xdata() for bars in ax.containers])
    np.testing.assert_allclose(np.sort(drawn), np.sort(points.share))
    best = member(points.networks, 0)
    axes = plot.layers(best)
    for ax, matrix in zip(axes, best.weights):
        np.testing.assert_array_equal(ax.images[0].get_array(), matrix)
        assert "stable rank 1" in ax.get_title()
    with pytest.raises(jf.InputError, match="axes: found 1 of them"):
        plot.layers(best, axes=axes[:1])
    plt.close("all")


def test_layers_of_one_network_only(as_users_have_it):
    network, _ = _problem((3, 4, 1), jf.LeakyReLU(0.3, 2))
    ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(2))
    with pytest.raises(jf.InputError, match="network: found an ensemble"):
        plot.layers(ensemble)


def test_picture_of_stable_sets():
    # One linear neuron on the line: a w > 0 or not decides, and N = a w y.
    network = jf.FeedForward((1, 1, 1), jf.LeakyReLU(0.0), key=jax.random.key(0))
    at = lambda w, a: _with_weights(network, (np.array([[w]]), np.array([[a]])))
    plane = jf.slice_ensemble(
        at(0.0, 1e-3), at(1.0, 0.0), at(0.0, 1.0), extent=1.0, resolution=6
    )
    norms = jax.vmap(jf.norm)(plane)
    np.testing.assert_allclose(norms, 1, rtol=1e-12)
    points = jf.find_kkt(plane, jf.Task(np.ones((1, 1)), np.ones(1)), progress=False)
    ends = points.ends.reshape(6, 6)
    # a' = σ(w), w' = a on the side w > 0: it escapes unless w <= 0, or a < -w.
    b, a = np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 6), indexing="ij")
    grows = (a > 0) & (b + 1e-3 > -a)
    np.testing.assert_array_equal(ends == 0, grows)
    np.testing.assert_array_equal(ends == -1, ~grows)
    image = plot.stable_sets(points).images[0].get_array()
    np.testing.assert_array_equal(np.all(image == 1.0, axis=-1), ~grows)
    with pytest.raises(jf.InputError, match="points: found 2 members"):
        two = jf.sample_ensemble(network, 2, key=jax.random.key(0))
        plot.stable_sets(jf.find_kkt(two, jf.Task(np.ones((1, 1)), np.ones(1))))
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extent": -1.0}, "extent: found -1;"),
        ({"resolution": 1}, "resolution: found 1"),
        ({"first": (3, 1)}, "first: found another structure"),
    ],
)
def test_slices_that_cannot_be(change, message, as_users_have_it):
    network = lambda sizes: jf.FeedForward(sizes, jf.LeakyReLU(), key=jax.random.key(0))
    if "first" in change:
        change = {"first": network(change["first"])}
    given = {name: network((2, 1)) for name in ("center", "first", "second")}
    given |= {"extent": 1.0, "resolution": 3} | change
    with pytest.raises(jf.InputError, match=message):
        jf.slice_ensemble(**given)


def _with_weights(network, weights):
    arrays = tuple(map(jax.numpy.asarray, weights))
    return eqx.tree_at(lambda n: n.weights, network, arrays)
