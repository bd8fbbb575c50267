"""Networks that are chains of matrices whatever their class, and what is asked of modules.

Whoever uses what is known of a `FeedForward` (blocks, kinks, saddles, KKT points) gives the
same numbers for an `equinox.nn.MLP` with the same weights.
"""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf
from jaxflow.kkt import rank_one, rank_one_conditions
from jaxflow.networks import (
    are_separable,
    as_feed_forward,
    blocks,
    flatten,
    layer_matrices,
    switches,
    unflattener,
)
from jaxflow.saddles import parts_of

KEY = jax.random.key(0)


def mlp(sizes, activation, bias=False, scan=False, dtype=None):
    """An `eqx.nn.MLP` of the sizes of a `FeedForward`, all hidden layers equally wide."""
    return eqx.nn.MLP(
        sizes[0],
        sizes[-1],
        sizes[1],
        len(sizes) - 2,
        activation,
        use_bias=bias,
        use_final_bias=bias,
        scan=scan,
        dtype=dtype,
        key=KEY,
    )


def twins(sizes, activation):
    """An MLP and a feed-forward network with the same weights."""
    module = mlp(sizes, activation)
    network = jf.FeedForward(sizes, activation, key=KEY)
    return module, unflattener(network)(flatten(module))


class Own(eqx.Module):
    """A user's module: two matrices, and a function between them."""

    inner: jax.Array
    outer: jax.Array
    activation: Callable = eqx.field(static=True)

    def __call__(self, x):
        return self.outer @ self.activation(self.inner @ x)


def own(activation, outer=None):
    first, second = jax.random.split(KEY)
    outer = jax.random.normal(second, (2, 4)) if outer is None else outer
    return Own(jax.random.normal(first, (4, 3)), outer, activation)


class WrongOrder(Own):
    """Leaves that are not in the order in which they are applied."""

    def __call__(self, x):
        return self.inner @ self.activation(self.outer @ x)


class Residual(Own):
    """A connection past the activation."""

    def __call__(self, x):
        z = self.inner @ x
        return self.outer @ (z + self.activation(z))


class Normalized(Own):
    """Not homogeneous: what is between the matrices is divided by its norm."""

    def __call__(self, x):
        z = self.activation(self.inner @ x)
        return self.outer @ (z / jnp.linalg.norm(z))


class TwoActivations(eqx.Module):
    matrices: tuple[jax.Array, ...]
    first: jf.LeakyReLU
    second: jf.LeakyReLU

    def __call__(self, x):
        inner = self.first(self.matrices[0] @ x)
        return self.matrices[2] @ self.second(self.matrices[1] @ inner)


def two_activations(first, second):
    matrices = jf.FeedForward((3, 4, 4, 1), first, key=KEY).weights
    return TwoActivations(matrices, first, second)


def leaky(z):
    return jax.nn.leaky_relu(z, 0.2)


CHAINS = {
    "MLP": (mlp((3, 4, 4, 2), jf.LeakyReLU(0.5, 2)), jf.LeakyReLU(0.5, 2)),
    "kinked MLP": (mlp((3, 4, 4, 2), jf.LeakyReLU(0.1)), jf.LeakyReLU(0.1)),
    "MLP of jax.nn.relu": (mlp((3, 4, 4, 2), jax.nn.relu), jf.LeakyReLU(0.0)),
    "linear MLP": (mlp((3, 4, 4, 2), lambda z: z), jf.LeakyReLU(1.0)),
    "one matrix": (mlp((3, 4, 2), jax.nn.relu).layers[0], jf.LeakyReLU(1.0)),
    "own, leaky": (own(leaky), jf.LeakyReLU(0.2)),
    "own, squared": (own(lambda z: jax.nn.relu(z) ** 2), jf.LeakyReLU(0.0, 2)),
    "own, cubes": (own(lambda z: z**3), jf.LeakyReLU(1.0, 3)),
    "own, in a field": (own(jf.LeakyReLU(0.3)), jf.LeakyReLU(0.3)),
    "a vector last": (own(leaky, jnp.arange(4.0)), jf.LeakyReLU(0.2)),
    "twice the same": (two_activations(*2 * [jf.LeakyReLU(0.3)]), jf.LeakyReLU(0.3)),
    # Without the radius of its layer a smoothed activation has its kink all the same.
    "smoothing in vain": (mlp((3, 4, 2), jf.LeakyReLU(0.2, 1, 0.1)), jf.LeakyReLU(0.2)),
    "FeedForward": (
        jf.FeedForward((3, 4, 2), jf.LeakyReLU(0.5, 2), key=KEY),
        jf.LeakyReLU(0.5, 2),
    ),
    "FeedForward of a function": (
        jf.FeedForward((3, 4, 2), jax.nn.relu, key=KEY),
        jf.LeakyReLU(0.0),
    ),
}


