"""Members whose loss is no number, and members whose weights are all zero."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf
from jaxflow import flows

from .problems import TSIT5

ONE = jf.Task(jnp.ones(1), jnp.ones(1))


class Walled(eqx.Module):
    """`H(x; w) = w₀ w₁ x`, and NaN where `w₀ > 0.5`: there its derivative is zero."""

    w: jax.Array

    def __call__(self, x):
        return jnp.where(self.w[0] > 0.5, jnp.nan, self.w[0] * self.w[1] * x)


class WalledCone(eqx.Module):
    """`H(x; w) = w₀³ w₁ x`, and NaN where `w₀ > 1.5 w₁` and all weights are positive.

    Random weights, at which the order is measured, are hardly ever there.
    """

    w: jax.Array

    def __call__(self, x):
        inside = (self.w[0] > 1.5 * self.w[1]) & jnp.all(self.w > 0)
        return jnp.where(inside, jnp.nan, self.w[0] ** 3 * self.w[1] * x)


class LogLoss(jf.AbstractLoss):
    """`-log ŷ`, which is NaN at a negative output where its derivative is finite."""

    def __call__(self, prediction, target):
        return jnp.sum(target * prediction - jnp.log(prediction))


TOLERANCES = {"rtol": 1e-6, "atol": 1e-9}  # a wall is a kink, for which they are looser
STEPS = {
    "Tsit5": {**TSIT5, **TOLERANCES},
    "Heun": {"solver": diffrax.Heun(), **TOLERANCES},  # never evaluates the end of a step
    "auto": {"solver": "auto", **TOLERANCES},
    "Euler": {
        "stepping": jf.Stepping(
            diffrax.Euler(), controller=diffrax.ConstantStepSize(), dt0=0.1
        )
    },
}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("stop", [jf.RescaledTime(20.0), jf.LossBelow(1e-8)])
def test_outputs_that_turn_nan_end_a_member(steps, stop):
    """Along `w₀ = w₁ = w` the flow `w' = (1 - w²) w` comes to the wall at `w = 0.5`."""
    network = Walled(jnp.array([0.3, 0.3]))
    found = jf.gradient_flow(network, ONE, stop=stop, progress=False, **STEPS[steps])
    assert found.status == "non_finite"
    if steps == "Euler":  # steps over the wall, and cannot be told to make a shorter step
        assert np.isnan(found.loss)
        return
    np.testing.assert_allclose(found.networks.w, 0.5, rtol=1e-7)
    np.testing.assert_allclose(found.loss, (1 - 0.25) ** 2 / 2, rtol=1e-7)
    # 2 t = log(w²/(1 - w²)) - log(w₀²/(1 - w₀²))
    odds = lambda w: np.log(w**2 / (1 - w**2))
    np.testing.assert_allclose(found.rescaled_time, (odds(0.5) - odds(0.3)) / 2, rtol=1e-6)


@pytest.mark.parametrize("coordinates", ["polar", "block_polar", "limit"])
def test_outputs_that_turn_nan_end_a_member_in_polar_coordinates(coordinates):
    """`w₀² - 3 w₁²` is conserved, so that the wall is met at `w₁² = 0.24`."""
    network = WalledCone(jnp.array([0.3, 0.3, *8 * [0.1]]))
    if coordinates == "limit":
        found = jf.ncf_flow(network, ONE, progress=False)
    else:
        found = jf.gradient_flow(
            network, ONE, coordinates=coordinates, stop=jf.LossBelow(1e-8), progress=False
        )
    assert found.status == "non_finite"
    assert np.isfinite(found.loss) and found.stats.num_steps < 1000
    # 2.25 w₁² - 3 w₁² = 0.09 - 0.27
    np.testing.assert_allclose(found.networks.w[1], np.sqrt(0.24), rtol=1e-6)


@pytest.mark.parametrize("coordinates", ["polar", "cartesian"])
def test_outputs_that_are_nan_at_the_start(coordinates):
    network = WalledCone(jnp.array([0.9, 0.3, *8 * [0.1]]))
    found = jf.gradient_flow(
        network,
        ONE,
        coordinates=coordinates,
        stop=jf.RescaledTime(1.0),
        progress=False,
        **TSIT5,
    )
    assert found.status == "non_finite" and np.isnan(found.loss)
    assert found.stats.num_steps == 0


def test_a_loss_may_be_nan_where_its_derivative_is_not():
    """`w' = 1/w - y` from either side of zero; on the other side there is no loss."""
    network = jf.FeedForward((1, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    ensemble = eqx.tree_at(lambda n: n.weights, network, (jnp.array([[[0.5]], [[-0.5]]]),))
    task = jf.Task(jnp.ones((1, 1)), jnp.ones(1), loss=LogLoss())
    found = jf.gradient_flow(
        ensemble,
        task,
        stop=jf.Time(30.0),
        coordinates="cartesian",
        ensemble=True,
        progress=False,
        **TSIT5,
    )
    assert found.status.tolist() == ["Time", "non_finite"]
    np.testing.assert_allclose(found.networks.weights[0][0, 0, 0], 1.0, rtol=1e-6)


def test_the_last_update_may_be_the_one_that_leads_to_nan():
    found = [
        jf.gradient_descent(
            Walled(jnp.array([0.45, 0.45])),
            ONE,
            optimizer=optax.sgd(0.5),
            num_steps=num,
            progress=False,
        )
        for num in (1, 3)
    ]
    assert [str(one.status) for one in found] == ["non_finite"] * 2
    assert [int(one.stats.num_accepted) for one in found] == [1, 1]


def test_a_loss_that_overflows_at_the_start_only():
    """With an exponential tail the flow goes by the logarithm of the loss."""
    network = jf.DiagonalLinear(2, 1, key=jax.random.key(0))
    wrong = eqx.tree_at(
        lambda n: n.factors, network, (jnp.full((1, 1), 2.0), jnp.full((1, 1), 1.0))
    )
    task = jf.Task(jnp.array([[-1000.0]]), jnp.ones(1), loss="exponential")
    assert np.isinf(jf.loss(wrong, task))
    found = jf.gradient_flow(
        wrong,
        task,
        stop=jf.LossBelow(1e3),
        coordinates="polar",
        progress=False,
        **TSIT5,
    )
    assert found.status == "LossBelow" and found.loss <= 1e3


# -- zero weights --

INPUTS = jax.random.normal(jax.random.key(1), (10, 3))
TASK = jf.Task(INPUTS, jnp.sin(INPUTS[:, 0]))
AT_ZERO = float(jnp.sum(TASK.targets**2) / 2)


def with_zero(network, num=3):
    """An ensemble of which member 1 is zero."""
    ensemble = jf.sample_ensemble(network, num, key=jax.random.key(2))
    return jax.tree_util.tree_map(
        lambda w: w.at[1].set(0.0) if eqx.is_array(w) else w, ensemble
    )


NETWORKS = {
    "order 3": jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0)),
    "order 2": jf.DiagonalLinear(2, 3, key=jax.random.key(0)),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("coordinates", ["auto", "block_polar"])
def test_zero_weights_stay_where_they_are(network, coordinates):
    """And end as was asked, beside others that are not disturbed."""
    ensemble = with_zero(NETWORKS[network])
    settings = {
        "stop": jf.RescaledTime(2.0),
        "record": {"norm": jf.norm},
        "record_at": [0.0, 1.0],
        "rtol": 1e-8,
        "atol": 1e-11,
        "progress": False,
        **TSIT5,
    }
    found = jf.gradient_flow(ensemble, TASK, coordinates=coordinates, **settings)
    plain = jf.gradient_flow(ensemble, TASK, coordinates="cartesian", **settings)
    assert set(found.status) == {"RescaledTime"}
    np.testing.assert_allclose(found.loss, plain.loss, rtol=1e-5)
    np.testing.assert_allclose(found.loss[1], AT_ZERO, rtol=1e-12)
    np.testing.assert_allclose(found.log_norm, plain.log_norm, rtol=1e-5)
    np.testing.assert_allclose(found.rescaled_time, 2.0, rtol=1e-12)
    assert np.isneginf(found.log_norm[1])
    assert not np.any(jf.norm(found[1].networks))
    np.testing.assert_allclose(
        found.records.values["norm"], plain.records.values["norm"], rtol=1e-4
    )


def test_zero_weights_are_stationary_and_tell_time():
    zero = jax.tree_util.tree_map(
        lambda w: 0 * w if eqx.is_array(w) else w, NETWORKS["order 3"]
    )
    at_once = jf.gradient_flow(
        zero, TASK, stop=jf.Stationary(1e-6), progress=False, **TSIT5
    )
    assert at_once.status == "Stationary" and at_once.stats.num_steps == 0
    late = jf.gradient_flow(
        zero, TASK, scale=1e-6, stop=jf.LogTime(40.0), progress=False, **TSIT5
    )
    assert late.status == "LogTime" and late.log_time == pytest.approx(40.0, rel=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
def test_zero_weights_with_margins(loss):
    """`n log 2` on both clocks, that of losses with an exponential tail among them."""
    labels = jnp.where(INPUTS[:, 0] > 0, 1, 0 if loss == "cross_entropy" else -1)
    outputs = 2 if loss == "cross_entropy" else 1
    network = jf.FeedForward((3, 4, outputs), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
    zero = jax.tree_util.tree_map(lambda w: 0 * w if eqx.is_array(w) else w, network)
    found = jf.gradient_flow(
        zero,
        jf.Task(INPUTS, labels, loss=loss),
        stop=jf.RescaledTime(1.0),
        progress=False,
        **TSIT5,
    )
    assert found.status == "RescaledTime"
    np.testing.assert_allclose(found.loss, 10 * np.log(2), rtol=1e-12)


def linear():
    """A linear map `H(x; w) = ⟨w, x⟩`: order one."""
    network = jf.FeedForward((3, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    return with_zero(network)


def test_zero_weights_of_order_one_leave():
    """Least squares from zero: `w(t) = (1 - e^(-At)) w*`, `A = Xᵀ X`."""
    found = jf.gradient_flow(linear(), TASK, stop=jf.Time(0.1), progress=False, **TSIT5)
    x, y = np.asarray(INPUTS), np.asarray(TASK.targets)
    values, vectors = np.linalg.eigh(x.T @ x)
    best = np.linalg.solve(x.T @ x, x.T @ y)
    expected = vectors @ ((1 - np.exp(-0.1 * values)) * (vectors.T @ best))
    weights = np.asarray(found.networks.weights[0])[1, 0]
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    np.testing.assert_allclose(
        found.loss[1], np.sum((x @ expected - y) ** 2) / 2, rtol=1e-6
    )
    assert found.settings["flow_coordinates"] == "cartesian"


@pytest.mark.parametrize("coordinates", ["polar", "block_polar"])
def test_zero_weights_of_order_one_have_no_direction_to_leave_in(coordinates):
    with pytest.raises(jf.InputError, match=r"weights are all zero; .*cartesian"):
        jf.gradient_flow(linear(), TASK, stop=jf.Time(1.0), coordinates=coordinates)


def test_zero_weights_that_nobody_saw_coming():
    """From an iterator, as its second network: no numbers rather than wrong ones."""
    members = [jf.networks.member(linear(), row) for row in (0, 1)]
    found = jf.gradient_flow(
        iter(members), TASK, stop=jf.Time(0.1), progress=False, **TSIT5
    )
    assert found.status.tolist() == ["Time", "non_finite"]


def test_the_limit_of_zero_weights_has_no_direction():
    ensemble = with_zero(NETWORKS["order 3"])
    for asks in (jf.ncf_flow, jf.find_kkt, jf.verify_early_convergence):
        with pytest.raises(jf.InputError, match=r"networks: .*weights are all zero"):
            asks(ensemble, TASK)


def test_zero_weights_in_steps_of_descent():
    """`w ← w + η Xᵀ(y - Xw)` from zero for order one; nothing for order three."""
    descend = lambda networks: jf.gradient_descent(
        networks, TASK, optimizer=optax.sgd(0.01), num_steps=3, progress=False
    )
    still, moved = descend(with_zero(NETWORKS["order 3"])), descend(linear())
    assert set(still.status) == set(moved.status) == {"NumSteps"}
    np.testing.assert_allclose(still.loss[1], AT_ZERO, rtol=1e-12)
    x, y, w = np.asarray(INPUTS), np.asarray(TASK.targets), np.zeros(3)
    for _ in range(3):
        w = w + 0.01 * x.T @ (y - x @ w)
    np.testing.assert_allclose(moved.networks.weights[0][1, 0], w, rtol=1e-12)


def test_a_block_of_zeros_beside_one_below_the_range_of_floats():
    """What has no size does not count as the largest block. `w = e^(-800) (1, 1)/√2, 0`."""
    network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
    task = jf.Task(jnp.eye(2), jnp.ones(2)).astype(float)
    flow = flows.block_polar_flow(network, task, 2, np.array([0, 1, 0, 1]))
    half = np.sqrt(0.5)
    zero = jnp.zeros(())
    state = flows.BlockPolarState(
        jnp.array([half, 0.0, half, 0.0]), jnp.array([-800.0, 0.0]), zero, zero
    )
    velocity = flow.vector_field(zero, state, zero)
    shown = flow.snapshot(zero, state, velocity, zero)
    np.testing.assert_allclose(shown.log_norm, -800.0, rtol=1e-12)
    np.testing.assert_allclose(shown.loss, 1.0)
    # H = w₁ w₂ x, y = 1: the log-norm grows at the rate one, and nothing turns.
    np.testing.assert_allclose(velocity.log_growths, [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(velocity.direction, 0.0, atol=1e-12)
    np.testing.assert_allclose(shown.gradient_norm, 1.0, rtol=1e-12)
