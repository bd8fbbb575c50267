"""The shipped networks against plain NumPy, and ensembles on the unit sphere."""

import pickle

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import jaxflow as jf
from jaxflow.networks import member_key, member_numbers

from .filled import filled


def rounded(z, slope, smoothing, radius_squared):
    root = np.sqrt(z**2 + smoothing**2 * radius_squared)
    return slope * z + (1 - slope) * (z + root) / 2


def feed_forward(weights, x, slope, power, smoothing=0.0):
    h = x
    for weight in weights[:-1]:
        z = weight @ h
        radius_squared = np.sum(weight**2, axis=1) * np.sum(h**2) / len(h)
        h = rounded(z, slope, smoothing, radius_squared) ** power
    return weights[-1] @ h


def correlate(kernel, h, stride, padding):
    """`Σ_c kernel[o, c] ⋆ h[c]` for every output channel `o`."""
    space = h.shape[1:]
    size = kernel.shape[-1]
    pads = [(0, 0)]
    for length in space:
        needed = (-(-length // stride) - 1) * stride + size - length
        total = max(needed, 0) if padding == "SAME" else 0
        pads.append((total // 2, total - total // 2))
    padded = np.pad(h, pads)
    every = (slice(None, None, stride),) * len(space)
    return np.stack(
        [
            sum(
                scipy.signal.correlate(channel, window, mode="valid", method="direct")
                for channel, window in zip(padded, windows)
            )[every]
            for windows in kernel
        ]
    )


def convolutional(network, x, slope, power, smoothing):
    h = x
    for kernel in map(np.asarray, network.kernels):
        z = correlate(kernel, h, network.stride, network.padding)
        window = correlate(np.ones_like(kernel[:1]), h**2, network.stride, network.padding)
        row = np.sum(kernel.reshape(len(kernel), -1) ** 2, axis=1)
        row = row.reshape(-1, *([1] * (z.ndim - 1)))
        radius_squared = row * window / kernel[0].size
        h = rounded(z, slope, smoothing, radius_squared) ** power
    return np.asarray(network.readout) @ h.reshape(-1)


def sample(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def parameters(network):
    return jax.tree_util.tree_leaves(eqx.filter(network, eqx.is_inexact_array))


KEY = jax.random.key(0)
SHIPPED = {
    "FeedForward": lambda dtype=None: jf.FeedForward(
        (3, 4, 2), jf.LeakyReLU(), key=KEY, dtype=dtype
    ),
    "ConvNet": lambda dtype=None: jf.ConvNet(
        (1, 4, 3), (2, 2), 2, jf.LeakyReLU(), key=KEY, dtype=dtype
    ),
    "DiagonalLinear": lambda dtype=None: jf.DiagonalLinear(3, 4, 2, key=KEY, dtype=dtype),
    "MLP": lambda dtype=None: eqx.nn.MLP(3, 2, 4, 2, key=KEY, dtype=dtype),
}
call = eqx.filter_jit(lambda network, x: network(x))
sample_ensemble = eqx.filter_jit(jf.sample_ensemble)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("slope", [0, 0.5, 1])
def test_feed_forward_is_its_formula(slope, power, depth):
    sizes = (*(3, 4, 4, 4)[:depth], 2)
    activation = jf.LeakyReLU(slope, power)
    network = filled(lambda: jf.FeedForward(sizes, activation, key=KEY))
    x = sample(3)
    weights = [np.asarray(w) for w in network.weights]
    assert [w.shape for w in weights] == list(zip(sizes[1:], sizes[:-1]))
    expected = feed_forward(weights, x, slope, power)
    np.testing.assert_allclose(network(jnp.asarray(x)), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.03, 1.0])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_smoothed_feed_forward_is_its_formula(slope, power, smoothing):
    activation = jf.LeakyReLU(slope, power, smoothing)
    network = filled(lambda: jf.FeedForward((3, 4, 4, 2), activation, key=KEY))
    x = sample(3)
    weights = [np.asarray(w) for w in network.weights]
    expected = feed_forward(weights, x, slope, power, smoothing)
    np.testing.assert_allclose(network(jnp.asarray(x)), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [1e-1, 1e-3, 1e-6])
def test_smoothing_moves_a_network_by_at_most_half_the_radius(smoothing):
    slope, x = 0.2, sample(3)

    def outputs(smoothing):
        activation = jf.LeakyReLU(slope, smoothing=smoothing)
        network = filled(lambda: jf.FeedForward((3, 4, 2), activation, key=KEY))
        return network, np.asarray(network(jnp.asarray(x)))

    network, kinked = outputs(0.0)
    first, last = map(np.asarray, network.weights)
    radius = np.linalg.norm(first, axis=1) * np.linalg.norm(x) / np.sqrt(3)
    bound = np.abs(last) @ ((1 - slope) * smoothing * radius / 2)
    moved = np.abs(outputs(smoothing)[1] - kinked)
    assert np.all((moved > 0) & (moved <= bound))


def test_activation_without_a_radius_keeps_its_kink():
    z = np.linspace(-2, 2, 4)
    found = jf.LeakyReLU(0.5, 2, smoothing=0.3)(jnp.asarray(z))
    np.testing.assert_allclose(found, np.maximum(z, 0.5 * z) ** 2, rtol=1e-15)


def _zero_row(network):
    first = np.array(network.weights[0])
    first[1] = 0.0
    return eqx.tree_at(lambda n: n.weights[0], network, jnp.asarray(first))


def _zero_network(network):
    return jax.tree_util.tree_map(lambda w: jnp.asarray(np.zeros(w.shape)), network)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_finite_where_the_radius_vanishes(smoothing, power):
    activation = jf.LeakyReLU(0.5, power, smoothing)
    network = filled(lambda: jf.FeedForward((3, 4, 4, 2), activation, key=KEY))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda n, x: jnp.sum(n(x))))
    cases = [
        (network, np.zeros(3)),
        (_zero_row(network), np.ones(3)),
        (_zero_network(network), np.ones(3)),
    ]
    for spoilt, x in cases:
        for array in parameters(gradient(spoilt, jnp.asarray(x))):
            assert np.all(np.isfinite(array))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(
    ("input_shape", "channels", "kernel_size", "stride", "padding"),
    [
        ((2, 6, 5), (3, 2), 3, 1, "SAME"),
        ((2, 6, 5), (3, 2), 2, 1, "VALID"),
        ((1, 7, 8), (2,), 3, 2, "VALID"),
        ((1, 6, 7), (2, 3), 2, 3, "SAME"),
        ((2, 9), (3, 2), 3, 2, "SAME"),
    ],
)
def test_conv_net_is_its_formula(
    input_shape, channels, kernel_size, stride, padding, smoothing
):
    network = filled(
        lambda: jf.ConvNet(
            input_shape,
            channels,
            2,
            jf.LeakyReLU(0.5, 2, smoothing),
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            key=KEY,
        )
    )
    x = sample(input_shape)
    expected = convolutional(network, x, 0.5, 2, smoothing)
    found = call(network, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("out_size", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_diagonal_linear_is_its_formula(depth, out_size):
    network = filled(lambda: jf.DiagonalLinear(depth, 4, out_size, key=KEY))
    x = sample(4)
    factors = np.stack([np.asarray(factor) for factor in network.factors])
    assert factors.shape == (depth, out_size, 4)
    expected = np.prod(factors, axis=0) @ x
    np.testing.assert_allclose(network(jnp.asarray(x)), expected, rtol=1e-13)


@pytest.mark.parametrize("kind", SHIPPED)
def test_one_sample_gives_one_vector_of_outputs(kind):
    network = filled(SHIPPED[kind])
    batch = sample((3, *getattr(network, "input_shape", (3,))))
    each = [np.asarray(call(network, jnp.asarray(x))) for x in batch]
    assert each[0].shape == (2,)
    together = call(jax.vmap(network), jnp.asarray(batch))
    np.testing.assert_allclose(together, each, rtol=1e-12)


@pytest.mark.parametrize("kind", ["FeedForward", "ConvNet", "DiagonalLinear"])
def test_sample_of_another_shape_is_refused(as_users_have_it, kind):
    network = filled(SHIPPED[kind])
    with pytest.raises(jf.InputError) as caught:
        network(np.ones((5, *network.input_shape)))
    assert caught.value.argument == "x"


@pytest.mark.parametrize("kind", SHIPPED)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_weights_have_the_asked_dtype(kind, dtype):
    shapes = jax.tree_util.tree_leaves(eqx.filter_eval_shape(SHIPPED[kind], dtype))
    found = {leaf.dtype for leaf in shapes if isinstance(leaf, jax.ShapeDtypeStruct)}
    assert found == {jnp.dtype(dtype)}


def test_weights_are_drawn_with_variance_one_over_fan_in():
    network = jf.FeedForward((50, 2000), jf.LeakyReLU(), key=KEY)
    np.testing.assert_allclose(np.var(np.asarray(network.weights[0])), 1 / 50, rtol=0.02)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("slope", lambda: jf.LeakyReLU(-0.1)),
        ("slope", lambda: jf.LeakyReLU(1.5)),
        ("slope", lambda: jf.LeakyReLU(float("nan"))),
        ("power", lambda: jf.LeakyReLU(power=0)),
        ("power", lambda: jf.LeakyReLU(power=1.5)),
        ("power", lambda: jf.LeakyReLU(power=float("nan"))),
        ("power", lambda: jf.LeakyReLU(power=float("inf"))),
        ("smoothing", lambda: jf.LeakyReLU(smoothing=-0.1)),
        ("smoothing", lambda: jf.LeakyReLU(smoothing=float("inf"))),
        ("sizes", lambda: jf.FeedForward((3,), jf.LeakyReLU(), key=KEY)),
        ("sizes", lambda: jf.FeedForward((3, 0, 1), jf.LeakyReLU(), key=KEY)),
        ("sizes", lambda: jf.FeedForward((3, 2.5, 1), jf.LeakyReLU(), key=KEY)),
        ("activation", lambda: jf.FeedForward((3, 1), "relu", key=KEY)),
        ("input_shape", lambda: _conv_net(input_shape=(8,))),
        ("input_shape", lambda: _conv_net(input_shape=(1, 0))),
        ("input_shape", lambda: _conv_net(input_shape=(1, 2), padding="VALID")),
        ("padding", lambda: _conv_net(padding="FULL")),
        ("channels", lambda: _conv_net(channels=())),
        ("stride", lambda: _conv_net(stride=0)),
        ("depth", lambda: jf.DiagonalLinear(0, 3, key=KEY)),
    ],
)
def test_constructors_refuse_what_they_cannot_build(as_users_have_it, argument, make):
    with pytest.raises(jf.InputError) as caught:
        eqx.filter_eval_shape(make)
    assert caught.value.argument == argument


def _conv_net(input_shape=(1, 8), channels=(2,), **options):
    return jf.ConvNet(input_shape, channels, 1, jf.LeakyReLU(), key=KEY, **options)


@pytest.mark.parametrize("kind", SHIPPED)
def test_ensemble_members_have_unit_norm_over_all_parameters(kind):
    network = filled(SHIPPED[kind])
    ensemble = sample_ensemble(network, 5, key=jax.random.key(1))
    assert isinstance(ensemble, type(network))
    for old, new in zip(parameters(network), parameters(ensemble), strict=True):
        assert new.shape == (5, *old.shape)
    squares = [
        np.sum(np.asarray(array).reshape(5, -1) ** 2, axis=1)
        for array in parameters(ensemble)
    ]
    np.testing.assert_allclose(sum(squares), 1.0, rtol=1e-14)


def test_ensemble_is_uniform_on_the_sphere():
    num = 20_000
    network = filled(lambda: jf.FeedForward((2, 2, 1), jf.LeakyReLU(), key=KEY))
    ensemble = sample_ensemble(network, num, key=jax.random.key(1))
    v = np.concatenate([np.asarray(a).reshape(num, -1) for a in parameters(ensemble)], 1)
    dim = v.shape[1]
    assert dim == 6
    # Moments of the uniform distribution: E v = 0, E v vᵀ = I/d, E v_i⁴ = 3/(d (d + 2)).
    np.testing.assert_allclose(v.mean(0), 0, atol=5 / np.sqrt(dim * num))
    np.testing.assert_allclose(v.T @ v / num, np.eye(dim) / dim, atol=5 / dim / num**0.5)
    np.testing.assert_allclose((v**4).mean(0), 3 / (dim * (dim + 2)), rtol=0.1)


def test_ensemble_is_fixed_by_its_key():
    network = filled(SHIPPED["FeedForward"])
    first, again, other = (
        np.asarray(sample_ensemble(network, 5, key=jax.random.key(seed)).weights[0])
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_ensemble_keeps_single_precision():
    network = filled(lambda: SHIPPED["FeedForward"](jnp.float32))
    ensemble = sample_ensemble(network, 3, key=KEY)
    assert {array.dtype for array in parameters(ensemble)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("num", [0, -1, 2.5])
def test_ensemble_of_no_whole_number_is_refused(as_users_have_it, num):
    with pytest.raises(jf.InputError) as caught:
        jf.sample_ensemble(filled(SHIPPED["FeedForward"]), num, key=KEY)
    assert caught.value.argument == "num"


@hypothesis.settings(max_examples=50, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    # Few different shapes, as each is compiled on its own.
    sizes=st.sampled_from([(3, 2), (1, 4, 2), (3, 4, 1), (3, 4, 4, 2), (3, 4, 4, 4, 1)]),
    power=st.integers(1, 3),
    slope=st.floats(0, 1),
    smoothing=st.sampled_from([0.0, 0.1]),
    factor=st.just(0.0) | st.floats(1e-3, 3.0),
    seed=st.integers(0, 2**16),
)
def test_feed_forward_is_homogeneous(sizes, power, slope, smoothing, factor, seed):
    activation = jf.LeakyReLU(slope, power, smoothing)
    network = filled(lambda: jf.FeedForward(sizes, activation, key=KEY), seed=seed)
    weights = [np.asarray(weight) for weight in network.weights]
    depth = len(weights)
    order = sum(power ** (depth - l) for l in range(1, depth + 1))
    x = sample(sizes[0], seed)
    scaled = eqx.tree_at(
        lambda n: n.weights, network, tuple(jnp.asarray(factor * w) for w in weights)
    )
    found = np.asarray(scaled(jnp.asarray(x)))
    expected = factor**order * np.asarray(network(jnp.asarray(x)))
    # The outputs are sums with cancellation, so errors count against their terms.
    terms = feed_forward([np.abs(w) for w in weights], np.abs(x), slope, power, smoothing)
    assert np.all(np.abs(found - expected) <= 1e-12 * factor**order * terms)


def _first_weights(networks, rows):
    return np.asarray(networks.members(np.array(rows)).factors[0])


def test_members_of_any_range_are_the_same():
    """A member is drawn from its number, wherever the range begins."""
    network = filled(lambda: jf.DiagonalLinear(2, 3, key=KEY))
    every = jf.Initializations(network, 2**33, key=jax.random.key(1))
    rows = np.array([3, 17, 2**32, 2**32 + 5])
    expected = _first_weights(every, rows)
    sampled = np.asarray(sample_ensemble(network, 18, key=jax.random.key(1)).factors[0])
    np.testing.assert_array_equal(expected[:2], sampled[[3, 17]])
    for first in (2, 3):
        some = every[first:]
        assert len(some) == 2**33 - first
        np.testing.assert_array_equal(_first_weights(some, rows - first), expected)
    again = jf.Initializations(network, 9, key=jax.random.key(1), start=2**32)[5:7]
    np.testing.assert_array_equal(_first_weights(again, [0]), expected[3:])
    assert len(again) == 2 and len(every[5:2]) == 0
    assert repr(again) == "Initializations(2 of DiagonalLinear, from 4,294,967,301)"


def test_no_two_members_are_the_same():
    network = filled(lambda: jf.DiagonalLinear(2, 3, key=KEY))
    every = jf.Initializations(network, 2**62, key=jax.random.key(1))
    rows = [0, 1, 2**31, 2**32, 2**32 + 1, 2**33, 2**61]
    drawn = _first_weights(every, rows).reshape(len(rows), -1)
    assert len(np.unique(drawn[:, 0])) == len(rows)
    own = jax.vmap(lambda number: member_key(jax.random.key(1), number))
    keys = jax.random.key_data(own(member_numbers(np.array(rows))))
    assert len(np.unique(np.asarray(keys), axis=0)) == len(rows)
    low = jax.random.key_data(jax.random.fold_in(jax.random.key(1), 2**31))
    np.testing.assert_array_equal(keys[2], low)


@pytest.mark.parametrize("key", [jax.random.key(1), jax.random.PRNGKey(1)])
def test_initializations_can_be_pickled(key):
    network = filled(SHIPPED["FeedForward"])
    drawn = jf.Initializations(network, 100, key=key, start=7)
    again = pickle.loads(pickle.dumps(drawn))
    assert (again.num, again.start, repr(again)) == (100, 7, repr(drawn))
    rows = np.array([0, 99])
    for one, other in zip(again.members(rows).weights, drawn.members(rows).weights):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("num", lambda n: jf.sample_ensemble(n, 2**63, key=KEY)),
        ("num", lambda n: jf.sample_ensemble(n, 2**31, key=KEY)),
        ("num", lambda n: jf.Initializations(n, 2**63, key=KEY)),
        ("num", lambda n: jf.Initializations(n, float("inf"), key=KEY)),
        ("start", lambda n: jf.Initializations(n, 1, key=KEY, start=-1)),
        ("start", lambda n: jf.Initializations(n, 1, key=KEY, start=0.5)),
        ("num, start", lambda n: jf.Initializations(n, 9, key=KEY, start=2**63 - 8)),
        ("members", lambda n: jf.Initializations(n, 9, key=KEY)[::2]),
        ("members", lambda n: jf.Initializations(n, 9, key=KEY)[3]),
    ],
)
def test_members_that_cannot_be_are_refused(as_users_have_it, argument, make):
    with pytest.raises(jf.InputError) as caught:
        make(filled(SHIPPED["FeedForward"]))
    assert caught.value.argument == argument