@pytest.mark.parametrize(("network", "activation"), CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("given", [True, False])
def test_chains_are_found(network, activation, given):
    inputs = jax.random.normal(jax.random.key(1), (5, 3))
    chain = as_feed_forward(network, inputs if given else None)
    assert chain is not None and chain.activation == activation
    np.testing.assert_array_equal(flatten(chain), flatten(network))
    for seed in range(3):
        vector = jax.random.normal(jax.random.key(seed), flatten(chain).shape)
        one, other = unflattener(network)(vector), unflattener(chain)(vector)
        expected = jax.vmap(other)(inputs)
        found = jax.vmap(one)(inputs).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


OTHERS = {
    "biases": mlp((3, 4, 4, 2), jf.LeakyReLU(0.5), bias=True),
    "tanh": mlp((3, 4, 4, 2), jnp.tanh),
    "twice relu": mlp((3, 4, 4, 2), lambda z: 2 * jax.nn.relu(z)),
    "absolute value": mlp((3, 4, 2), jnp.abs),
    "a residual connection": Residual(jnp.ones((3, 3)), jnp.ones((2, 3)), jax.nn.relu),
    "leaves in another order": WrongOrder(jnp.ones((3, 3)), jnp.ones((3, 3)), jax.nn.relu),
    "a norm": Normalized(jnp.ones((3, 3)), jnp.ones((2, 3)), jax.nn.relu),
    "two activations": two_activations(jf.LeakyReLU(0.3), jf.LeakyReLU(0.6)),
    "convolutions": jf.ConvNet((1, 4, 4), (2,), 1, jf.LeakyReLU(), key=KEY),
    "coordinates": jf.DiagonalLinear(2, 3, key=KEY),
    "layer norm": eqx.nn.LayerNorm(3),
    "a recurrence": eqx.nn.GRUCell(3, 3, use_bias=False, key=KEY),
    "an output of zero": own(lambda z: 0 * z),
}


@pytest.mark.parametrize("network", OTHERS.values(), ids=OTHERS)
def test_what_is_no_chain(network):
    assert as_feed_forward(network) is None
    assert as_feed_forward(network, jnp.ones((2, 3))) is None


def test_chains_in_single_precision():
    chain = as_feed_forward(mlp((3, 8, 8, 1), leaky, dtype=jnp.float32))
    assert chain is not None and chain.activation == jf.LeakyReLU(0.2)
    assert chain.weights[0].dtype == jnp.float32


def test_feed_forward_with_a_function_of_its_own_is_kept():
    network = jf.FeedForward((3, 4, 2), jnp.abs, key=KEY)
    assert as_feed_forward(network) is network
    assert (
        blocks(network).tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [0, 1, 2, 3] * 2
    )


# -- blocks --


class Gates(eqx.Module):
    """`H(x) = Σ_j a_j b_j ⟨c_j, x⟩`: the output is a sum over `j`."""

    a: jax.Array
    b: jax.Array
    c: jax.Array

    def __call__(self, x):
        return jnp.sum(self.a * self.b * (self.c @ x), keepdims=True)

    def blocks(self):
        units = np.arange(self.a.size)
        return np.concatenate([units, units, np.repeat(units, self.c.shape[1])])


def gates(num=3):
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape))
    return Gates(draw(num), draw(num), draw(num, 2))


