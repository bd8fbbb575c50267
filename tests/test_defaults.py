"""What happens where nobody chose a solver: kinks are found, plateaus crossed, ends met."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import linprog

import jaxflow as jf
from jaxflow.flows import sides_of_loss, sides_of_outputs
from jaxflow.networks import flatten, member, unflattener

from .problems import modes_task, teacher_task

KEY = jax.random.key(0)


def mlp(activation, width=4, **options):
    return eqx.nn.MLP(2, 1, width, 1, activation, key=KEY, **options)


def plane_task(num=6, **options):
    x = jax.random.normal(jax.random.key(1), (num, 2))
    return jf.Task(x, jnp.sin(x[:, :1]) * x[:, 1:], **options)


class Hinge(jf.AbstractLoss):
    def __call__(self, prediction, target):
        return jnp.sum(jnp.maximum(1 - prediction * target, 0.0))


class Pooled(eqx.Module):
    """A convolution, max pooling, and a matrix."""

    convolution: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    last: jax.Array

    def __call__(self, x):
        h = jnp.tanh(self.pool(self.convolution(x.reshape(1, 1, 2))))
        return self.last @ h.ravel()


class Repeated(eqx.Module):
    """One matrix many times over, as in a recurrent network."""

    matrix: jax.Array

    def __call__(self, x):
        step = lambda h, _: (jax.nn.relu(self.matrix @ h + x), None)
        return jax.lax.scan(step, x, None, length=20)[0][:1]


def shifted(z):
    """Smooth, and full of comparisons."""
    both = jax.nn.logsumexp(jnp.stack([z, 2 * z]))
    return jnp.logaddexp(z, 0.0) + both * jax.nn.elu(z)


@pytest.mark.parametrize(
    "network, num",
    [
        (mlp(jax.nn.relu), 4),
        (mlp(jax.nn.leaky_relu), 4),
        (mlp(jnp.abs), 4),
        (mlp(jax.nn.selu), 4),
        (mlp(lambda z: jnp.maximum(z, 0.1 * z)), 4),
        (mlp(jax.nn.relu6), 4),
        (jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5), key=KEY), 3),
        (Repeated(jnp.array([[0.5, -0.4], [0.3, 0.6]])), 40),
        (
            Pooled(
                eqx.nn.Conv2d(1, 2, 1, key=KEY), eqx.nn.MaxPool2d((1, 2)), jnp.ones((1, 2))
            ),
            4,
        ),
    ],
)
def test_kinks_are_found_in_any_module(network, num):
    sides = sides_of_outputs(network, plane_task())
    found = sides(flatten(network))
    assert found.dtype == bool
    # Some comparisons are made twice over.
    assert found.size % (6 * num) == 0 and found.size > 0


@pytest.mark.parametrize(
    "network",
    [
        mlp(jnp.tanh),
        mlp(jax.nn.gelu),
        mlp(jax.nn.softplus),
        mlp(lambda z: jax.nn.relu(z) ** 2),
        mlp(shifted),
        jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5, 2), key=KEY),
        jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5, smoothing=0.1), key=KEY),
        jf.DiagonalLinear(2, 2, key=KEY),
    ],
)
def test_smooth_modules_have_none(network):
    assert sides_of_outputs(network, plane_task()) is None


def test_sides_of_an_mlp_are_the_signs_of_its_pre_activations():
    network, task = mlp(jax.nn.relu), plane_task()
    layer = network.layers[0]
    inputs, weight, bias = map(np.asarray, (task.inputs, layer.weight, layer.bias))
    expected = inputs @ weight.T + bias > 0
    found = sides_of_outputs(network, task)(flatten(network))
    np.testing.assert_array_equal(np.asarray(found).reshape(expected.shape), expected)


def test_kinks_of_a_loss_are_those_of_the_flow_in_the_weights():
    network, task = mlp(jnp.tanh), plane_task(loss=Hinge())
    assert sides_of_outputs(network, task) is None
    found = sides_of_loss(network, task)(flatten(network))
    outputs = task.outputs(network)
    expected = 1 - outputs * task.targets > 0
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def euler(network, task, time, num):
    """The weights after a time, by many small steps."""
    rebuild = unflattener(network)
    slope = jax.grad(lambda w: -jf.loss(rebuild(w), task))

    @jax.jit
    def go(weights):
        step = lambda _, w: w + time / num * slope(w)
        return jax.lax.fori_loop(0, num, step, weights)

    return rebuild(go(flatten(network)))


def test_stock_relu_networks_end_where_they_were_asked_to():
    ensemble = eqx.filter_vmap(lambda key: eqx.nn.MLP(2, 2, 2, 2, key=key))(
        jax.random.split(KEY, 8)
    )
    x = jax.random.normal(jax.random.key(1), (20, 2))
    y = jnp.sin(x[:, 0]) * x[:, 1]
    task = jf.Task(x, jnp.stack([y, y], 1))
    solution = jf.gradient_flow(ensemble, task, stop=jf.Time(1.0))
    assert set(solution.status.tolist()) == {"Time"}
    # The last one slides all the way.
    assert np.max(solution.stats.num_steps) < 3000
    for number, error in ((0, 1e-3), (3, 1e-3), (7, 2e-3)):
        end = euler(member(ensemble, number), task, 1.0, 100_000)
        expected = float(jf.loss(end, task))
        assert solution.loss[number] == pytest.approx(expected, rel=error)


def test_a_member_takes_the_same_steps_whoever_is_beside_it():
    """Some wait on a plateau, where stability limits them, while others do not."""
    network = jf.FeedForward((6, 6, 6, 6), jf.LeakyReLU(1.0), key=KEY)
    ensemble = jf.sample_ensemble(network, 16, key=jax.random.key(1))
    scale = np.where(np.arange(16) % 3 == 0, 1.0, 1e-2)
    sim = jf.Simulation(
        jf.GradientFlow(), ensemble, modes_task(), scale=scale, stop=jf.LossBelow(0.6)
    )
    whole = jf.run(sim)
    stabilized = whole.stats.num_stabilized > 0
    assert 0 < np.sum(stabilized) < 16
    parts = jf.concat([jf.run(sim[:5]), jf.run(sim[5:])])
    np.testing.assert_array_equal(parts.stats.num_steps, whole.stats.num_steps)
    np.testing.assert_array_equal(parts.loss, whole.loss)


@pytest.mark.parametrize("coordinates", ["polar", "cartesian"])
def test_loss_below_ends_at_the_loss(coordinates):
    network, task = teacher_task(power=2)
    ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
    value = np.array([0.3, 0.2, 0.1, 0.05])
    solution = jf.gradient_flow(
        ensemble, task, scale=0.5, stop=jf.LossBelow(value), coordinates=coordinates
    )
    assert set(solution.status.tolist()) == {"LossBelow"}
    assert np.all(solution.loss <= value)
    assert np.all(solution.loss > (1 - 1e-6) * value)
    rebuild = unflattener(network)
    gradient = jax.jit(jax.grad(lambda w: -jf.loss(rebuild(w), task)))
    losses = jax.jit(lambda w: jf.loss(rebuild(w), task))
    below = lambda t, w: float(losses(w)) - value[1]
    below.terminal = True
    solved = solve_ivp(
        lambda t, w: np.asarray(gradient(w)),
        (0, 2 * np.exp(solution.log_time[1])),
        0.5 * np.asarray(flatten(member(ensemble, 1))),
        "DOP853",
        rtol=1e-10,
        atol=1e-12,
        events=below,
    )
    (found,) = solved.t_events[0]
    assert np.exp(solution.log_time[1]) == pytest.approx(found, rel=1e-5)


def test_until_converged():
    """Linear least squares, whose answer is known."""
    x = jax.random.normal(KEY, (12, 3))
    y = jnp.sin(x[:, 0])
    network = jf.FeedForward((3, 1), jf.LeakyReLU(), key=KEY)
    for coordinates in ("cartesian", "auto"):
        solution = jf.gradient_flow(
            network,
            jf.Task(x, y),
            stop=jf.Stationary(1e-8),
            coordinates=coordinates,
            ensemble=False,
        )
        assert solution.status == "Stationary"
        assert solution.stats.num_steps < 200
        found = np.asarray(solution.networks.weights[0][0])
        np.testing.assert_allclose(found, np.linalg.lstsq(x, y)[0], atol=1e-7)


class Absolute(jf.AbstractLoss):
    def __call__(self, prediction, target):
        return jnp.sum(jnp.abs(prediction - target))


@pytest.mark.parametrize("coordinates", ["cartesian", "auto"])
def test_a_minimum_on_a_kink(coordinates):
    """Least absolute deviations: the minimum has residuals of zero, as a linear program
    finds it."""
    x = jax.random.normal(KEY, (11, 2))
    y = jnp.sin(3 * x[:, 0]) + x[:, 1]
    network = jf.FeedForward((2, 1), jf.LeakyReLU(), key=KEY)
    task = jf.Task(x, y, loss=Absolute())
    ensemble = jf.sample_ensemble(network, 3, key=KEY)
    solution = jf.gradient_flow(
        ensemble, task, stop=jf.Stationary(1e-6), coordinates=coordinates
    )
    assert set(solution.status.tolist()) == {"rests_at_kink"}
    assert not solution.failed.any()
    assert np.max(solution.stats.num_steps) < 5000
    cost = np.r_[np.zeros(2), np.ones(11)]
    rows = np.block([[x, -np.eye(11)], [-x, -np.eye(11)]])
    free = [(None, None)] * 2 + [(0, None)] * 11
    best = linprog(cost, rows, np.r_[y, -y], bounds=free)
    np.testing.assert_allclose(solution.loss, best.fun, rtol=1e-2)
    # It says nothing of members that are to go on until a time.
    later = jf.gradient_flow(
        ensemble, task, stop=jf.Time(30.0), coordinates=coordinates, max_steps=20_000
    )
    assert set(later.status.tolist()) == {"Time"}
