"""The measured order of homogeneity, and networks that have none."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

from .filled import filled

KEY = jax.random.key(0)
RELU = jf.LeakyReLU()
LINEAR = jf.LeakyReLU(slope=1)


def feed_forward(sizes, activation=RELU, dtype=None):
    return filled(lambda: jf.FeedForward(sizes, activation, key=KEY, dtype=dtype))


def mlp(**options):
    return filled(lambda: eqx.nn.MLP(3, 1, 4, 2, key=KEY, **options))


class Bare(eqx.Module):
    """A module that says nothing of its input shape: `function(weight, x)`."""

    weight: jax.Array
    function: object = eqx.field(static=True)

    def __call__(self, x):
        return self.function(self.weight, x)


def bare(function, shape=(2, 3)):
    return Bare(jnp.asarray(np.ones(shape)), function)


class ThreeBranches(eqx.Module):
    """`H(x) = A B x + (w₁ ⊙ w₂) x + (C x) (D x)`."""

    deep: eqx.Module
    diagonal: eqx.Module
    left: eqx.nn.Linear
    right: eqx.nn.Linear

    def __call__(self, x):
        return self.deep(x) + self.diagonal(x) + self.left(x) * self.right(x)


def three_branches(deep_sizes=(3, 4, 1), depth=2, use_bias=False):
    return filled(
        lambda: ThreeBranches(
            jf.FeedForward(deep_sizes, LINEAR, key=KEY),
            jf.DiagonalLinear(depth, 3, key=KEY),
            eqx.nn.Linear(3, 1, use_bias=use_bias, key=KEY),
            eqx.nn.Linear(3, 1, use_bias=False, key=KEY),
        )
    )


@pytest.mark.parametrize(
    ("depth", "slope", "power", "smoothing", "dtype"),
    [
        (1, 0.0, 1, 0.0, jnp.float64),
        (2, 0.0, 1, 0.0, jnp.float64),
        (4, 0.5, 1, 0.0, jnp.float64),
        (3, 1.0, 1, 0.0, jnp.float64),
        (3, 0.5, 1, 0.05, jnp.float64),
        (3, 0.5, 2, 0.0, jnp.float64),
        (3, 0.5, 3, 0.0, jnp.float64),
        (4, 0.5, 1, 0.0, jnp.float32),
        (3, 0.5, 3, 0.0, jnp.float32),
        (3, 0.0, 2, 0.05, jnp.float32),
    ],
)
def test_order_of_feed_forward(depth, slope, power, smoothing, dtype):
    sizes = (*(3, 4, 4, 4)[:depth], 1)
    network = feed_forward(sizes, jf.LeakyReLU(slope, power, smoothing), dtype)
    expected = sum(power ** (depth - l) for l in range(1, depth + 1))
    found = jf.order(network)
    assert found == expected
    assert isinstance(found, int)


@pytest.mark.parametrize(("power", "smoothing"), [(1, 0.0), (2, 0.1)])
def test_order_of_conv_net(power, smoothing):
    activation = jf.LeakyReLU(0.5, power, smoothing)
    network = filled(lambda: jf.ConvNet((1, 4, 4), (2, 2), 2, activation, key=KEY))
    assert jf.order(network) == 1 + power + power**2


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_order_of_diagonal_linear_is_its_depth(depth):
    assert jf.order(filled(lambda: jf.DiagonalLinear(depth, 3, 2, key=KEY))) == depth


# A bias is a parameter like others: (C x + b) (D x) is of order two.
@pytest.mark.parametrize("use_bias", [False, True])
def test_order_of_branches_of_one_order(use_bias):
    assert jf.order(three_branches(use_bias=use_bias)) == 2


@pytest.mark.parametrize(
    "options",
    [{"deep_sizes": (3, 4, 4, 1)}, {"depth": 3}],
    ids=["deeper branch", "more factors"],
)
def test_branches_of_different_orders_are_refused(options):
    with pytest.raises(jf.NotHomogeneousError) as caught:
        jf.order(three_branches(**options))
    assert caught.value.argument == "network"
    assert caught.value.discrepancy > 1e-3


# Simple fractions come out exactly, also where rounding blurs what is measured.
@pytest.mark.parametrize(
    ("power", "dtype", "error"),
    [
        (0.5, jnp.float64, 0.0),
        (0.5, jnp.float32, 0.0),
        (1.3, jnp.float32, 0.0),
        (2**-0.5, jnp.float64, 1e-9),
    ],
)
def test_order_need_not_be_whole(power, dtype, error):
    def activation(z):
        return jnp.sign(z) * jnp.abs(z) ** power

    found = jf.order(feed_forward((3, 4, 1), activation, dtype))
    assert isinstance(found, float)
    assert abs(found - (1 + power)) <= error


def test_order_of_equinox_mlp_without_biases():
    network = mlp(activation=jax.nn.relu, use_bias=False, use_final_bias=False)
    assert jf.order(network) == 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_bias": False},
        {"use_final_bias": False},
        {"activation": jax.nn.softplus, "use_bias": False, "use_final_bias": False},
    ],
    ids=["biases", "last bias", "hidden biases", "softplus"],
)
def test_mlp_that_is_not_homogeneous_is_refused(options):
    with pytest.raises(jf.NotHomogeneousError) as caught:
        jf.order(mlp(**options))
    assert caught.value.discrepancy > 1e-3


def test_biases_that_happen_to_be_zero_are_refused():
    network = mlp()
    zeros = [jnp.asarray(np.zeros(layer.bias.shape)) for layer in network.layers]
    unbiased = eqx.tree_at(lambda n: [layer.bias for layer in n.layers], network, zeros)
    with pytest.raises(jf.NotHomogeneousError):
        jf.order(unbiased)


def test_network_that_only_obeys_euler_is_refused():
    # ⟨w, ∇H⟩ = H wherever H is smooth, but H(x; 2 w) may be 6 H(x; w).
    def jumps(w, x):
        size = jnp.sum(w**2)
        return jnp.where(size > 2.0, 3.0, 1.0) * (w @ x)

    with pytest.raises(jf.NotHomogeneousError) as caught:
        jf.order(bare(jumps))
    assert caught.value.discrepancy > 1e-3


def test_network_that_only_scales_by_two_is_refused():
    # H(x; 2 w) = 2 H(x; w), but not H(x; 3 w) = 3 H(x; w) in the last output.
    def ripples(w, x):
        turns = jnp.log2(jnp.linalg.norm(w))
        ripple = 1 + 0.5 * jnp.sin(2 * jnp.pi * turns)
        return jnp.stack([jnp.ones_like(ripple), jnp.ones_like(ripple), ripple]) * (w @ x)

    with pytest.raises(jf.NotHomogeneousError) as caught:
        jf.order(bare(ripples, (3, 3)))
    assert caught.value.discrepancy > 1e-3


# What the check can see: relative discrepancies down to √eps.
@pytest.mark.parametrize(
    ("dtype", "seen", "unseen"), [(jnp.float64, 1e-6, 1e-10), (jnp.float32, 1e-2, 1e-5)]
)
def test_sensitivity_to_a_small_bias(dtype, seen, unseen):
    def shifted(size):
        one = jnp.asarray(np.ones((2, 3)), dtype)
        return Bare(one, lambda w, x: w @ x + size)

    with pytest.raises(jf.NotHomogeneousError) as caught:
        jf.order(shifted(seen))
    assert 0.05 * seen < caught.value.discrepancy < 20 * seen
    assert jf.order(shifted(unseen)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_relu_network_that_is_mostly_zero_has_its_order(seed):
    assert jf.order(feed_forward((3, 1, 1, 1, 1)), seed=seed) == 4


def test_inputs_may_be_given():
    inputs = np.random.default_rng(0).standard_normal((20, 3))
    assert jf.order(feed_forward((3, 4, 1)), inputs) == 2


@pytest.mark.parametrize(
    "function",
    [lambda w, x: 0 * (w @ x), lambda w, x: jax.nn.relu(-jnp.abs(w @ x))],
    ids=["times zero", "dead"],
)
def test_network_that_is_zero_everywhere_is_refused(function):
    with pytest.raises(jf.InputError, match="zero") as caught:
        jf.order(bare(function))
    assert caught.value.argument == "network"
    assert not isinstance(caught.value, jf.NotHomogeneousError)


def test_network_with_outputs_that_are_nan_is_refused():
    with pytest.raises(jf.InputError, match="NaN") as caught:
        jf.order(bare(lambda w, x: jnp.sqrt(w @ x)))
    assert caught.value.argument == "network"


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: jnp.sum(w) * jnp.sum(x)[None],
        lambda w, x: w @ jnp.sum(x, axis=(1, 2)),
    ],
    ids=["any length", "images"],
)
def test_inputs_are_asked_for_where_their_shape_cannot_be_guessed(function):
    with pytest.raises(jf.InputError) as caught:
        jf.order(bare(function))
    assert caught.value.argument == "inputs"


def test_input_shape_that_cannot_be_guessed_may_be_given():
    images = np.random.default_rng(0).standard_normal((4, 3, 2, 2))
    assert jf.order(bare(lambda w, x: w @ jnp.sum(x, axis=(1, 2))), images) == 1


def test_module_without_parameters_is_refused():
    with pytest.raises(jf.InputError) as caught:
        jf.order(eqx.nn.Identity())
    assert caught.value.argument == "network"