class WrongBlocks(Gates):
    numbers: object = eqx.field(static=True, default=())

    def blocks(self):
        return np.array(self.numbers)


def test_blocks_of_modules():
    module, network = twins((2, 3, 1), jf.LeakyReLU(0.5))
    assert (
        blocks(module).tolist() == blocks(network).tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]
    )
    assert are_separable(module) and are_separable(own(leaky))
    deep = mlp((2, 3, 3, 1), jf.LeakyReLU(0.5))
    assert blocks(deep).tolist() == [0] * 6 + [1] * 9 + [2] * 3 and not are_separable(deep)
    assert blocks(gates()).tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 1, 2, 2]
    assert are_separable(gates())


@pytest.mark.parametrize("numbers", [(0, 1), (0.5,) * 12, (0, 2) * 6, (-1, 0) * 6])
def test_blocks_that_are_none_are_refused(as_users_have_it, numbers):
    base = gates()
    with pytest.raises(jf.InputError, match=r"blocks\(\)") as caught:
        blocks(WrongBlocks(base.a, base.b, base.c, numbers))
    assert caught.value.argument == "network"


def test_layer_matrices_of_modules():
    module, network = twins((2, 3, 1), jf.LeakyReLU(0.5))
    for one, other in zip(layer_matrices(module), layer_matrices(network)):
        np.testing.assert_array_equal(one, other)

    class Told(eqx.Module):
        kernel: jax.Array

        def __call__(self, sample):
            return 2 * self.kernel @ sample

        def layer_matrices(self):
            return (2 * self.kernel,)

    np.testing.assert_array_equal(layer_matrices(Told(jnp.ones((2, 2))))[0], 2.0)


def runs_of(networks, task, call):
    return [call(network, task) for network in networks]


def square_task(out=1, num=6):
    x = jf.data.sphere_points(num, 3, key=KEY)
    teacher = jf.FeedForward((3, 4, out), jf.LeakyReLU(0.5), key=jax.random.key(5))
    return jf.data.teacher_student(teacher, x, target_norm=1.0)


def test_block_polar_of_modules():
    def flow(network, task):
        ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(1))
        return jf.gradient_flow(
            ensemble,
            task,
            scale=1e-3,
            stop=jf.RescaledTime(5.0),
            coordinates="block_polar",
        )

    one, other = runs_of(twins((3, 4, 1), jf.LeakyReLU(0.5, 2)), square_task(), flow)
    np.testing.assert_allclose(one.log_norm, other.log_norm, rtol=1e-12)
    np.testing.assert_allclose(
        one.directions.layers[1].weight, other.directions.weights[1], rtol=1e-10
    )


def test_block_polar_of_ones_own_blocks():
    """A unit without weights stays without, and the flow is that of polar coordinates."""
    network = gates()
    zero = eqx.tree_at(
        lambda n: (n.a, n.b, n.c),
        network,
        (network.a.at[1].set(0.0), network.b.at[1].set(0.0), network.c.at[1].set(0.0)),
    )
    task = jf.Task(np.eye(2), [1.0, -0.5])
    ends = [
        jf.gradient_flow(
            zero,
            task,
            scale=0.1,
            stop=jf.RescaledTime(3.0),
            coordinates=coordinates,
            ensemble=False,
            rtol=1e-9,
            atol=1e-12,
        )
        for coordinates in ("block_polar", "polar")
    ]
    assert ends[0].networks.a[1] == 0.0
    np.testing.assert_allclose(ends[0].log_norm, ends[1].log_norm, rtol=1e-6)


# -- switches --


def by_hand(chain, inputs):
    """The signs of all pre-activations of a feed-forward network, in NumPy."""
    h, sides = np.asarray(inputs), []
    for weight in chain.weights[:-1]:
        z = h @ np.asarray(weight).T
        sides.append(z > 0)
        h = np.maximum(z, chain.activation.slope * z)
    return np.concatenate(sides, axis=1)


