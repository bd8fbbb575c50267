"""Members whose loss is no number."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf

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


STEPS = {
    "Tsit5": {},
    "Heun": {"solver": diffrax.Heun()},  # never evaluates the end of a step
    "auto": {"solver": "auto"},
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
        network, ONE, coordinates=coordinates, stop=jf.RescaledTime(1.0), progress=False
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
        wrong, task, stop=jf.LossBelow(1e3), coordinates="polar", progress=False
    )
    assert found.status == "LossBelow" and found.loss <= 1e3
