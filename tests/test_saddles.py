"""From saddle to saddle: exact plateau times, predictions, and members that stay."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import jaxflow as jf
from jaxflow import plot
from jaxflow.saddles import parts_of

from .problems import modes_task
from .refusing import LOOK, PROBE, refused

FALL, SLOWING = 0.01, 0.05
OPTIONS = {"progress": False, "schedule": jf.Schedule(width=8, pools_per_device=1)}


def _chain(depth):
    """A linear chain of width one with equal weights of norm one."""
    activation = jf.LeakyReLU(1.0, 1)
    network = jf.FeedForward((1,) * (depth + 1), activation, key=jax.random.key(0))
    weights = tuple(jnp.full((1, 1), depth**-0.5) for _ in range(depth))
    return eqx.tree_at(lambda n: n.weights, network, weights)


def test_chain_leaves_the_origin_when_its_closed_form_says():
    depth, sigma, scales = 3, 2.0, np.array([1e-2, 1e-4])
    networks = jax.tree_util.tree_map(lambda a: jnp.stack([a, a]), _chain(depth))
    task = jf.Task([[1.0], [0.0]], [sigma, 0.0])
    found = jf.saddle_to_saddle(
        networks, task, scale=scales, solver=None, ensemble=True, rtol=1e-8, **OPTIONS
    )
    assert found.status.tolist() == ["LossBelow"] * 2
    assert found.num_saddles.tolist() == [1, 1]
    for member, scale in enumerate(scales):
        # Every weight is a, da/dt = a² (σ - a³), until the loss has fallen by 1%.
        weight = scale * depth**-0.5
        end = sigma - (1 - FALL) ** 0.5 * (sigma - weight**depth)
        time, _ = scipy.integrate.quad(
            lambda log_a: np.exp(-log_a) / (sigma - np.exp(depth * log_a)),
            np.log(weight),
            np.log(end) / depth,
            epsabs=0,
            epsrel=1e-11,
        )
        np.testing.assert_allclose(np.exp(found.log_departure[member, 0]), time, rtol=1e-6)
        # The prediction is the same without saturation: da/dt = a² σ, until N_r = σ a³ has
        # risen by as much.
        end = FALL * (sigma - weight**depth) ** 2 / (2 * sigma) + weight**depth
        predicted = np.exp(found.predicted_log_departure[member, 0])
        time = (1 / weight - end ** (-1 / depth)) / sigma
        np.testing.assert_allclose(predicted, time, rtol=1e-6)
    np.testing.assert_allclose(found.cosine, 1, atol=1e-12)


@pytest.fixture(scope="module")
def diagonal():
    """Depth two at δ = 1e-12: balanced, without the second mode, and on its way to zero."""
    network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    first = np.array([[1.0, 1, 1], [1, 0, 0], [1, 1, 1]])
    second = np.array([[1.0, 1, 1], [1, 0, 0], [-1, -1, -1]])
    size = np.sqrt((first**2 + second**2).sum(axis=1, keepdims=True))
    factors = tuple(jnp.asarray((f / size)[:, None, :]) for f in (first, second))
    networks = eqx.tree_at(lambda n: n.factors, network, factors)
    task = jf.Task(jnp.eye(3), jnp.array([3.0, 1.5, 0.5]))
    return jf.saddle_to_saddle(
        networks, task, scale=1e-12, solver=None, rtol=1e-8, points=40, **OPTIONS
    )


def test_diagonal_network_visits_one_saddle_for_every_mode(diagonal):
    assert diagonal.num_saddles.tolist() == [3, 2, 1]
    strengths, start = np.array([3.0, 1.5, 0.5]), 1e-24 / 6

    def modes(t):
        # The logistic curve of `closed_form.singular_mode`, for times that overflow there.
        return strengths / (1 + (strengths / start - 1) * np.exp(-2 * strengths * t))

    loss = lambda t: np.sum(0.5 * (strengths - modes(t)) ** 2)
    square = lambda t: np.sum(2 * modes(t) * (strengths - modes(t)) ** 2)  # ‖∇𝓛‖²
    root = lambda function, low, high: scipy.optimize.brentq(
        function, low, high, xtol=1e-13
    )
    closest = np.exp(diagonal.log_closest[0])
    arrival, above = 0.0, np.inf
    for k, (begin, after) in enumerate([(0.0, 12.0), (12.0, 21.0), (30.0, 70.0)]):
        level = loss(closest[k])
        assert diagonal.loss[0, k] == pytest.approx(level, rel=1e-8)
        assert level == pytest.approx(0.5 * np.sum(strengths[k:] ** 2), rel=1e-6)
        leaves = root(lambda t, level=level: loss(t) - (1 - FALL) * level, begin, after)
        if k > 0:  # or its gradient is as large again as at the arrival
            rises = lambda t, above=above: np.log(square(t) / above)
            leaves = min(leaves, root(rises, closest[k], leaves))
        assert np.exp(diagonal.log_arrival[0, k]) == pytest.approx(arrival, rel=1e-6)
        assert np.exp(diagonal.log_departure[0, k]) == pytest.approx(leaves, rel=1e-6)
        if k == 2:
            break
        slow = lambda t, leaves=leaves: (
            square(t) * (t - leaves) - SLOWING**2 * (loss(leaves) - loss(t))
        )
        # After the largest gradient, where the mode is a third of its strength.
        fastest = root(lambda t, k=k: modes(t)[k] - strengths[k] / 3, leaves, leaves + 10)
        arrival = root(slow, fastest, closest[k + 1])
        above = square(arrival)
    assert diagonal.index[0].tolist() == [3, 2, 1]
    assert diagonal.rank[0].tolist() == [0, 1, 2]
    assert diagonal.active[0].sum(axis=1).tolist() == [0, 1, 2]
    # N_r at the KKT point of a single coordinate of strength σ is σ/2.
    np.testing.assert_allclose(diagonal.kkt_value[0], strengths / 2, rtol=1e-6)
    assert np.all(np.abs(diagonal.escape_error[0]) < 1e-3)


def test_members_that_sit_at_a_saddle_for_ever(diagonal):
    assert diagonal.status.tolist() == ["LossBelow", "stays", "stays"]
    assert diagonal.log_departure[1, 1] == np.inf == diagonal.predicted_log_departure[1, 1]
    assert diagonal.loss[1, 1] == pytest.approx(0.5 * (1.5**2 + 0.5**2), rel=1e-6)
    assert diagonal.log_small[1, 1] == -np.inf and diagonal.index[1, 1] == 2
    # u = -v in every coordinate decays for ever: at the origin, and nowhere else.
    assert diagonal.log_departure[2, 0] == np.inf
    assert np.all(diagonal.num_steps < 5_000)


def test_result_can_be_read_and_drawn(diagonal):
    dataset = diagonal.dataset
    assert dict(dataset.sizes) == {"init": 3, "saddle": 3, "neuron": 3, "grid_point": 40}
    assert all(set(v.attrs) >= {"long_name", "units"} for v in dataset.data_vars.values())
    text = repr(diagonal)
    assert "3 initializations of DiagonalLinear" in text and "stays 2" in text
    known = np.isfinite(diagonal.loss_curve[0])
    assert known.sum() > 30 and np.all(np.diff(diagonal.loss_curve[0][known]) < 1e-9)
    unit = np.log(1 / diagonal.scale[0])  # of the times at which saddles are left
    departure = np.exp(diagonal.log_departure[0, 2])
    ax = plot.saddle_to_saddle(diagonal, over="time")
    assert departure / unit < ax.get_xlim()[1] < 4 * departure / unit
    assert ax.get_xlabel() == r"time over $\log(1/\delta)$"
    ax = plot.saddle_to_saddle(dataset, over="log_time")
    assert ax.get_xlim()[0] < np.log10(departure) < ax.get_xlim()[1]
    # Without a curve a line goes on from the last saddle to the final loss.
    line = plot.saddle_to_saddle(dataset.drop_vars("loss_curve")).lines[0]
    assert line.get_ydata()[-1] == diagonal.final_loss[0]
    plt.close("all")


def test_minimum_with_a_loss_and_the_end_of_patience():
    """Two samples that contradict each other leave a loss of a quarter."""
    networks = jax.tree_util.tree_map(lambda a: jnp.stack([a, a]), _chain(3))
    task = jf.Task([[1.0], [1.0]], [2.0, 1.0])
    options = {"scale": 1e-4, "solver": None, "ensemble": True, **OPTIONS}
    found = jf.saddle_to_saddle(networks, task, **options)
    assert found.status.tolist() == ["minimum"] * 2
    assert found.num_saddles.tolist() == [1, 1]
    np.testing.assert_allclose(found.final_loss, 0.25, rtol=1e-6)
    with pytest.warns(jf.RunWarning, match="2 of 2 members gave up") as told:
        found = jf.saddle_to_saddle(networks, task, max_steps=5, **options)
    assert len(told) == 1 and found.failed.all()
    assert found.status.tolist() == ["max_steps"] * 2
    assert np.isnan(found.log_departure).all() and found.num_steps.tolist() == [5, 5]


def test_escape_times_of_the_linear_task_are_within_one_percent():
    task = modes_task()
    network = jf.FeedForward((6, 6, 6, 6), jf.LeakyReLU(1.0, 1), key=jax.random.key(0))
    networks = jf.sample_ensemble(network, 2, key=jax.random.key(1))
    found = jf.saddle_to_saddle(networks, task, scale=1e-3, **OPTIONS)
    assert found.num_saddles.tolist() == [3, 3]
    assert np.all(np.abs(found.escape_error) < 0.01), found
    np.testing.assert_allclose(found.loss, [[7, 2.5, 0.5]] * 2, rtol=1e-3)
    assert found.rank.tolist() == [[0, 1, 2]] * 2
    assert np.all(found.cosine > 0.99)
    # The flow is at the saddle early in the visit, and nearly all of the wait is predicted.
    waited = np.exp(found.log_departure) - np.exp(found.log_closest)
    whole = np.exp(found.log_departure) - np.exp(found.log_arrival)
    assert np.all(waited > 0.95 * whole)


def test_every_stop_of_a_deep_diagonal_network_is_a_saddle():
    """Also where `‖∇𝓛‖` hides behind errors of steps: the loss is what least squares over
    the coordinates that have grown leave."""
    x = np.asarray(jf.data.sphere_points(12, 4, key=jax.random.key(1)))
    y = x @ np.array([3.0, 2.25, 1.5, 0.3])
    network = jf.DiagonalLinear(3, 4, key=jax.random.key(0))
    starts = jf.sample_ensemble(network, 8, key=jax.random.key(3))
    some = jax.tree_util.tree_map(lambda leaf: leaf[4:], starts)
    found = jf.saddle_to_saddle(some, jf.Task(x, y), scale=1e-4, **OPTIONS)
    assert found.num_saddles.tolist() == [4] * 4
    assert found.kind.tolist() == [["origin", "saddle", "saddle", "saddle"]] * 4
    assert np.max(found.steadiness[:, 3]) > 0.2  # which alone would make it a near miss
    for member, visit in np.ndindex(4, 4):
        left = y - _fitted(x[:, found.active[member, visit]], y) if visit else y
        np.testing.assert_allclose(found.loss[member, visit], left @ left / 2, rtol=1e-6)
    assert np.max(np.abs(found.escape_error)) < 1e-3


def _fitted(x, y):
    return x @ np.linalg.lstsq(x, y)[0]


def test_members_that_become_slow_at_no_saddle_are_near_misses():
    """A deep leaky network: two members of eight pause where the gradient is 0.02."""
    network = jf.FeedForward((3, 5, 5, 1), jf.LeakyReLU(0.5), key=jax.random.key(0))
    x = jf.data.sphere_points(10, 3, key=jax.random.key(1))
    teacher = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.0), key=jax.random.key(5))
    task = jf.data.teacher_student(teacher, x, target_norm=2.0)
    starts = jf.sample_ensemble(network, 8, key=jax.random.key(3))
    some = jax.tree_util.tree_map(lambda leaf: leaf[jnp.array([3, 6])], starts)
    found = jf.saddle_to_saddle(
        some, task, scale=1e-4, loss_below=0.3, max_steps=1500, **OPTIONS
    )
    assert found.kind[:, :2].tolist() == [["origin", "near_miss"]] * 2
    assert np.all(np.exp(found.log_gradient[:, 1]) > 0.01)
    assert np.all(found.steadiness[:, 1] > 0.5) and np.all(found.steadiness[:, 0] < 1e-9)
    assert "near miss" in repr(found)


def test_small_parts():
    """What has grown is taken out exactly, by neuron or by singular direction."""
    network = jf.FeedForward((2, 2, 1), jf.LeakyReLU(0.0, 2), key=jax.random.key(0))
    rows = np.array([[1.0, 2, 1e-3, 2e-3, 3, 1e-3]])  # neuron 0 has grown
    parts = parts_of(network)
    assert parts.active(rows, 0.1).tolist() == [[True, False]]
    assert parts.small(rows, 0.1, rows).tolist() == [[0, 0, 1e-3, 2e-3, 0, 1e-3]]
    network = jf.FeedForward((2, 2, 2), jf.LeakyReLU(1.0, 1), key=jax.random.key(0))
    matrix = np.outer([3.0, 4], [0.6, 0.8]) + 1e-3 * np.outer([-0.8, 0.6], [0.8, -0.6])
    rows = np.concatenate([matrix.ravel(), matrix.ravel()])[None]
    expected = np.tile(1e-3 * np.outer([-0.8, 0.6], [0.8, -0.6]).ravel(), 2)
    parts = parts_of(network)
    np.testing.assert_allclose(parts.small(rows, 0.1, rows)[0], expected, atol=1e-14)
    assert parts.rank(rows, 0.1).tolist() == [1]
    whole = parts_of(eqx.nn.Linear(2, 2, key=jax.random.key(0)))
    assert not whole.separates and np.isnan(whole.small(rows, 0.1, rows)).all()


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    "argument, value",
    [
        ("scale", 0.0),
        ("scale", [1e-3, 1e-4, 1e-5]),
        ("fall", 1.5),
        ("slowing", 0),
        ("grown", "much"),
        ("max_saddles", 0),
        ("max_steps", 2.5),
        ("loss_below", -1.0),
        ("points", -3),
        ("solver", "best"),
    ],
)
def test_arguments_that_cannot_be_used(argument, value):
    network = jf.DiagonalLinear(2, 3, key=jax.random.key(0))
    task = jf.Task(jnp.eye(3), jnp.ones(3))
    with refused(argument, programs=[PROBE, *LOOK]):
        jf.saddle_to_saddle(network, task, **{"scale": 1e-3, argument: value})


@pytest.mark.usefixtures("as_users_have_it")
def test_networks_without_saddles_at_the_origin():
    task = jf.Task(jnp.eye(3), jnp.ones(3))
    key = jax.random.key(0)
    programs = ("jit(_probe)",)
    linear = jf.DiagonalLinear(1, 3, key=key)
    with refused("networks", programs=programs, match="order 1"):
        jf.saddle_to_saddle(linear, task, scale=1e-3)
    biased = eqx.nn.MLP(3, 1, 4, 1, key=key)
    with refused("networks", error=jf.NotHomogeneousError, programs=programs):
        jf.saddle_to_saddle(biased, task, scale=1e-3)
    with refused("networks"):
        jf.saddle_to_saddle([linear], task, scale=1e-3)
    zero = jf.DiagonalLinear(2, 3, key=key)
    zero = eqx.tree_at(lambda n: n.factors, zero, (jnp.zeros((1, 3)),) * 2)
    with refused("networks", programs=programs, match="zero"):
        jf.saddle_to_saddle(zero, task, scale=1e-3)
