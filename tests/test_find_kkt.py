"""KKT points that ensembles flow to, against brute force, closed forms and the theory."""

import equinox as eqx
import jax
import numpy as np
import pytest
import scipy.stats

import jaxflow as jf
from jaxflow.kkt import wilson
from jaxflow.networks import member

from .closed_form import layer_shares, order_of
from .problems import self_taught


def _phi(angles, x, y, slope, power):
    """`Σ_i y_i σ(⟨v(θ), x_i⟩)` of one neuron in the plane."""
    v = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    inner = v @ x.T
    return np.maximum(inner, slope * inner) ** power @ y


def _attractors_by_scan(x, y, slope, power, num=200_000):
    """Angles and signs of the output weight at all local maxima of `±φ > 0`."""
    cuts = np.arctan2(x[:, 1], x[:, 0])
    cuts = np.concatenate([cuts + np.pi / 2, cuts - np.pi / 2])
    angles = np.linspace(0, 2 * np.pi, num, endpoint=False)
    angles = np.unique(np.mod(np.concatenate([angles, cuts]), 2 * np.pi))
    values = _phi(angles, x, y, slope, power)
    found = []
    for sign in (1.0, -1.0):
        signed = sign * values
        top = (signed >= np.roll(signed, 1)) & (signed >= np.roll(signed, -1))
        top &= signed > 1e-9 * np.abs(values).max()
        found += [(angle, sign) for angle in angles[top]]
    return found


