"""Flows against exact solutions and conservation laws."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

from . import closed_form
from .problems import teacher_task

TIGHT = {"solver": diffrax.Dopri8(), "rtol": 1e-11, "atol": 1e-13}


def _with(network, weights):
    return eqx.tree_at(lambda n: n.weights, network, tuple(map(jnp.asarray, weights)))


@pytest.mark.parametrize("depth", [3, 4])
def test_blow_up_and_path_of_a_balanced_chain(depth):
    correlation = 0.7
    chain = jf.FeedForward((1,) * (depth + 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    chain = _with(chain, [np.full((1, 1), depth**-0.5)] * depth)
    task = jf.Task(jnp.ones((1, 1)), jnp.array([correlation]))
    blow_up = closed_form.chain_blow_up(depth, correlation)
    grid = blow_up * np.array([0.0, 0.2, 0.5, 0.9, 0.99])
    limit = jf.ncf_flow(
        chain,
        task,
        stop=jf.RescaledTime(0.99 * blow_up),
        record={"norm": jf.norm},
        record_at=grid,
        **TIGHT,
    )
    np.testing.assert_allclose(limit.blow_up_time, blow_up, rtol=1e-8)
    np.testing.assert_allclose(
        limit.records.values["norm"],
        closed_form.chain_norm(depth, correlation, grid),
        rtol=1e-8,
    )
    np.testing.assert_allclose(limit.rescaled_time, 0.99 * blow_up, rtol=1e-14)


@pytest.mark.parametrize("coordinates", ["polar", "cartesian"])
def test_singular_modes_of_a_two_layer_linear_network(coordinates):
    random = np.random.default_rng(0)
    left, right, inner = (np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(3))
    strengths, starts = np.array([3.0, 2.0, 0.5]), np.array([1e-3, 2e-3, 5e-3])
    network = jf.FeedForward((3, 3, 3), jf.LeakyReLU(1.0), key=jax.random.key(0))
    network = _with(
        network,
        [inner @ np.diag(starts**0.5) @ right.T, left @ np.diag(starts**0.5) @ inner.T],
    )
    # Inputs e_1, e_2, e_3: the input correlation is the identity.
    task = jf.Task(np.eye(3), (left @ np.diag(strengths) @ right.T).T)

    def modes(network, task):
        product = network.weights[1] @ network.weights[0]
        return jnp.diag(jnp.asarray(left.T) @ product @ jnp.asarray(right))

    grid = np.linspace(0, 4, 9)
    solution = jf.gradient_flow(
        network,
        task,
        stop=jf.Time(4.0),
        coordinates=coordinates,
        record={"modes": modes},
        record_at=grid,
        **TIGHT,
    )
    exact = closed_form.singular_mode(strengths, starts, grid[:, None])
    np.testing.assert_allclose(solution.records.values["modes"], exact, atol=1e-8)
    np.testing.assert_allclose(solution.log_time, np.log(4.0), rtol=1e-14)


@pytest.mark.parametrize("coordinates", ["polar", "cartesian"])
def test_balanced_diagonal_network(coordinates):
    targets, starts = np.array([2.0, 1.0, 0.3]), np.array([0.01, 0.1, 0.2])
    network = jf.DiagonalLinear(2, 3, out_size=3, key=jax.random.key(0))
    factor = jnp.asarray(np.diag(starts**0.5))
    network = eqx.tree_at(lambda n: n.factors, network, (factor, factor))
    task = jf.Task(np.eye(3), np.diag(targets))
    solution = jf.gradient_flow(
        network, task, stop=jf.Time(2.5), coordinates=coordinates, **TIGHT
    )
    found = np.diag(solution.networks.factors[0] * solution.networks.factors[1])
    exact = closed_form.singular_mode(targets, starts, 2.5)
    np.testing.assert_allclose(found, exact, atol=1e-8)


def test_diagonal_network_under_the_correlation_flow():
    correlations = np.array([1.0, -0.5])
    u, v = np.array([0.6, 0.3]), np.array([-0.2, 0.5])
    network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
    network = eqx.tree_at(
        lambda n: n.factors, network, (jnp.asarray(u)[None], jnp.asarray(v)[None])
    )
    task = jf.Task(np.eye(2), correlations)
    limit = jf.ncf_flow(network, task, stop=jf.RescaledTime(3.0), **TIGHT)
    exact = closed_form.hyperbolic_pair(u, v, correlations, 3.0)
    np.testing.assert_allclose(limit.networks.factors[0][0], exact[0], rtol=1e-8)
    np.testing.assert_allclose(limit.networks.factors[1][0], exact[1], rtol=1e-8)
    assert limit.blow_up_time == np.inf  # L = 2: only exponential growth


def _flows(network, task, **settings):
    """The final weights, as stacked networks, of every flow from the same starts."""
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(5))
    ensemble = jax.tree_util.tree_map(
        lambda leaf: 1.5 * leaf if eqx.is_array(leaf) else leaf, ensemble
    )
    for coordinates in ("polar", "cartesian"):
        solution = jf.gradient_flow(
            ensemble, task, coordinates=coordinates, stop=jf.Time(3.0), **settings
        )
        yield coordinates, ensemble, solution.networks
    limit = jf.ncf_flow(ensemble, task, stop=jf.RescaledTime(0.5), **settings)
    yield "limit", ensemble, limit.networks


def test_linear_networks_conserve_the_balance_of_layers():
    network, task = teacher_task(sizes=(4, 5, 3, 2), slope=1.0, power=1)

    def balances(ensemble):
        for lower, upper in zip(ensemble.weights[:-1], ensemble.weights[1:]):
            yield jnp.swapaxes(upper, 1, 2) @ upper - lower @ jnp.swapaxes(lower, 1, 2)

    for name, before, after in _flows(network, task, **TIGHT):
        moved = jnp.max(jnp.abs(after.weights[0] - before.weights[0]))
        assert moved > 0.05, name
        for start, end in zip(balances(before), balances(after)):
            np.testing.assert_allclose(end, start, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(
    "power, slope, smoothing", [(1, 0.5, 0.0), (1, 0.3, 0.1), (2, 0.5, 0.0), (3, 0.0, 0.0)]
)
def test_homogeneous_networks_conserve_the_balance_of_every_neuron(power, slope, smoothing):
    """`‖W_{l+1}[:, j]‖² - ‖W_l[j, :]‖²/p`: its output weights and its input weights.

    Smoothing ties the neurons of a layer together through the norm of the layer's input,
    which leaves the balance of whole layers.
    """
    network, task = teacher_task(
        sizes=(4, 5, 3, 1), power=power, slope=slope, smoothing=smoothing
    )
    axes = (1, 2) if smoothing else (1,)

    def balances(ensemble):
        for lower, upper in zip(ensemble.weights[:-1], ensemble.weights[1:]):
            inner = jnp.swapaxes(lower, 1, 2) ** 2
            yield jnp.sum(upper**2, axes) - jnp.sum(inner, axes) / power

    # A kink costs the solver its order, so kinked networks get a tolerance to match.
    accuracy = 1e-6 if power == 1 and not smoothing else 1e-8
    for name, before, after in _flows(network, task, **TIGHT):
        for start, end in zip(balances(before), balances(after)):
            np.testing.assert_allclose(end, start, atol=accuracy, err_msg=name)
