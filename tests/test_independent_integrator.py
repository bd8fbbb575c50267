"""Final weights against scipy's DOP853 on the plain flow in physical time.

Without kinks: there DOP853 at its tolerance takes minutes for one member.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import jaxflow as jf

END = 1.5


def _loss(name, outputs, targets):
    """The losses once more, written out."""
    if name == "square":
        return 0.5 * jnp.sum((outputs - targets) ** 2)
    if name == "logistic":
        return jnp.sum(jnp.log1p(jnp.exp(-targets * outputs)))
    if name == "exponential":
        return jnp.sum(jnp.exp(-targets * outputs))
    picked = jnp.take_along_axis(outputs, targets[:, None], axis=1)
    return jnp.sum(jax.nn.logsumexp(outputs, axis=1)) - jnp.sum(picked)


def _reference(network, scale, inputs, targets, loss):
    parameters, structure = eqx.partition(network, eqx.is_inexact_array)
    start, unravel = ravel_pytree(parameters)

    @jax.jit
    def velocity(w):
        def total(w):
            return _loss(
                loss, jax.vmap(eqx.combine(unravel(w), structure))(inputs), targets
            )

        return -jax.grad(total)(w)

    solution = solve_ivp(
        lambda t, w: np.asarray(velocity(w)),
        (0.0, END),
        scale * np.asarray(start),
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    )
    assert solution.success
    return solution.y[:, -1]


def _networks():
    key = jax.random.key(3)
    smooth = jf.LeakyReLU(0.3, 1, smoothing=0.3)
    return {
        "power 2": jf.FeedForward((4, 5, 5, 2), jf.LeakyReLU(0.5, 2), key=key),
        "power 3": jf.FeedForward((4, 4, 2), jf.LeakyReLU(0.0, 3), key=key),
        "linear": jf.FeedForward((4, 5, 5, 2), jf.LeakyReLU(1.0), key=key),
        "smoothed": jf.FeedForward((4, 5, 5, 2), smooth, key=key),
        "convolutional": jf.ConvNet(
            (1, 4), (2,), 2, jf.LeakyReLU(0.5, 2), kernel_size=2, key=key
        ),
        "diagonal": jf.DiagonalLinear(3, 4, 2, key=key),
        "with biases": eqx.nn.MLP(4, 2, 5, 1, activation=jax.nn.softplus, key=key),
    }


CASES = [
    ("power 2", loss) for loss in ("square", "logistic", "exponential", "cross_entropy")
]
CASES += [("power 3", "logistic"), ("linear", "exponential")]
CASES += [("smoothed", "cross_entropy"), ("convolutional", "logistic")]
CASES += [("diagonal", "square"), ("with biases", "cross_entropy")]


@pytest.mark.parametrize("name, loss", CASES)
def test_final_weights(name, loss):
    network = _networks()[name]
    inputs = jax.random.normal(jax.random.key(1), (8, 4))
    if name == "convolutional":
        inputs = inputs[:, None, :]
    targets = {
        "square": jax.random.normal(jax.random.key(2), (8, 2)),
        "cross_entropy": jnp.arange(8) % 2,
    }.get(loss, jnp.where(jax.random.normal(jax.random.key(2), (8, 2)) > 0, 1.0, -1.0))
    start = jf.sample_ensemble(network, 1, key=jax.random.key(4))
    start = jax.tree_util.tree_map(lambda x: x[0] if eqx.is_array(x) else x, start)
    # The exponential loss of a wrong sign is stiff at larger weights.
    scale = 1.2 if loss == "exponential" else 1.7
    expected = _reference(start, scale, inputs, targets, loss)
    moved = expected - scale * np.asarray(ravel_pytree(eqx.filter(start, eqx.is_array))[0])
    assert np.linalg.norm(moved) > 0.03
    task = jf.Task(inputs, targets, loss=loss)
    homogeneous = name != "with biases"
    for coordinates in ("polar", "cartesian") if homogeneous else ("auto",):
        solution = jf.gradient_flow(
            start,
            task,
            scale=scale,
            stop=jf.Time(END),
            solver=diffrax.Dopri8(),
            rtol=1e-10,
            atol=1e-12,
            coordinates=coordinates,
        )
        found = ravel_pytree(eqx.filter(solution.networks, eqx.is_array))[0]
        np.testing.assert_allclose(found, expected, atol=1e-7, err_msg=coordinates)
        assert solution.status == "Time"