def _basins_by_small_steps(x, y, slope, power, attractors, num, rng):
    """How many random starts end at each attractor, by plain steps in NumPy."""
    v = rng.standard_normal((num, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    for step in np.geomspace(5e-3, 3e-4, 4000):
        a, w = v[:, :1], v[:, 1:]
        z = w @ x.T
        inner = np.maximum(z, slope * z)
        change = power * inner ** (power - 1) * np.where(z > 0, 1.0, slope)
        g = np.concatenate([inner**power @ y[:, None], a * ((change * y) @ x)], axis=1)
        size = np.linalg.norm(g, axis=1, keepdims=True)
        g -= np.sum(g * v, axis=1, keepdims=True) * v
        # By arc length, but slowly where the gradient dies out.
        v += step * g / np.maximum(size, 0.03 * size.max())
        v /= np.linalg.norm(v, axis=1, keepdims=True)
    angle = np.arctan2(v[:, 2], v[:, 1])
    best = (power / (power + 1)) ** 0.5
    settled = np.abs(np.linalg.norm(v[:, 1:], axis=1) - best) < 0.02
    counts = []
    for there, sign in attractors:
        away = np.abs(np.angle(np.exp(1j * (angle - there))))
        counts.append(np.sum(settled & (away < 5e-3) & (np.sign(v[:, 0]) == sign)))
    return np.array(counts)


def _plane(seed, n=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2)), rng.standard_normal(n)


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("power", [1, 2])
def test_all_attractors_of_a_neuron_in_the_plane(power, slope):
    network = jf.FeedForward((2, 1, 1), jf.LeakyReLU(slope, power), key=jax.random.key(0))
    ensemble = jf.sample_ensemble(network, 512, key=jax.random.key(1))
    starts = 1000
    for seed in range(4):
        x, y = _plane(100 * power + seed)
        task, rng = jf.Task(x, y), np.random.default_rng(seed)
        scan = _attractors_by_scan(x, y, slope, power)
        basins = _basins_by_small_steps(x, y, slope, power, scan, starts, rng) / starts
        points = jf.find_kkt(ensemble, task, progress=False)
        # Of a thousand one that goes to zero along a kink may run out of steps: rounding,
        # which is not the same on every processor, decides on which side of it they are.
        assert len(points.not_converged) <= 1, points
        assert np.all(points.residual <= 1e-10)
        assert np.all(points.index == 0), points
        # The outputs on the data tell a neuron's angle and its sign.
        expected = np.array([_outputs(*point, x, slope, power) for point in scan])
        members = [member(points.networks, int(k)) for k in range(len(points))]
        found = np.array([np.ravel(task.outputs(network)) for network in members])
        away = np.linalg.norm(found[:, None] - expected[None], axis=-1)
        same = away < 1e-3 * np.abs(expected).max()
        assert same.any(axis=1).all(), (seed, points)  # none invented
        assert same[:, basins >= 0.01].any(axis=0).all(), (seed, basins, points)
        apart = np.linalg.norm(found[:, None] - found[None], axis=-1)
        assert np.all(apart + np.eye(len(found)) > 1e-4)  # each only once
        # Shares agree, but for what small steps did not bring home.
        unknown = 1 - basins.sum()
        for k in range(len(points)):
            low, high = points.share_interval[k]
            share = basins[same[k]].sum()
            assert low - 0.05 - unknown < share < high + 0.05, (seed, k, basins, points)


def _outputs(angle, sign, x, slope, power):
    """What a neuron of unit norm, split in the best way between layers, gives out."""
    inner = x @ np.array([np.cos(angle), np.sin(angle)])
    size = (1 / (power + 1)) ** 0.5 * (power / (power + 1)) ** (power / 2)
    return sign * size * np.maximum(inner, slope * inner) ** power


def _residual_and_norms(points, task):
    """By JAX's own gradient of `N`, without the slopes of the finish."""
    residual = jax.vmap(lambda network: jf.kkt_residual(network, task, relative=True))
    norms = jax.vmap(jf.layer_norms)(points.networks)
    return np.asarray(residual(points.networks)), np.asarray(norms) ** 2


@pytest.mark.parametrize("outputs", [1, 3])
def test_deep_linear_networks(outputs):
    rng = np.random.default_rng(outputs)
    x, y = rng.standard_normal((20, 5)), rng.standard_normal((20, outputs))
    task = jf.Task(x, y)
    for depth in (1, 2, 3) if outputs > 1 else (2,):
        sizes = (5, *(4,) * (depth - 1), outputs)
        network = jf.FeedForward(sizes, jf.LeakyReLU(1.0), key=jax.random.key(0))
        ensemble = jf.sample_ensemble(network, 64, key=jax.random.key(1))
        points = jf.find_kkt(ensemble, task, progress=False)
        # N = ⟨W_D … W_1, C⟩ with C = Σ z_i x_iᵀ; its critical points are singular vectors
        # of C, or C itself for a single matrix, and the top one attracts.
        u, values, v = np.linalg.svd(y.T @ x)
        top = np.linalg.norm(values) if depth == 1 else values[0]
        expected = depth ** (-depth / 2) * top
        assert points.basin.tolist() == [64]
        assert points.index.tolist() == [0]
        np.testing.assert_allclose(points.value, [expected], rtol=1e-10)
        np.testing.assert_allclose(points.multiplier, [depth * expected], rtol=1e-10)
        if depth > 1:
            assert points.rank_one.all()
            product = np.eye(5)
            for weight in points.networks.weights:
                product = np.asarray(weight[0]) @ product
            aligned = np.outer(u[:, 0], v[0]) * depth ** (-depth / 2)
            np.testing.assert_allclose(product, aligned, atol=1e-9)
            np.testing.assert_allclose(_residual_and_norms(points, task)[1], 1 / depth)


@pytest.mark.parametrize(
    ("depth", "power", "slope"), [(3, 2, 0.5), (3, 1, 0.5), (4, 2, 0.3)]
)
def test_structure_of_the_points(depth, power, slope):
    sizes = (5, *(6,) * (depth - 1), 1)
    network, task = self_taught(sizes, jf.LeakyReLU(slope, power), 12)
    ensemble = jf.sample_ensemble(network, 96, key=jax.random.key(2))
    points = jf.find_kkt(ensemble, task, progress=False)
    assert len(points.not_converged) <= 2
    residual, squares = _residual_and_norms(points, task)
    smooth = points.num_kinks == 0
    assert np.all(residual[smooth] < 1e-10)
    order = order_of(depth, power)
    shares = layer_shares(depth, power)
    np.testing.assert_allclose(squares, np.tile(shares, (len(points), 1)), atol=1e-8)
    np.testing.assert_allclose(points.multiplier, order * points.value)
    for k in np.flatnonzero(points.rank_one & smooth):
        conditions = jf.kkt.rank_one_conditions(member(points.networks, int(k)), task)
        assert conditions.hold, str(conditions)
        assert points.rank_one_missed[k] == conditions.missed <= 1e-8
    assert np.all(np.isnan(points.rank_one_missed) == ~smooth)
    if power == 1:  # the flow goes on for ever where it slides along kinks
        return
    # The flow itself agrees on who goes where.
    limit = jf.ncf_flow(ensemble, task, progress=False, max_steps=3000)
    settled = (limit.status == "Stationary") & (points.ends >= 0)
    assert settled.mean() > 0.95
    values = jax.vmap(lambda network: jf.ncf(network, task))(limit.directions)
    there = points.value[points.ends[settled]]
    np.testing.assert_allclose(np.asarray(values)[settled], there, rtol=1e-8)


def test_spectrum_against_differences_along_geodesics():
    network, task = self_taught((3, 2, 1), jf.LeakyReLU(0.5, 2), 8)
    ensemble = jf.sample_ensemble(network, 16, key=jax.random.key(2))
    points = jf.find_kkt(ensemble, task, progress=False)
    flat, rebuild = jax.flatten_util.ravel_pytree(member(points.networks, 0))
    value = jax.jit(lambda w: jf.ncf(rebuild(w), task))
    rng, h = np.random.default_rng(0), 1e-4
    curvatures = []
    for _ in range(200):
        d = rng.standard_normal(flat.shape)
        d -= (d @ flat) * flat
        d /= np.linalg.norm(d)
        at = lambda t, d=d: value(np.cos(t) * flat + np.sin(t) * d)
        curvatures.append((at(h) - 2 * at(0.0) + at(-h)) / h**2)
    spectrum = points.spectrum[0]
    assert len(spectrum) == flat.size - 1
    assert spectrum[0] <= 1e-6 and points.index[0] == 0
    assert spectrum.min() - 1e-4 < min(curvatures) and max(curvatures) < 1e-4
    assert np.mean(curvatures) == pytest.approx(spectrum.mean(), rel=0.15)


def test_members_at_a_saddle_stay_and_are_told_apart():
    # N = ⟨W_2 W_1, C⟩: the second singular vectors are a saddle of index one.
    task = jf.Task(np.eye(2), np.diag([3.0, 2.0]))
    network = jf.FeedForward((2, 2, 2), jf.LeakyReLU(1.0), key=jax.random.key(0))
    modes = np.stack([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])]) / 2**0.5
    ensemble = _with_weights(network, [modes, modes])
    points = jf.find_kkt(ensemble, task, progress=False, ensemble=True)
    np.testing.assert_allclose(points.value, [1.5, 1.0], rtol=1e-12)
    assert points.index[0] == 0 and points.index[1] > 0
    assert points.ends.tolist() == [0, 1]


