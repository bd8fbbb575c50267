"""The path after the escape: a closed form, and flows at small δ that come near it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.integrate

import jaxflow as jf

from .problems import TSIT5

QUIET = {"progress": False}


def _axes(coordinates):
    """KKT points of a diagonal network: one coordinate each, for data that are axes."""
    network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    factor = jnp.asarray(np.eye(3)[coordinates][:, None, :])
    return eqx.tree_at(lambda n: n.factors, network, (factor, factor))


LEVEL, TARGETS = 0.2, (3.0, 1.0, 0.5)
TIMES = np.linspace(0, 8, 65)


def _task():
    return jf.Task(jnp.eye(3), jnp.array(TARGETS))


@pytest.fixture(scope="module")
def found():
    how = {"level": LEVEL, "times": TIMES, **TSIT5, **QUIET}
    return jf.limiting_path(_axes([0, 1]), _task(), **how)


def test_diagonal_paths_are_logistic_curves(found):
    """θ = w² of the coordinate that grows follows dθ/dt = 2θ(y - θ), θ(0) = level²/2."""
    assert found.status.tolist() == ["saddle", "saddle"]
    for k, y in enumerate(TARGETS[:2]):
        known = np.isfinite(found.loss[k])
        start = LEVEL**2 / 2
        theta = y / (1 + (y / start - 1) * np.exp(-2 * y * TIMES[known]))
        np.testing.assert_allclose(found.norm[k, known] ** 2, 2 * theta, rtol=1e-6)
        rest = 0.5 * (np.sum(np.square(TARGETS)) - y**2)
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


def test_flows_at_small_scales_come_near_the_path(found):
    """With time measured from one norm. The other coordinates are then of size δ^(1 - y/3)
    times a constant, the largest of them at y = 1."""
    factors = [[[1.0, 0.8, -0.6]], [[0.9, 1.0, -0.8]]]
    size = np.sqrt(np.sum(np.square(factors)))
    three = tuple(jnp.tile(jnp.array(f) / size, (3, 1, 1)) for f in factors)
    networks = eqx.tree_at(lambda n: n.factors, _axes([0, 0, 0]), three)
    scales = np.array([1e-2, 1e-4, 1e-6])
    how = {"rtol": 1e-9, **TSIT5, **QUIET}
    here = jf.gradient_flow(
        networks, _task(), scale=scales, stop=jf.NormAbove(LEVEL), **how
    )
    after = jf.gradient_flow(
        here.networks,
        _task(),
        stop=jf.Time(TIMES[8]),
        record={"weights": jf.weights},
        record_at=TIMES[:9],
        record_over="time",
        **how,
    )
    recorded = after.records.values["weights"].factors
    rows = np.concatenate([np.asarray(f).reshape(3, 9, -1) for f in recorded], axis=2)
    # A flow may leave along w* or along its mirror image, which is a path as well.
    path = np.abs(found.weights[0, :9])
    off = np.linalg.norm(np.abs(rows) - path, axis=2).max(axis=1)
    np.testing.assert_allclose(off[:-1] / off[1:], 100 ** (2 / 3), rtol=0.25)
    assert off[2] < 1e-3


def test_deeper_path_is_that_of_its_closed_form_and_of_small_scales():
    """Three factors u of one coordinate: du/dt = u² (y - u³), from √3 u = level on. The
    other coordinates are then still of size δ."""
    deep = jf.DiagonalLinear(3, 3, key=jax.random.key(0))
    axis = jnp.asarray(np.eye(3)[[0]][:, None, :])
    point = eqx.tree_at(lambda n: n.factors, deep, (axis,) * 3)
    how = {"rtol": 1e-9, **TSIT5, **QUIET}
    times = np.linspace(0, 4, 9)
    path = jf.limiting_path(point, _task(), level=LEVEL, times=times, **how)
    assert path.status.tolist() == ["saddle"]
    exact = scipy.integrate.solve_ivp(
        lambda t, u: u**2 * (TARGETS[0] - u**3),
        (0, times[-1]),
        [LEVEL / 3**0.5],
        method="DOP853",
        t_eval=times,
        rtol=1e-12,
        atol=1e-14,
    )
    known = np.isfinite(path.norm[0])
    assert known.sum() >= 6
    norms = 3**0.5 * exact.y[0, known]
    np.testing.assert_allclose(path.norm[0, known], norms, rtol=1e-6)
    factors = np.array([[1.0, 0.3, -0.2], [0.9, -0.2, 0.3], [0.8, 0.2, 0.1]])
    factors /= np.linalg.norm(factors)
    starts = eqx.tree_at(
        lambda n: n.factors,
        point,
        tuple(jnp.tile(jnp.array(f)[None, None], (2, 1, 1)) for f in factors),
    )
    scales = np.array([1e-2, 1e-4])
    here = jf.gradient_flow(starts, _task(), scale=scales, stop=jf.NormAbove(LEVEL), **how)
    end = jf.gradient_flow(here.networks, _task(), stop=jf.Time(times[4]), **how)
    rows = np.stack([np.asarray(f)[:, 0] for f in end.networks.factors], axis=1)
    off = np.linalg.norm(rows.reshape(2, -1) - path.weights[0, 4], axis=1)
    assert off[0] / off[1] == pytest.approx(100, rel=0.2) and off[1] < 1e-3


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("coordinates", "match"), [([0, 1, 1], "residual"), ([0, -1, 0], "N = ")]
)
def test_directions_that_are_no_kkt_points(coordinates, match):
    task = _task()
    network = _axes([0])
    first = jnp.abs(jnp.array([[coordinates]], float))
    second = jnp.array([[coordinates]], float)
    one = eqx.tree_at(lambda n: n.factors, network, (first, second))
    with pytest.raises(jf.InputError, match=match):
        jf.limiting_path(one, task, **QUIET)


@pytest.fixture(scope="module")
def near():
    task = _task()
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
    assert np.all(np.min(np.abs(grown[:, None] - TARGETS), axis=1) < 1e-8)


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
    strengths = np.array(TARGETS)
    grown = np.argmax(found.active[:, 0], axis=1)
    strongest = [np.delete(strengths, g).max() for g in grown]
    np.testing.assert_allclose(found.kkt_value[:, 0], np.array(strongest) / 2, rtol=1e-5)
    assert "start" in repr(found) and "origin" not in repr(found)


def test_networks_without_blocks_of_their_own():
    task = jf.Task(jnp.eye(3), jnp.ones(3))
    deep = jf.FeedForward((3, 4, 4, 1), jf.LeakyReLU(), key=jax.random.key(0))
    with pytest.raises(jf.InputError, match="no sum over blocks"):
        jf.starts_near_saddle(deep, task, 2, grown=1, scale=0.1, key=jax.random.key(1))
