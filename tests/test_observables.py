"""Observables against NumPy, at scales from 1e-30 to 1e+30."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf
from jaxflow.observables import layer_matrices

from .filled import filled

KEY = jax.random.key(0)
LINEAR = jf.LeakyReLU(slope=1)
SIZES = (3, 4, 4, 2)
SCALES = [(jnp.float64, scale) for scale in (1.0, 1e-30, 1e30, 1e-300)] + [
    (jnp.float32, scale) for scale in (1.0, 1e-30, 1e30)
]
at_every_scale = pytest.mark.parametrize(("dtype", "scale"), SCALES)

norm = eqx.filter_jit(jf.norm)
layer_norms = eqx.filter_jit(jf.layer_norms)
singular_values = eqx.filter_jit(jf.singular_values)
stable_rank = eqx.filter_jit(jf.stable_rank)
cosine = eqx.filter_jit(jf.cosine)
kkt_residual = eqx.filter_jit(jf.kkt_residual)


def base(seed=0):
    """The weights of a linear network, in NumPy."""
    random = np.random.default_rng(seed)
    shapes = zip(SIZES[1:], SIZES[:-1])
    return [random.standard_normal(shape) for shape in shapes]


def network_of(weights, scale=1.0, dtype=jnp.float64, activation=LINEAR):
    sizes = (weights[0].shape[1], *(weight.shape[0] for weight in weights))
    network = filled(lambda: jf.FeedForward(sizes, activation, key=KEY))
    scaled = tuple(jnp.asarray(scale * weight, dtype) for weight in weights)
    return eqx.tree_at(lambda n: n.weights, network, scaled)


def flat(weights):
    return np.concatenate([weight.reshape(-1) for weight in weights])


def task():
    random = np.random.default_rng(7)
    return jf.Task(random.standard_normal((5, 3)), random.standard_normal((5, 2)))


def close(dtype):
    return 50 * float(jnp.finfo(dtype).eps)


@at_every_scale
def test_norm(dtype, scale):
    found = float(norm(network_of(base(), scale, dtype)))
    assert found == pytest.approx(
        scale * np.linalg.norm(flat(base())), rel=close(dtype), abs=0
    )


@at_every_scale
def test_layer_norms(dtype, scale):
    expected = [scale * np.linalg.norm(weight) for weight in base()]
    found = layer_norms(network_of(base(), scale, dtype))
    np.testing.assert_allclose(found, expected, rtol=close(dtype))


@at_every_scale
def test_singular_values(dtype, scale):
    found = np.asarray(singular_values(network_of(base(), scale, dtype)))
    assert found.shape == (3, 4)
    for row, weight in zip(found, base()):
        expected = np.linalg.svd(weight, compute_uv=False)
        errors = np.abs(row[: expected.size] - scale * expected)
        assert np.all(errors <= close(dtype) * scale * expected[0])
        assert np.all(np.isnan(row[expected.size :]))


@at_every_scale
def test_stable_rank(dtype, scale):
    expected = [
        np.linalg.norm(weight) ** 2 / np.linalg.norm(weight, 2) ** 2 for weight in base()
    ]
    found = stable_rank(network_of(base(), scale, dtype))
    np.testing.assert_allclose(found, expected, rtol=close(dtype))


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (np.outer([1.0, 2.0, -1.0, 0.5], [3.0, -1.0, 2.0, 1.0]), 1.0),
        (np.eye(4), 4.0),
        (np.diag([2.0, 1.0, 0.0, 0.0]), 1.25),
        (np.zeros((4, 4)), np.nan),
    ],
    ids=["rank one", "identity", "diagonal", "zero"],
)
def test_stable_rank_of_simple_matrices(weight, expected):
    weights = base()
    weights[1] = weight
    found = stable_rank(network_of(weights))[1]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@at_every_scale
def test_cosine(dtype, scale):
    v, r = flat(base()), flat(base(1))
    expected = v @ r / np.linalg.norm(v) / np.linalg.norm(r)
    one, other = network_of(base(), scale, dtype), network_of(base(1), 1.0, dtype)
    assert abs(expected) > 0.01
    assert float(cosine(one, other)) == pytest.approx(expected, abs=close(dtype))
    assert float(cosine(other, one)) == pytest.approx(expected, abs=close(dtype))


def test_cosine_of_opposite_and_of_orthogonal_networks():
    weights = base()
    layers = [
        [weight if i == l else 0 * weight for i, weight in enumerate(weights)]
        for l in (0, 2)
    ]
    assert float(cosine(network_of(weights), network_of(weights, -2.0))) == pytest.approx(
        -1, abs=1e-14
    )
    assert float(cosine(*map(network_of, layers))) == 0.0


def test_norms_of_a_zero_network_are_zero():
    zero = network_of(base(), 0.0)
    assert float(norm(zero)) == 0.0
    np.testing.assert_array_equal(layer_norms(zero), np.zeros(3))


def tangent_gradient(weights, task):
    """`∇N(v)` of a deep linear network at `v = w/‖w‖`, and its tangent part."""
    size = np.linalg.norm(flat(weights))
    first, second, third = (weight / size for weight in weights)
    correlation = np.asarray(task.targets).T @ np.asarray(task.inputs)  # Σ_i z_i x_iᵀ
    gradient = flat(
        [
            (third @ second).T @ correlation,
            third.T @ correlation @ first.T,
            correlation @ (second @ first).T,
        ]
    )
    v = flat([first, second, third])
    return gradient, gradient - (gradient @ v) * v


@pytest.mark.parametrize("relative", [False, True])
@at_every_scale
def test_kkt_residual(dtype, scale, relative):
    gradient, tangent = tangent_gradient(base(), task())
    expected = np.linalg.norm(tangent)
    expected /= np.linalg.norm(gradient) if relative else 1
    network = network_of(base(), scale, dtype)
    found = float(kkt_residual(network, task().astype(dtype), relative=relative))
    assert found == pytest.approx(expected, rel=4 * close(dtype))


def kkt_point(index):
    """A KKT point of a deep linear network: aligned singular vectors, equal norms.

    With `Σ_i z_i x_iᵀ = U S Vᵀ`: `W_1 = a vᵀ/√3`, `W_2 = b aᵀ/√3`, `W_3 = u bᵀ/√3`.
    """
    correlation = np.asarray(task().targets).T @ np.asarray(task().inputs)
    left, values, right = np.linalg.svd(correlation)
    random = np.random.default_rng(3)
    a, b = (x / np.linalg.norm(x) for x in random.standard_normal((2, 4)))
    u, v = left[:, index], right[index]
    weights = [np.outer(a, v), np.outer(b, a), np.outer(u, b)]
    return [weight / np.sqrt(3) for weight in weights], values[index] / 3**1.5


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
@pytest.mark.parametrize("index", [0, 1])
def test_kkt_residual_vanishes_at_a_kkt_point(index, dtype, scale):
    weights, _ = kkt_point(index)
    network = network_of(weights, scale, dtype)
    found = float(kkt_residual(network, task().astype(dtype), relative=True))
    assert found <= close(dtype)


@pytest.mark.parametrize("index", [0, 1])
def test_correlation_at_a_kkt_point(index):
    weights, value = kkt_point(index)
    found = float(eqx.filter_jit(jf.ncf)(network_of(weights), task()))
    assert found == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("square", lambda p, y: np.sum((p - y) ** 2) / 2),
        ("logistic", lambda p, y: np.sum(np.log1p(np.exp(-y * p)))),
    ],
)
def test_loss(name, formula):
    signs = np.sign(np.asarray(task().targets))
    data = jf.Task(task().inputs, signs, name)
    weights = base()
    outputs = np.asarray(data.inputs) @ (weights[2] @ weights[1] @ weights[0]).T
    found = float(eqx.filter_jit(jf.loss)(network_of(weights), data))
    assert found == pytest.approx(formula(outputs, signs), rel=1e-12)


def test_loss_of_a_single_precision_network_on_double_precision_data():
    found = eqx.filter_jit(jf.loss)(network_of(base(), 0.0, jnp.float32), task())
    assert found.dtype == jnp.float32
    expected = np.sum(np.asarray(task().targets) ** 2) / 2
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_layer_matrices_of_feed_forward_are_its_weights():
    found = layer_matrices(network_of(base()))
    for matrix, weight in zip(found, base(), strict=True):
        np.testing.assert_array_equal(matrix, weight)


def test_layer_matrices_of_equinox_mlp_are_its_weights_and_biases():
    network = filled(lambda: eqx.nn.MLP(3, 2, 4, 1, key=KEY))
    expected = []
    for layer in network.layers:
        expected += [np.asarray(layer.weight), np.asarray(layer.bias)[:, None]]
    found = layer_matrices(network)
    assert [matrix.shape for matrix in found] == [(4, 3), (4, 1), (2, 4), (2, 1)]
    for matrix, array in zip(found, expected, strict=True):
        np.testing.assert_array_equal(matrix, array)


def test_layer_matrices_of_conv_net_are_flat_kernels_and_the_read_out():
    network = filled(
        lambda: jf.ConvNet((2, 4, 3), (3, 2), 5, jf.LeakyReLU(), kernel_size=2, key=KEY)
    )
    found = layer_matrices(network)
    assert [matrix.shape for matrix in found] == [(3, 8), (2, 12), (5, 24)]
    np.testing.assert_array_equal(
        found[1][1], np.asarray(network.kernels[1])[1].reshape(-1)
    )
    np.testing.assert_array_equal(found[2], network.readout)


def test_layers_of_diagonal_linear_are_diagonal():
    network = filled(lambda: jf.DiagonalLinear(2, 3, 2, key=KEY))
    found = np.asarray(singular_values(network))
    for row, factor in zip(found, network.factors, strict=True):
        expected = np.sort(np.abs(np.asarray(factor)).reshape(-1))[::-1]
        np.testing.assert_allclose(row, expected, rtol=1e-13)


def test_observables_of_a_module_without_layers_of_its_own():
    network = filled(lambda: eqx.nn.MLP(3, 2, 4, 1, use_bias=False, key=KEY))
    arrays = [layer.weight for layer in network.layers] + [network.layers[-1].bias]
    expected = [np.linalg.norm(array) for array in arrays if array is not None]
    np.testing.assert_allclose(layer_norms(network), expected, rtol=1e-13)


def test_cosine_to_references_along_a_flow():
    one = filled(lambda: jf.DiagonalLinear(2, 3, 2, key=KEY))
    ensemble = filled(lambda: eqx.filter_vmap(lambda k: one)(jax.random.split(KEY, 3)))
    solution = jf.gradient_descent(
        ensemble,
        task(),
        optimizer=optax.sgd(0.1),
        num_steps=1,
        record={
            "shared": jf.CosineTo(one),
            "own": jf.CosineTo(ensemble, per_member=True),
        },
        record_at=np.array([0.0]),
    )
    starts = [np.asarray(factor) for factor in ensemble.factors]
    starts = np.stack(starts, 1).reshape(3, -1)
    reference = np.concatenate([np.asarray(f).reshape(-1) for f in one.factors])
    expected = starts @ reference / np.linalg.norm(starts, axis=1)
    expected /= np.linalg.norm(reference)
    values = solution.records.values
    np.testing.assert_allclose(values["shared"][:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(values["own"][:, 0], 1.0, rtol=1e-14)


@pytest.mark.parametrize("name", ["norm", "layer_norms", "singular_values", "stable_rank"])
@pytest.mark.parametrize("make", ["chain", "diagonal", "single layer", "foreign"])
def test_functions_of_weights_refuse_an_ensemble(name, make):
    ensemble, num = _ensemble(make), 3
    function = getattr(jf, name)
    with pytest.raises(
        jf.InputError, match=r"ensemble of 3 networks.*filter_vmap"
    ) as caught:
        function(ensemble)
    assert caught.value.argument == "network"
    values = eqx.filter_vmap(function)(ensemble)
    first = jax.tree_util.tree_map(lambda a: a[0] if eqx.is_array(a) else a, ensemble)
    assert len(values) == num
    np.testing.assert_allclose(values[0], function(first), rtol=1e-6)


def _ensemble(make):
    """Three networks that are stacked."""
    networks = {
        "chain": lambda key: jf.FeedForward((3, 4, 1), jf.LeakyReLU(), key=key),
        "diagonal": lambda key: jf.DiagonalLinear(2, 3, key=key),
        "single layer": lambda key: jf.FeedForward((3, 1), jf.LeakyReLU(), key=key),
        "foreign": lambda key: eqx.nn.MLP(3, 1, 4, 1, use_bias=False, key=key),
    }
    keys = jax.random.split(jax.random.key(0), 3)
    return eqx.filter_vmap(networks[make])(keys)


@pytest.mark.parametrize("make", ["chain", "diagonal", "single layer", "foreign"])
@pytest.mark.parametrize("name", ["loss", "ncf", "kkt_residual", "margin"])
def test_functions_of_network_and_task_refuse_an_ensemble(name, make):
    ensemble, x = _ensemble(make), np.eye(3)
    task = jf.Task(x, np.array([1.0, -1.0, 1.0]), "logistic")
    with pytest.raises(jf.InputError, match="ensemble of 3 networks"):
        getattr(jf, name)(ensemble, task)
    in_axes = (eqx.if_array(0), None)
    values = eqx.filter_vmap(getattr(jf, name), in_axes=in_axes)(ensemble, task)
    assert values.shape == (3,)


def test_cosine_refuses_ensembles_and_other_shapes():
    ensemble = _ensemble("chain")
    with pytest.raises(jf.InputError, match="ensemble of 3"):
        jf.cosine(ensemble, ensemble)
    np.testing.assert_allclose(eqx.filter_vmap(jf.cosine)(ensemble, ensemble), 1.0)
    one = jf.FeedForward((3, 4, 1), jf.LeakyReLU(), key=jax.random.key(0))
    other = jf.FeedForward((3, 5, 1), jf.LeakyReLU(), key=jax.random.key(0))
    with pytest.raises(jf.InputError) as caught:
        jf.cosine(one, other)
    assert caught.value.argument == "reference"


def test_network_that_does_not_fit_the_task_is_refused():
    task = jf.Task(np.eye(3), np.array([0, 1, 2]), "cross_entropy")
    for out, match in ((2, "2 outputs for 3 classes"), (1, "1 outputs for 3 classes")):
        network = jf.FeedForward((3, 4, out), jf.LeakyReLU(), key=jax.random.key(0))
        with pytest.raises(jf.InputError, match=match):
            jf.loss(network, task)
    network = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))
    with pytest.raises(jf.InputError, match="does not fit the task"):
        jf.loss(network, task)


def _two_layers(outer, first=None):
    first = (
        np.random.default_rng(3).standard_normal((len(outer), 3))
        if first is None
        else first
    )
    return first, np.array(outer)[None]


@at_every_scale
def test_blocks_of_one_sign_are_those_rows(dtype, scale):
    first, outer = _two_layers([1.0, -2.0, 0.0, 0.5, -1.0, 3.0])
    network = network_of([scale * first, outer], 1.0, dtype)
    found = np.asarray(eqx.filter_jit(jf.block_singular_values)(network))
    ranks = eqx.filter_jit(jf.block_stable_ranks)(network)
    for row, rank, rows in zip(found, ranks, ([0, 3, 5], [1, 4])):
        values = scale * np.linalg.svd(first[rows], compute_uv=False)
        np.testing.assert_allclose(row[: len(rows)], values, rtol=close(dtype))
        assert np.all(np.abs(row[len(rows) :]) <= close(dtype) * values[0])
        assert rank == pytest.approx(np.sum((values / values[0]) ** 2), rel=close(dtype))
    with pytest.raises(jf.InputError, match="two layers, and one output"):
        jf.block_stable_ranks(network_of(base()))
    alone = network_of(list(_two_layers([1.0, 2.0])))
    np.testing.assert_array_equal(np.isnan(jf.block_stable_ranks(alone)), [False, True])


def test_margins_of_all_samples():
    random = np.random.default_rng(5)
    weights, x = [random.standard_normal((4, 3)), random.standard_normal((3, 4))], np.eye(3)
    size = np.linalg.norm(flat(weights))
    outputs = x @ (weights[1] @ weights[0]).T
    labels = np.array([2, 0, 1])
    rest = [np.delete(row, label).max() for row, label in zip(outputs, labels)]
    expected = outputs[range(3), labels] - rest
    network, classes = network_of(weights), jf.Task(x, labels, "cross_entropy")
    np.testing.assert_allclose(jf.margins(network, classes), expected, rtol=1e-12)
    normalized = np.asarray(jf.normalized_margins(network, classes))
    np.testing.assert_allclose(normalized, expected / size**2, rtol=1e-12)
    assert normalized.min() == pytest.approx(float(jf.normalized_margin(network, classes)))
    one = [weights[0], weights[1][:1]]
    signs = jf.Task(x, np.array([1.0, -1.0, 1.0]), "exponential", sample_weights=[1, 1, 0])
    expected = np.array([1, -1]) * (one[1] @ one[0] @ x)[0, :2]
    np.testing.assert_allclose(jf.margins(network_of(one), signs)[:2], expected, rtol=1e-12)
    assert np.isinf(jf.margins(network_of(one), signs)[2])
    with pytest.raises(jf.InputError, match="has no margins"):
        jf.margins(network_of(base()), task())