@pytest.mark.parametrize(
    "case", ["zero targets", "antisymmetric data", "dead neurons", "duplicates"]
)
def test_degenerate_problems_have_answers(case):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal(6)
    slope, power = 0.5, 2
    if case == "zero targets":
        y = np.zeros(6)
    if case == "antisymmetric data":  # a linear network: Σ z_i x_i = 0, N = 0 everywhere
        x, y, slope, power = np.concatenate([x, x]), np.concatenate([y, -y]), 1.0, 1
    if case == "dead neurons":  # no neuron can be of use: z_i <= 0 with a non-negative a
        x, slope, power = np.abs(x), 0.0, 1
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(slope, power), key=jax.random.key(0))
    ensemble = jf.sample_ensemble(network, 16, key=jax.random.key(1))
    if case == "dead neurons":
        first, last = ensemble.weights
        ensemble = _with_weights(ensemble, [-np.abs(first), last])
    points = jf.find_kkt(ensemble, jf.Task(x, y), progress=False)
    if case == "duplicates":
        assert len(points) > 0
        twice = jf.Task(np.concatenate([x, x]), np.concatenate([y, y]) / 2)
        again = jf.find_kkt(ensemble, twice, progress=False)
        np.testing.assert_allclose(again.value, points.value, rtol=1e-9)
        np.testing.assert_array_equal(again.ends, points.ends)
        return
    assert len(points) == 0 and points.num_zero_type == 16, points
    assert "none with N > 0" in str(points)
    assert points.dataset.sizes["point"] == 0