class Nested(eqx.Module):
    """A module in a module; its activations are called under jit and checkpoint."""

    inner: eqx.nn.MLP
    last: eqx.nn.Linear
    activation: jf.LeakyReLU

    def __call__(self, x):
        h = jax.checkpoint(lambda x: self.activation(self.inner(x)))(x)
        return eqx.filter_jit(self.last)(jax.nn.relu(h))


class Branching(eqx.Module):
    weight: jax.Array
    activation: jf.LeakyReLU

    def __call__(self, x):
        z = self.weight @ x
        return jax.lax.cond(z[0] > 0, self.activation, lambda z: z, z)


class Told(Own):
    """A module that says itself where its kinks are."""

    def switches(self, x):
        return self.inner @ x > 0


@pytest.mark.parametrize("scan", [False, True])
def test_switches_of_an_mlp(scan):
    activation, inputs = jf.LeakyReLU(0.2), jax.random.normal(KEY, (7, 3))
    _, chain = twins((3, 4, 4, 4, 1), activation)
    plain = mlp((3, 4, 4, 4, 1), activation)
    module = mlp((3, 4, 4, 4, 1), activation, scan=scan)
    module = unflattener(module)(flatten(plain))
    expected = by_hand(chain, inputs)
    np.testing.assert_array_equal(switches(chain, inputs), expected)
    np.testing.assert_array_equal(switches(module, inputs), expected)
    np.testing.assert_array_equal(eqx.filter_jit(switches)(module, inputs), expected)
    shape = jax.eval_shape(lambda x: switches(module, x), inputs).shape
    assert shape == expected.shape == (7, 12)
    stacked = jax.tree_util.tree_map(
        lambda leaf: jnp.stack([leaf, -leaf]) if eqx.is_array(leaf) else leaf, module
    )
    both = eqx.filter_vmap(lambda network: switches(network, inputs))(stacked)
    np.testing.assert_array_equal(both[0], expected)


def test_switches_with_biases_and_in_nested_modules():
    inputs = jax.random.normal(KEY, (7, 3))
    biased = mlp((3, 4, 1), jf.LeakyReLU(0.2), bias=True)
    layer = biased.layers[0]
    z = np.asarray(inputs) @ np.asarray(layer.weight).T + np.asarray(layer.bias)
    np.testing.assert_array_equal(switches(biased, inputs), z > 0)
    inner = mlp((3, 4, 4), jf.LeakyReLU(0.2))
    last = eqx.nn.Linear(4, 1, key=KEY)
    found = switches(Nested(inner, last, jf.LeakyReLU(0.0)), inputs)
    h = np.asarray(jax.vmap(inner)(inputs))
    np.testing.assert_array_equal(found[:, 4:], h > 0)
    first = np.asarray(inputs) @ np.asarray(inner.layers[0].weight).T
    np.testing.assert_array_equal(found[:, :4], first > 0)


def test_switches_of_ones_own():
    network, inputs = own(leaky), jax.random.normal(KEY, (7, 3))
    told = Told(network.inner, network.outer, leaky)
    expected = np.asarray(inputs) @ np.asarray(network.inner).T > 0
    np.testing.assert_array_equal(switches(told, inputs), expected)


def test_switches_that_cannot_be_seen_are_refused(as_users_have_it):
    with pytest.raises(jf.InputError, match="cond"):
        switches(Branching(jnp.ones((2, 2)), jf.LeakyReLU()), jnp.ones((1, 2)))
    with pytest.raises(jf.InputError, match="kink"):
        switches(mlp((3, 4, 1), jnp.tanh), jnp.ones((1, 3)))


@pytest.mark.parametrize(
    "network",
    [mlp((3, 4, 4, 1), jf.LeakyReLU(0.0), bias=True), mlp((3, 4, 1), jax.nn.relu)],
    ids=["with biases", "of jax.nn.relu"],
)
def test_sliding_solver_of_an_mlp(network):
    task = square_task()
    solver = jf.sliding_solver(diffrax.Bosh3(), network, task)
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(1))
    end = jf.gradient_flow(
        ensemble, task, stop=jf.Time(3.0), solver=solver, rtol=1e-5, atol=1e-8
    )
    assert set(end.status) == {"Time"}
    # Euler's method, with a step whose error is below a hundredth of the loss.
    euler = jf.gradient_descent(
        ensemble, task, optimizer=optax.sgd(1e-3), num_steps=3000, progress=False
    )
    np.testing.assert_allclose(end.loss, euler.loss, atol=3e-3)


