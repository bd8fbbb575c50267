"""The path after the escape: a closed form, and flows at small δ that come near it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxflow as jf

from .problems import TSIT5

QUIET = {"progress": False}


def _axes(coordinates):
    """KKT points of a diagonal network: one coordinate each, for data that are axes."""
    network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    factor = jnp.asarray(np.eye(3)[coordinates][:, None, :])
    return eqx.tree_at(lambda n: n.factors, network, (factor, factor))


@pytest.fixture(scope="module")
def found():
    task = jf.Task(jnp.eye(3), jnp.array([3.0, 2.0, 1.0]))
    return jf.limiting_path(_axes([0, 1]), task, level=0.2, points=60, **QUIET)


def test_diagonal_paths_are_logistic_curves(found):
    """θ = w² of the coordinate that grows follows dθ/dt = 2θ(y - θ), θ(0) = level²/2."""
    assert found.status.tolist() == ["saddle", "saddle"]
    for k, y in enumerate((3.0, 2.0)):
        known = np.isfinite(found.time[k])
        start = 0.2**2 / 2
        theta = y / (1 + (y / start - 1) * np.exp(-2 * y * found.time[k, known]))
        np.testing.assert_allclose(found.norm[k, known] ** 2, 2 * theta, rtol=1e-6)
        rest = 0.5 * (9 + 4 + 1 - y**2)
        loss = 0.5 * (y - theta) ** 2 + rest
        np.testing.assert_allclose(found.loss[k, known], loss, rtol=1e-6)
        assert known.sum() > 20
        assert found.end_loss[k] == pytest.approx(rest, rel=1e-8)
        assert np.exp(found.end_log_gradient[k]) < 1e-5
        assert found.kkt_value[k] == pytest.approx(y / 2)


def test_path_can_be_read_stored_and_drawn(found, tmp_path):
    found.save(tmp_path / "path.zarr")
    again = jf.load(tmp_path / "path.zarr")
    assert again.dataset.identical(found.dataset)
    np.testing.assert_array_equal(again.weights, found.weights)
    assert "2 KKT points of DiagonalLinear" in repr(found)
    ax = jf.plot.limiting_path(found)
    assert ax.get_xlim()[0] == 0 and len(ax.lines) == 5
    plt.close("all")


def test_flows_at_small_scales_come_near_the_path():
    """With time measured from one norm; they are off by a power of δ."""
    x = np.random.default_rng(1).standard_normal((8, 3)) / np.sqrt(8)
    task = jf.Task(x, x @ np.array([2.0, -1.0, 0.5]))
    network = jf.DiagonalLinear(3, 3, key=jax.random.key(0))
    start = jf.sample_ensemble(network, 1, key=jax.random.key(1))
    ends = jf.ncf_flow(start, task, **TSIT5, **QUIET)
    level, times = 0.4, np.linspace(0, 4, 9)
    path = jf.limiting_path(ends.directions, task, level=level, times=times, **QUIET)
    kept = np.isfinite(path.loss[0])
    assert kept.sum() > 4
    scales = np.array([1e-2, 1e-4, 1e-6])
    three = jax.tree_util.tree_map(lambda a: jnp.repeat(a, 3, axis=0), start)
    how = {"rtol": 1e-9, **TSIT5, **QUIET}
    here = jf.gradient_flow(three, task, scale=scales, stop=jf.NormAbove(level), **how)
    after = jf.gradient_flow(
        here.networks,
        task,
        stop=jf.Time(4.0),
        record={"weights": jf.weights},
        record_at=times,
        record_over="time",
        **how,
    )
    factors = after.records.values["weights"].factors
    rows = np.concatenate([np.asarray(f).reshape(3, len(times), -1) for f in factors], 2)
    off = np.linalg.norm(rows - path.weights, axis=2)[:, kept].max(axis=1)
    assert off[0] > 5 * off[1] > 25 * off[2], off
    assert off[2] < 1e-3


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("coordinates", "match"), [([0, 1, 1], "residual"), ([0, -1, 0], "N = ")]
)
def test_directions_that_are_no_kkt_points(coordinates, match):
    task = jf.Task(jnp.eye(3), jnp.array([3.0, 2.0, 1.0]))
    network = _axes([0])
    first = jnp.abs(jnp.array([[coordinates]], float))
    second = jnp.array([[coordinates]], float)
    one = eqx.tree_at(lambda n: n.factors, network, (first, second))
    with pytest.raises(jf.InputError, match=match):
        jf.limiting_path(one, task, **QUIET)


@pytest.fixture(scope="module")
def near():
    task = jf.Task(jnp.eye(3), jnp.array([3.0, 2.0, 1.0]))
    network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    key = jax.random.key(1)
    options = {"grown": 1, "key": key, **QUIET}
    saddles = jf.starts_near_saddle(network, task, 4, scale=0.0, **options)
    starts = jf.starts_near_saddle(network, task, 4, scale=1e-6, **options)
    return task, saddles, starts


def test_starts_near_a_saddle_are_that_far_from_it(near):
    task, saddles, starts = near
    gradient = jax.vmap(jax.grad(lambda f, n: jf.loss(_with(n, f), task)), (0, 0))
    slopes = gradient(saddles.factors, saddles)
    assert max(float(jnp.max(jnp.abs(g))) for g in slopes) < 1e-8
    away = [np.asarray(a - b).ravel() for a, b in zip(saddles.factors, starts.factors)]
    sizes = np.linalg.norm(np.reshape(away, (2, 4, 3)), axis=(0, 2))
    np.testing.assert_allclose(sizes, 1e-6, rtol=1e-6)
    theta = np.prod(saddles.factors, axis=0)[:, 0]
    assert np.sum(theta != 0, axis=1).tolist() == [1] * 4
    grown = theta[theta != 0]
    assert np.all(np.min(np.abs(grown[:, None] - [3.0, 2.0, 1.0]), axis=1) < 1e-8)


def _with(network, factors):
    return eqx.tree_at(lambda n: n.factors, network, factors)


def test_starts_near_a_saddle_leave_it_as_predicted(near):
    """The first row is a start, and what it predicts is right."""
    task, _, starts = near
    found = jf.saddle_to_saddle(
        starts, task, scale=1.0, solver=None, max_saddles=1, ensemble=True, **QUIET
    )
    assert set(found.kind[:, 0]) == {"start"}
    assert found.rank[:, 0].tolist() == [1] * 4
    assert np.all(np.abs(found.escape_error[:, 0]) < 1e-2)
    strengths = np.array([3.0, 2.0, 1.0])
    grown = np.argmax(found.active[:, 0], axis=1)
    strongest = [np.delete(strengths, g).max() for g in grown]
    np.testing.assert_allclose(found.kkt_value[:, 0], np.array(strongest) / 2, rtol=1e-5)
    assert "start" in repr(found) and "origin" not in repr(found)


def test_networks_without_blocks_of_their_own():
    task = jf.Task(jnp.eye(3), jnp.ones(3))
    deep = jf.FeedForward((3, 4, 4, 1), jf.LeakyReLU(), key=jax.random.key(0))
    with pytest.raises(jf.InputError, match="no sum over blocks"):
        jf.starts_near_saddle(deep, task, 2, grown=1, scale=0.1, key=jax.random.key(1))
