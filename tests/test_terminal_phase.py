"""The terminal phase: losses with an exponential tail, followed to t = 1e100 and beyond."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.svm import SVC

import jaxflow as jf

from .problems import TSIT5

_residuals = eqx.filter_jit(eqx.filter_vmap(jf.margin_kkt_residual, in_axes=(0, None)))

LOG_GOOGOL = 100 * np.log(10.0)
FEW = jf.Schedule(width=8)
LOSSES = ("logistic", "exponential", "cross_entropy")


def _task(loss, num=6, out=3, seed=0):
    random = np.random.default_rng(seed)
    signs = np.where(random.normal(size=(num, out)) > 0, 1.0, -1.0)
    targets = np.arange(num) % out if loss == "cross_entropy" else signs
    return jf.Task(np.ones((num, 1)), targets, loss=loss), random.normal(size=(num, out))


def _separated(num=20, dim=5, gap=0.5, seed=0, dtype=float):
    """Points of the unit sphere on both sides of a gap."""
    random = np.random.default_rng(seed)
    signs = np.where(np.arange(num) % 2, 1.0, -1.0)
    points = random.normal(size=(num, dim - 1))
    points *= (1 - gap**2) ** 0.5 / np.linalg.norm(points, axis=1, keepdims=True)
    points = np.concatenate([gap * signs[:, None], points], axis=1)
    return points.astype(dtype), signs.astype(dtype)


def _clouds(num=20, dim=5, seed=0):
    """Two Gaussian clouds, moved apart along a random vector: few support vectors."""
    random = np.random.default_rng(seed)
    points, apart = random.normal(size=(num, dim)), random.normal(size=dim)
    signs = np.sign(points @ apart)
    return points + 0.5 * np.outer(signs, apart / np.linalg.norm(apart)), signs


def _max_margin(points, signs):
    """The unit vector of the largest margin; mirrored data puts it through the origin."""
    mirrored = np.concatenate([points * signs[:, None], -points * signs[:, None]])
    labels = np.repeat([1, -1], len(points))
    machine = SVC(kernel="linear", C=1e10, tol=1e-10).fit(mirrored, labels)
    return machine.coef_[0] / np.linalg.norm(machine.coef_[0])


# Losses


@pytest.mark.parametrize("loss", LOSSES)
def test_logarithms_are_those_of_the_loss(loss):
    task, outputs = _task(loss)
    outputs = jnp.asarray(np.array([0.1, 1.0, 5.0, 25.0])[:, None, None] * outputs)

    @jax.jit
    @jax.vmap
    def values(outputs):
        total = task.total_loss(outputs)
        found = task.log_loss(outputs), task.relative_residuals(outputs)
        return found, (jnp.log(total), task.residuals(outputs) / total)

    found, expected = values(outputs)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES)
def test_logarithm_of_one_margin_from_minus_to_plus_infinity(loss, dtype):
    """Against extended precision: `e^-q` of a long double reaches 1e-4900."""
    margins = np.concatenate([np.linspace(-100, 100, 401), [-2000, 500, 800, 4000]])
    q = margins.astype(np.longdouble)
    with np.errstate(over="ignore"):
        softplus = np.where(q > -50, np.log1p(np.exp(-q)), -q)
    exact = -q if loss == "exponential" else np.log(softplus)
    slope = -1 / ((1 + np.exp(q)) * softplus) if loss != "exponential" else -1 + 0 * q

    targets = {"cross_entropy": [1]}.get(loss, [1.0])
    inputs = np.ones((1, 1))
    one = jf.Task(inputs, np.asarray(targets), loss=loss).astype(dtype)

    def log_loss(q):
        outputs = jnp.stack([jnp.zeros_like(q), q]) if loss == "cross_entropy" else q[None]
        return one.log_loss(outputs[None])

    points = jnp.asarray(margins, dtype)
    found = jax.jit(jax.vmap(log_loss))(points)
    eps = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, exact.astype(float), rtol=eps, atol=eps)
    slopes = jax.jit(jax.vmap(jax.grad(log_loss)))(points)
    np.testing.assert_allclose(slopes, slope.astype(float), rtol=2 * eps, atol=eps)
    # The inverse, where the loss still tells margins apart.
    back = jax.jit(jax.vmap(one.margin_loss.margin_at))(found)
    np.testing.assert_allclose(back, points, rtol=10 * eps, atol=10 * eps)


def test_losses_without_margins_are_told():
    task = jf.Task(np.ones((2, 1)), np.ones(2))
    network = jf.FeedForward((1, 1), jf.LeakyReLU(), key=jax.random.key(0))
    assert not task.has_margins
    for observable in (
        jf.margin,
        jf.normalized_margin,
        jf.smoothed_normalized_margin,
        jf.margin_kkt_residual,
    ):
        with pytest.raises(jf.InputError, match="task: found the loss SquareLoss"):
            observable(network, task)


# Observables


def _linear(vector):
    vector = jnp.atleast_2d(jnp.asarray(vector))
    network = jf.FeedForward(vector.shape[::-1], jf.LeakyReLU(1.0), key=jax.random.key(0))
    return eqx.tree_at(lambda n: n.weights, network, (vector,))


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_margins_of_a_linear_classifier(loss):
    points, signs = _clouds()
    task = jf.Task(points, signs, loss=loss)
    best = _max_margin(points, signs)
    largest = np.min(signs * (points @ best))
    others = np.random.default_rng(0).normal(size=(50, 5))
    rows = jnp.asarray(np.concatenate([[30 * best, 300 * best], others]))
    networks = eqx.tree_at(lambda n: n.weights, _linear(best), (rows[:, None],))

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(0, None))
    def margins(network, task):
        observables = jf.margin, jf.normalized_margin, jf.smoothed_normalized_margin
        return [observable(network, task) for observable in observables]

    plain, normalized, smoothed = map(np.asarray, margins(networks, task))
    sizes = np.array([30.0, 300.0])
    np.testing.assert_allclose(plain[:2], sizes * largest, rtol=1e-6)
    np.testing.assert_allclose(normalized[:2], largest, rtol=1e-6)
    # From below, by at most log n/‖w‖.
    short = largest - smoothed[:2]
    assert np.all(short > 0) and np.all(short < np.log(20) / sizes)
    assert np.all(normalized[2:] < largest)


@pytest.mark.parametrize("loss", LOSSES)
def test_residual_is_zero_at_kkt_points_only(loss):
    """Two samples, or classes, of one margin: the bisector, and nothing else."""
    points = np.array([[1.0, 0.2], [0.2, 1.0]])
    if loss == "cross_entropy":
        # Classes with the weights ±w/2: the margin of label 1 is w·x.
        task = jf.Task(points, np.array([1, 1]), loss=loss)
        network_of = lambda w: _linear(np.stack([-w / 2, w / 2]))
    else:
        task = jf.Task(points, np.ones(2), loss=loss)
        network_of = _linear
    residual = eqx.filter_jit(jf.margin_kkt_residual)
    bisector = np.array([1.0, 1.0])
    for size in (0.1, 1.0, 100.0, 1e4):
        assert residual(network_of(size * bisector), task) < 1e-12
        assert residual(network_of(size * np.array([1.0, 0.9])), task) > 1e-2
    assert residual(network_of(-bisector), task) == 1


def test_residual_against_its_definition():
    """By the multipliers written out, for a deep network and several outputs."""
    network = jf.FeedForward((4, 5, 3), jf.LeakyReLU(0.5, 2), key=jax.random.key(1))
    inputs = jax.random.normal(jax.random.key(2), (7, 4))
    labels = jnp.argmax(jax.vmap(network)(inputs), axis=1)  # separated
    task = jf.Task(inputs, labels, loss="cross_entropy")
    flat, unravel = jax.flatten_util.ravel_pytree(eqx.filter(network, eqx.is_array))
    rest = eqx.filter(network, eqx.is_array, inverse=True)

    def margins(vector):
        outputs = jax.vmap(eqx.combine(unravel(vector), rest))(inputs)
        own = jnp.take_along_axis(outputs, labels[:, None], axis=1)
        other = np.arange(3)[None] != np.asarray(labels)[:, None]
        return (own - outputs)[other]

    q, jacobian = (
        np.asarray(margins(flat)),
        np.asarray(jax.jit(jax.jacobian(margins))(flat)),
    )
    per_sample = np.exp(-q).reshape(7, 2)
    # ∂/∂q of Σ_i log(1 + Σ_k e^-q_ik).
    multipliers = (per_sample / (1 + per_sample.sum(1, keepdims=True))).ravel()
    pull = multipliers @ jacobian
    cosine = pull @ np.asarray(flat) / np.linalg.norm(pull) / np.linalg.norm(flat)
    gap = multipliers @ (q - q.min()) / (multipliers @ q)
    expected = max(np.sqrt(1 - cosine**2), gap)
    np.testing.assert_allclose(jf.margin_kkt_residual(network, task), expected, rtol=1e-8)
    np.testing.assert_allclose(jf.margin(network, task), q.min(), rtol=1e-12)


# Flows against closed forms


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_one_weight_and_one_sample(scale):
    """`dw/dt = x e^(-wx)`: `w = log(e^(x w₀) + x² t)/x`."""
    x = 1.3
    task = jf.Task(np.array([[x]]), np.ones(1), loss="exponential")
    ends = LOG_GOOGOL * np.array([0.1, 1.0, 10.0])
    starts = jax.tree_util.tree_map(
        lambda leaf: jnp.stack([leaf] * 3) if eqx.is_array(leaf) else leaf, _linear([1.0])
    )
    solution = jf.gradient_flow(
        starts,
        task,
        scale=scale,
        stop=jf.LogTime(ends),
        ensemble=True,
        schedule=FEW,
        **TSIT5,
    )
    assert set(solution.status) == {"LogTime"}
    np.testing.assert_allclose(solution.log_time, ends, rtol=1e-12)
    exact = np.logaddexp(x * scale, ends + 2 * np.log(x)) / x
    np.testing.assert_allclose(np.exp(solution.log_norm), exact, rtol=1e-6)


@pytest.mark.parametrize("dtype, accuracy", [(jnp.float64, 1e-6), (jnp.float32, 1e-4)])
def test_deep_chain_by_quadrature(dtype, accuracy):
    """Balanced weights `a`: `t = ∫ e^(x a^D)/(x a^(D-1)) da`, to 1e100 by its logarithm."""
    depth, x, start, scale = 3, 0.8, 1.0, 0.3
    chain = jf.DiagonalLinear(depth, 1, key=jax.random.key(0), dtype=dtype)
    weight = jnp.full((1, 1), start, dtype)
    chain = eqx.tree_at(lambda n: n.factors, chain, (weight,) * depth)
    task = jf.Task(np.array([[x]]), np.ones(1), loss="exponential")
    solution = jf.gradient_flow(
        chain,
        task,
        scale=scale,
        stop=jf.LogTime(LOG_GOOGOL),
        ensemble=False,
        **TSIT5,
    )
    assert solution.status == "LogTime"
    end = np.exp(float(solution.log_norm)) / depth**0.5
    top = x * end**depth
    # The integrand is largest at its end, where it is one in these units.
    integrand = lambda a: np.exp(x * a**depth - top) / (x * a ** (depth - 1))
    width = 60 / (depth * x * end ** (depth - 1))
    log_time = top + np.log(quad(integrand, max(scale * start, end - width), end)[0])
    np.testing.assert_allclose(log_time, LOG_GOOGOL, rtol=accuracy)


# Linear networks and the support vector machine


@pytest.fixture(scope="module")
def linear_data():
    points, signs = _clouds()
    return jf.Task(points, signs, loss="logistic"), _max_margin(points, signs)


def _products(solution):
    product = np.asarray(solution.networks.weights[0])
    for weight in solution.networks.weights[1:]:
        product = np.asarray(weight) @ product
    return product[:, 0]


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_linear_classifier_becomes_the_support_vector_machine(linear_data):
    """`w(t) = ŵ log t + const`: the direction errs by const/log t, increments do not."""
    task, best = linear_data
    network = jf.FeedForward((5, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    starts = jf.sample_ensemble(network, 3, key=jax.random.key(1))
    ends = LOG_GOOGOL * np.array([0.5, 1.0, 10.0])
    same = jax.tree_util.tree_map(
        lambda leaf: jnp.stack([leaf[0]] * 3) if eqx.is_array(leaf) else leaf, starts
    )
    solution = jf.gradient_flow(
        same,
        task,
        stop=jf.LogTime(ends),
        ensemble=True,
        schedule=FEW,
        **TSIT5,
    )
    assert set(solution.status) == {"LogTime"}
    weights = _products(solution)
    errors = np.linalg.norm(_unit(weights) - best, axis=1)
    assert errors[1] < 1e-2 and errors[2] < 1e-3
    np.testing.assert_allclose(errors * ends / (errors[0] * ends[0]), 1, rtol=0.05)
    increments = _unit(np.diff(weights, axis=0))
    np.testing.assert_allclose(increments, np.stack([best, best]), atol=1e-5)
    # The norm as theory has it: log t over the margin.
    margin = np.min(np.asarray(task.targets) * (np.asarray(task.inputs) @ best))
    growth = np.diff(np.linalg.norm(weights, axis=1)) / np.diff(ends)
    np.testing.assert_allclose(growth, 1 / margin, rtol=1e-3)
    residuals = _residuals(solution.networks, task)
    # The multipliers are as exact as `rtol log t`, which is what is left at 1e1000.
    laws = residuals * ends / (residuals[0] * ends[0])
    np.testing.assert_allclose(laws[1], 1, rtol=0.1)
    assert residuals[2] < 1e-3


def test_deep_linear_network(linear_data):
    """Its product has the direction; conserved weights are a share `(log t)^(-1/L)`."""
    task, best = linear_data
    network = jf.FeedForward((5, 6, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    start = jf.sample_ensemble(network, 1, key=jax.random.key(1))
    ends = LOG_GOOGOL * np.array([1.0, 1.0, 1.0, 4.0])
    starts = jax.tree_util.tree_map(
        lambda leaf: jnp.concatenate([leaf] * 4) if eqx.is_array(leaf) else leaf, start
    )
    scales = np.array([1e-3, 0.1, 1.0, 1.0])
    solution = jf.gradient_flow(
        starts,
        task,
        scale=scales,
        stop=jf.LogTime(ends),
        schedule=FEW,
        **TSIT5,
    )
    assert set(solution.status) == {"LogTime"}
    errors = np.linalg.norm(_unit(_products(solution)) - best, axis=1)
    residuals = _residuals(solution.networks, task)
    assert errors[0] < 1e-2 and residuals[0] < 1e-2
    assert np.all(np.diff(errors[:3]) > 0)
    rate = np.log(residuals[3] / residuals[2]) / np.log(4.0)
    np.testing.assert_allclose(rate, -1 / 2, atol=0.03)
    # The balance of layers is that of the start, while the weights grow.
    first, second = solution.networks.weights
    balance = jnp.swapaxes(second, 1, 2) @ second - first @ jnp.swapaxes(first, 1, 2)
    first, second = (scales[:, None, None] * w for w in starts.weights)
    before = jnp.swapaxes(second, 1, 2) @ second - first @ jnp.swapaxes(first, 1, 2)
    assert np.exp(solution.log_norm.min()) > 10
    np.testing.assert_allclose(balance, before, atol=1e-3)


# An ensemble of networks with kinks


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_ensemble_to_a_googol(dtype):
    points, signs = _separated(dtype=dtype)
    task = jf.Task(points, signs, loss="logistic")
    activation = jf.LeakyReLU(0.5, 2)
    network = jf.FeedForward((5, 20, 1), activation, key=jax.random.key(0), dtype=dtype)
    ensemble = jf.sample_ensemble(network, 64, key=jax.random.key(2))
    grid = np.linspace(2, LOG_GOOGOL, 40)
    solution = jf.gradient_flow(
        ensemble,
        task,
        stop=[jf.LogTime(LOG_GOOGOL)],
        max_steps=3000,
        schedule=jf.Schedule(width=32),
        record={
            "smoothed": jf.smoothed_normalized_margin,
            "margin": jf.normalized_margin,
            "residual": jf.margin_kkt_residual,
            "loss": jf.loss,
        },
        record_at=grid,
        record_over="log_time",
        **TSIT5,
    )
    done = solution.status == "LogTime"
    # One member has margins from 220 to 16,000, too far apart for single precision.
    assert np.sum(~done) <= (1 if dtype == jnp.float32 else 0)
    assert solution.log_norm.dtype == dtype
    np.testing.assert_allclose(solution.log_time[done], LOG_GOOGOL, rtol=1e-6)
    records = {name: np.asarray(v)[done] for name, v in solution.records.values.items()}
    separated = records["loss"] < np.log(2)
    assert separated[:, -1].all()
    noise = 1e-4 if dtype == jnp.float32 else 1e-9
    for name in ("smoothed", "margin"):
        rise = np.diff(records[name], axis=1) / records[name][:, 1:]
        assert rise[separated[:, :-1]].min() > -noise, name
    # Both have one limit, from below and from above.
    late = slice(20, None)
    assert np.all(records["smoothed"][:, late] <= records["margin"][:, late] * (1 + noise))
    gap = 1 - records["smoothed"][:, -1] / records["margin"][:, -1]
    assert gap.max() < np.log(20) / LOG_GOOGOL * 1.1
    # Members pass saddles on their way; the ensemble comes closer.
    middle = np.median(records["residual"], axis=0)
    # In single precision by no more than noise between two points of the grid, once.
    assert np.all(np.diff(middle[late]) < (2 * noise if dtype == jnp.float32 else 0))
    assert middle[-1] < 0.95 * middle[20]

    def balances(networks):
        """What every neuron conserves while the weights grow."""
        lower, upper = (np.asarray(weight)[done] for weight in networks.weights)
        return upper[:, 0] ** 2 - np.sum(lower**2, axis=2) / 2

    assert np.median(solution.log_norm) > 2.5
    drift = np.abs(balances(solution.networks) - balances(ensemble)).max(axis=1)
    largest = np.exp(2 * solution.log_norm[done])
    assert np.max(drift / largest) < (1e-4 if dtype == jnp.float32 else 1e-6)


# The stop condition


@pytest.fixture(scope="module")
def converged():
    points, signs = _separated()
    task = jf.Task(points, signs, loss="logistic")
    network = jf.FeedForward((5, 20, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
    ensemble = jf.sample_ensemble(network, 8, key=jax.random.key(2))
    tolerances = np.linspace(0.4, 0.6, 8)
    solution = jf.gradient_flow(
        ensemble,
        task,
        scale=0.1,
        stop=[jf.MarginConverged(tolerances), jf.LogTime(LOG_GOOGOL)],
        schedule=FEW,
        **TSIT5,
    )
    return task, tolerances, solution


def test_members_end_at_their_tolerance(converged):
    task, tolerances, solution = converged
    ended = solution.status == "MarginConverged"
    assert ended.sum() >= 6
    residuals = _residuals(solution.networks, task)
    assert np.all(residuals[ended] <= tolerances[ended] * (1 + 1e-6))
    assert np.all(solution.loss[ended] < np.log(2))
    assert np.all(jax.vmap(jf.margin, (0, None))(solution.networks, task)[ended] > 0)


class _Unreachable(jf.AbstractStop):
    """Looks at what `Stationary` looks at, where the loss is below every float."""

    exact = False

    def gap(self, snapshot):
        share = snapshot.turning_rate / snapshot.gradient_norm
        usable = jnp.isfinite(share) & (snapshot.gradient_norm > 0)
        return jnp.where(usable, -1.0, 1.0)

    def clock(self, flow, args):
        return None


def test_a_gradient_that_underflows_does_not_look_like_rest():
    points, signs = _separated(num=4, dim=2)
    task = jf.Task(points, signs, loss="logistic")
    network = jf.FeedForward((2, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    starts = jf.sample_ensemble(network, 2, key=jax.random.key(1))
    solution = jf.gradient_flow(
        starts,
        task,
        stop=[_Unreachable(), jf.Stationary(1e-12, gradient=0.0), jf.LogTime(1000.0)],
        schedule=FEW,
        **TSIT5,
    )
    assert set(solution.status) == {"LogTime"}
    assert np.all(solution.loss == 0)  # e^-1000