# -- KKT points and saddles --


def test_kkt_points_of_an_mlp_with_kinks():
    x = jf.data.sphere_points(6, 2, key=KEY)
    task = jf.Task(x, np.random.default_rng(0).standard_normal(6))

    def search(network, task):
        ensemble = jf.sample_ensemble(network, 8, key=jax.random.key(2))
        return jf.find_kkt(ensemble, task, progress=False)

    one, other = runs_of(twins((2, 3, 1), jf.LeakyReLU()), task, search)
    assert len(one) == len(other) > 0 and one.num_kinks.max() > 0
    np.testing.assert_array_equal(one.ends, other.ends)
    np.testing.assert_array_equal(one.index, other.index)
    np.testing.assert_array_equal(one.num_kinks, other.num_kinks)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-10)
    assert one.residual.max() < 1e-10
    assert isinstance(one.networks, eqx.nn.MLP)


def test_rank_one_of_an_mlp():
    module, network = twins((3, 4, 1), jf.LeakyReLU(0.5, 2))
    assert rank_one(module).ranks == rank_one(network).ranks
    task = square_task()
    one, other = (rank_one_conditions(each, task) for each in (module, network))
    assert (one.value, one.neurons) == pytest.approx((other.value, other.neurons))
    with pytest.raises(jf.InputError, match="MLP") as caught:
        rank_one(mlp((3, 4, 1), jnp.tanh))
    assert caught.value.argument == "network"


def test_saddles_of_an_mlp():
    task = square_task(num=5)

    def journey(network, task):
        ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(3))
        return jf.saddle_to_saddle(
            ensemble, task, scale=1e-3, max_saddles=2, progress=False
        )

    one, other = runs_of(twins((3, 4, 1), jf.LeakyReLU(0.5, 2)), task, journey)
    np.testing.assert_array_equal(one.status, other.status)
    np.testing.assert_array_equal(one.active, other.active)
    for name in ("loss", "log_departure", "predicted_log_departure", "kkt_value", "cosine"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)
    assert np.isfinite(one.predicted_log_departure[:, 0]).all()


def test_parts_of_modules():
    linear = mlp((3, 4, 1), lambda z: z)
    assert (
        parts_of(linear).mixes and type(parts_of(linear)).__name__ == "SingularDirections"
    )
    assert not parts_of(mlp((3, 4, 1), jax.nn.relu)).mixes
    network = gates()
    parts, rows = parts_of(network), np.asarray(flatten(network))[None]
    large = np.where(blocks(network) == 1, 100.0, 1.0) * rows
    sizes = [np.linalg.norm(large[0, blocks(network) == unit]) for unit in range(3)]
    np.testing.assert_allclose(parts.sizes(large)[0], sizes, rtol=1e-14)
    assert parts.active(large, 0.1).tolist() == [[False, True, False]]
    small = parts.small(large, 0.1, large)[0]
    np.testing.assert_array_equal(small == 0, blocks(network) == 1)
    assert parts.separates


def test_saddles_of_ones_own_blocks():
    """The two coordinates are learned one after the other, at the predicted times."""

    class Products(eqx.Module):
        factors: jax.Array

        def __call__(self, x):
            return jnp.sum(jnp.prod(self.factors, axis=0) * x, keepdims=True)

        def blocks(self):
            return np.tile(np.arange(2), 2)

    task = jf.Task(np.eye(2), np.array([2.0, 1.0]))
    found = jf.saddle_to_saddle(
        Products(jnp.full((2, 2), 0.5)),
        task,
        scale=1e-6,
        solver=None,
        progress=False,
        ensemble=False,
    )
    assert found.active.tolist() == [[[False, False], [True, False]]]
    np.testing.assert_allclose(found.loss, [[2.5, 0.5]], rtol=1e-4)
    assert np.all(np.abs(found.escape_error) < 0.02), found