def test_starting_at_the_points_finds_them_again():
    network, task = self_taught((3, 4, 1), jf.LeakyReLU(0.3, 2), 8)
    points = jf.find_kkt(
        jf.Initializations(network, 64, key=jax.random.key(2)), task, progress=False
    )
    again = jf.find_kkt(points.networks, task, progress=False, ensemble=True)
    np.testing.assert_allclose(again.value, points.value, rtol=1e-12)
    assert again.ends.tolist() == list(range(len(points)))


def test_permuted_neurons_are_one_point():
    network, task = self_taught((3, 4, 1), jf.LeakyReLU(0.3, 2), 8)
    start = jf.sample_ensemble(network, 1, key=jax.random.key(2))
    (first, last), order = start.weights, np.array([2, 0, 3, 1])
    other = [np.asarray(first)[:, order], np.asarray(last)[:, :, order]]
    both = [np.concatenate(pair) for pair in zip(map(np.asarray, (first, last)), other)]
    points = jf.find_kkt(_with_weights(start, both), task, progress=False)
    assert points.basin.tolist() == [2]


def test_single_precision():
    network = jf.FeedForward(
        (3, 4, 1), jf.LeakyReLU(0.3, 2), key=jax.random.key(0), dtype=np.float32
    )
    x = np.asarray(jf.data.sphere_points(8, 3, key=jax.random.key(1)), np.float32)
    task = jf.data.teacher_student(network, x, target_norm=1.0)
    points = jf.find_kkt(
        jf.sample_ensemble(network, 64, key=jax.random.key(2)), task, progress=False
    )
    assert len(points.not_converged) == 0
    assert points.residual.dtype == np.float32 and np.all(points.residual <= 1e-4)
    double = jax.tree_util.tree_map(lambda leaf: leaf.astype(np.float64), points.networks)
    exact = jf.find_kkt(double, task, progress=False, ensemble=True)
    np.testing.assert_allclose(points.value, exact.value, rtol=1e-5)


def test_table_and_dataset():
    network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=jax.random.key(0))
    task = jf.Task(np.eye(3), np.array([3.0, 0.0, 4.0]))
    ensemble = jf.sample_ensemble(network, 10, key=jax.random.key(1))
    points = jf.find_kkt(ensemble, task, progress=False)
    text = str(points)
    assert (
        "1 distinct, from 10 initializations of FeedForward (3 parameters, order 1)" in text
    )
    assert "100.0% (72.2% to 100.0%)" in text  # Wilson: 10/(10 + 1.96²)
    assert "not converged: 0; go to zero: 0" in text
    dataset = points.dataset
    assert dict(dataset.sizes) == {"point": 1, "init": 10, "eigenvalue": 2}
    assert all("units" in dataset[name].attrs for name in dataset)
    np.testing.assert_allclose(dataset["spectrum"], [[-5.0, -5.0]])
    assert np.all(dataset["rank_one_missed"] < 1e-8)
    without = jf.find_kkt(ensemble, task, progress=False, spectrum=False)
    assert without.index.tolist() == [-1] and without.spectrum is None
    assert "spectrum" not in without.dataset


@pytest.mark.parametrize("trials", [1, 7, 4096, 10**7])
def test_shares_have_the_intervals_that_scipy_gives_them(trials):
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        test = scipy.stats.binomtest(successes, trials)
        expected = test.proportion_ci(0.95, method="wilson")
        found = wilson(successes, trials)
        np.testing.assert_allclose(found, (expected.low, expected.high), rtol=1e-9)
        assert 0 <= found[0] <= successes / trials <= found[1] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tol": -1.0}, "tol: found -1"),
        ({"tol": "small"}, "tol: found 'small'"),
        ({"tol": 1e-20}, "tol: found 1e-20"),
        ({"max_steps": 0}, "max_steps: found 0"),
        ({"task": None}, "task: found NoneType"),
        ({"networks": [1, 2]}, r"networks: found \[1, 2\]"),
    ],
)
def test_wrong_input(change, message, as_users_have_it):
    network = jf.FeedForward((3, 2, 1), jf.LeakyReLU(), key=jax.random.key(0))
    given = {"networks": network, "task": jf.Task(np.eye(3), np.ones(3))} | change
    with pytest.raises(jf.InputError, match=message):
        jf.find_kkt(**given)


def _with_weights(network, weights):
    weights = tuple(map(jax.numpy.asarray, weights))
    return eqx.tree_at(lambda n: n.weights, network, weights)
