"""What is trained in a module, and what is carried along: against SciPy's DOP853."""

import copy
import pickle

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import jaxflow as jf

from .problems import TSIT5

X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.sin(X[:, 0])
TIGHT = {**TSIT5, "rtol": 1e-10, "atol": 1e-13, "progress": False}
COORDINATES = ("polar", "cartesian")


class Masked(eqx.Module):
    """`aᵀ σ((M ∘ W) x)`, homogeneous of order 2 in `(W, a)`, with arrays of every kind."""

    W: jax.Array
    a: jax.Array
    mask: object
    step: jax.Array
    key: jax.Array

    def __call__(self, x):
        weights = jnp.where(self.mask, self.W, jnp.zeros_like(self.W))
        noise = jax.random.uniform(self.key, (self.a.size,), x.dtype)  # of a fixed key
        return self.a @ (noise * jax.nn.relu(weights @ x)) * self.step.astype(x.dtype)


class TwoLayers(eqx.Module):
    """`aᵀ σ(W x)`; homogeneous in both, in `W` alone and in `a` alone."""

    W: jax.Array
    a: jax.Array

    def __call__(self, x):
        return self.a @ jf.LeakyReLU(0.5, 2)(self.W @ x)


class Stopped(TwoLayers):
    def __call__(self, x):
        return jax.lax.stop_gradient(self.a) @ jf.LeakyReLU(0.5, 2)(self.W @ x)


def masked(seed=0, mask=None):
    random = np.random.default_rng(seed)
    mask = random.random((4, 3)) > 0.4 if mask is None else mask
    return Masked(
        jnp.asarray(random.normal(size=(4, 3))),
        jnp.asarray(random.normal(size=4)),
        mask,
        jnp.asarray(2),
        jax.random.key(seed),
    )


def two_layers(cls=TwoLayers, seed=0):
    random = np.random.default_rng(seed)
    return cls(jnp.asarray(random.normal(size=(4, 3))), jnp.asarray(random.normal(size=4)))


def by_scipy(network, trained, time, scale=1.0, x=X, y=Y, weights=None):
    """The trained arrays after gradient flow of the square loss, by SciPy alone."""
    start, shapes = [np.asarray(getattr(network, name)) for name in trained], []
    for array in start:
        shapes.append(array.shape)

    def unpack(vector):
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
        parts = [p.reshape(s) for p, s in zip(np.split(vector, ends), shapes)]
        return eqx.tree_at(lambda n: [getattr(n, name) for name in trained], network, parts)

    @jax.jit
    def loss(vector):
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
        parts = [p.reshape(s) for p, s in zip(jnp.split(vector, ends), shapes)]
        one = eqx.tree_at(lambda n: [getattr(n, name) for name in trained], network, parts)
        each = (jax.vmap(one)(jnp.asarray(x)) - jnp.asarray(y)) ** 2 / 2
        return jnp.sum(each if weights is None else jnp.asarray(weights) * each)

    slope = jax.jit(jax.grad(loss))
    field = lambda _, vector: -np.asarray(slope(vector))
    first = scale * np.concatenate([array.ravel() for array in start])
    found = solve_ivp(field, (0, time), first, "DOP853", rtol=1e-11, atol=1e-13)
    return unpack(found.y[:, -1])


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_arrays_that_are_no_parameters_are_carried_along(coordinates, tmp_path):
    network = masked()
    assert jf.order(network) == 2
    solution = jf.gradient_flow(
        network, jf.Task(X, Y), scale=0.5, stop=jf.Time(0.3), coordinates=coordinates,
        store=tmp_path / "run.zarr", **TIGHT,
    )  # fmt: skip
    expected = by_scipy(network, ("W", "a"), 0.3, 0.5)
    # Where a mask is zero nothing pulls at a weight, and it stays as it was.
    np.testing.assert_allclose(solution.networks.W, expected.W, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solution.networks.a, expected.a, rtol=1e-7, atol=1e-9)
    again = jf.load(tmp_path / "run.zarr", network)
    for found in (solution.networks, again.networks, again.directions):
        np.testing.assert_array_equal(found.mask, network.mask)
        assert int(found.step) == 2
        np.testing.assert_array_equal(jax.random.key_data(found.key), [0, 0])
    solution.save(tmp_path / "saved.zarr")
    trusting = jf.load(tmp_path / "saved.zarr", trust=[__name__])
    np.testing.assert_array_equal(trusting.networks.W, solution.networks.W)
    assert jax.random.key_impl(trusting.networks.key) == jax.random.key_impl(network.key)


def test_ensembles_have_the_arrays_of_each_member():
    drawn = jf.sample_ensemble(masked(), 3, key=jax.random.key(1))
    assert drawn.mask.shape == (3, 4, 3) and drawn.mask.dtype == bool
    assert drawn.key.shape == (3,) and drawn.step.tolist() == [2, 2, 2]
    lazily = jf.Initializations(masked(), 3, key=jax.random.key(1))
    flow = lambda members: jf.gradient_flow(
        members,
        jf.Task(X, Y),
        stop=jf.Time(0.1),
        progress=False,
        **TSIT5,
    )
    held, called = flow(drawn), flow(lazily)
    iterated = flow(one.directions for one in held)
    np.testing.assert_array_equal(held.loss, called.loss)
    assert len(iterated) == 3 and held[1:].networks.key.shape == (2,)
    assert eqx.tree_equal(jf.concat([held[:1], held[1:]]).directions, held.directions)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("trained", ["W", "a"])
def test_frozen_parts_stay_and_do_not_count(trained, coordinates, tmp_path):
    network, other = two_layers(), {"W": "a", "a": "W"}[trained]
    trainable = TwoLayers(trained == "W", trained == "a")
    order = {"W": 2, "a": 1}[trained]
    assert jf.order(network, trainable=trainable) == order
    solution = jf.gradient_flow(
        network, jf.Task(X, Y), scale=0.1, stop=jf.Time(0.5), coordinates=coordinates,
        trainable=trainable, record={"norm": lambda n, t: jf.norm(n)}, record_at=[0.0],
        store=tmp_path / "run.zarr", **TIGHT,
    )  # fmt: skip
    expected = by_scipy(network, (trained,), 0.5, 0.1)
    found = getattr(solution.networks, trained)
    np.testing.assert_allclose(found, getattr(expected, trained), rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(
        getattr(solution.networks, other), getattr(network, other)
    )
    np.testing.assert_array_equal(
        getattr(solution.directions, other), getattr(network, other)
    )
    size = np.linalg.norm(getattr(network, trained))
    np.testing.assert_allclose(solution.records.values["norm"], [0.1 * size])
    np.testing.assert_allclose(np.exp(solution.log_norm), np.linalg.norm(found))
    np.testing.assert_allclose(jf.norm(solution.networks), np.linalg.norm(found))
    np.testing.assert_allclose(jf.cosine(solution.networks, solution.directions), 1.0)
    assert jf.layer_norms(solution.networks).shape == (1,)
    assert solution.settings["num_parameters"] == found.size
    assert isinstance(solution.networks, TwoLayers)
    assert solution.networks.not_trained == (f".{other}",)
    for again in (
        jf.load(tmp_path / "run.zarr", network),
        jf.load(tmp_path / "run.zarr", trust=[__name__]),
    ):
        assert eqx.tree_equal(again.directions, solution.directions)


def test_what_is_trained_tells_runs_apart(tmp_path):
    task, network = jf.Task(X, Y), two_layers()
    of = lambda filter_: jf.Simulation(
        jf.GradientFlow(), network, task, stop=jf.Time(0.1), trainable=filter_
    )
    first, all_ = of(TwoLayers(True, False)), of(eqx.is_inexact_array)
    assert first != all_ and of(None) == all_ and of(lambda leaf: leaf.ndim == 2) == first
    stored = jf.run(first, store=tmp_path / "run.zarr", progress=False)
    assert jf.Simulation.load(tmp_path / "run.zarr", trust=[__name__]) == first
    with pytest.raises(jf.StoreError, match="not_trained"):
        jf.run(all_, store=tmp_path / "run.zarr", progress=False)
    assert pickle.loads(pickle.dumps(first)) == first
    assert copy.deepcopy(stored.directions).not_trained == (".a",)


def test_a_stopped_gradient_is_seen_and_named_arrays_are_kept():
    network = two_layers(Stopped)
    drawn = jf.sample_ensemble(network, 2, key=jax.random.key(0))
    np.testing.assert_array_equal(drawn.a, np.stack([network.a, network.a]))
    np.testing.assert_allclose(jnp.sum(drawn.W**2, axis=(1, 2)), 1.0)
    assert jf.order(network) == 2
    solution = jf.gradient_flow(
        network, jf.Task(X, Y), scale=1e-2, stop=jf.Time(0.5), **TIGHT
    )
    expected = by_scipy(network, ("W",), 0.5, 1e-2)
    np.testing.assert_allclose(solution.networks.W, expected.W, rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(solution.networks.a, network.a)
    # What a caller says goes before what is seen.
    everything = jf.sample_ensemble(
        network, 1, key=jax.random.key(0), trainable=eqx.is_inexact_array
    )
    assert np.any(everything.a[0] != network.a)


@pytest.mark.parametrize(
    "call",
    [
        lambda n, t, **k: jf.gradient_descent(
            n, t, optimizer=optax.sgd(1e-2), num_steps=5, **k
        ),
        lambda n, t, **k: jf.langevin_flow(
            n, t, temperature=0.1, time=0.1, step=0.05, key=jax.random.key(0), **k
        ),
        lambda n, t, **k: jf.ncf_flow(n, t, stop=jf.RescaledTime(0.1), **k),
        lambda n, t, **k: jf.gradient_flow(
            n, t, stop=jf.Time(0.1), coordinates="block_polar", **k
        ),
        lambda n, t, **k: jf.gradient_flow(
            n, t, stop=jf.Time(0.1), stepping=jf.Stepping(diffrax.Heun(), dt0=0.05), **k
        ),
    ],
)  # fmt: skip
def test_every_run_keeps_what_is_not_trained(call):
    network = two_layers()
    ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(0))
    found = call(ensemble, jf.Task(X, Y), trainable=TwoLayers(True, False), progress=False)
    np.testing.assert_array_equal(found.networks.a, ensemble.a)
    assert np.all(found.networks.W != ensemble.W)


def test_kkt_points_and_saddles_of_a_part():
    network, task = two_layers(), jf.Task(X, Y)
    trainable = TwoLayers(True, False)
    drawn = jf.sample_ensemble(network, 4, key=jax.random.key(0), trainable=trainable)
    points = jf.find_kkt(drawn, task, progress=False)
    for one in points:
        np.testing.assert_allclose(jnp.sum(one.networks.W**2), 1.0)
        np.testing.assert_array_equal(one.networks.a, network.a)
        assert jf.kkt_residual(one.networks, task, relative=True) < 1e-9
    found = jf.saddle_to_saddle(
        network, task, scale=1e-2, max_saddles=1, trainable=trainable, progress=False
    )
    assert found.weights.shape == (1, 1, 12)


def test_wrong_filters_say_so():
    network, task = two_layers(), jf.Task(X, Y)
    run = lambda filter_: jf.gradient_flow(
        network,
        task,
        trainable=filter_,
        stop=jf.Time(1.0),
        **TSIT5,
    )
    with pytest.raises(jf.InputError, match=r"trainable: found .* nothing to train"):
        run(False)
    with pytest.raises(jf.InputError, match=r"trainable: .*equinox\.partition"):
        run({"W": True})
    many = jf.Initializations(network, 2, key=jax.random.key(0))
    with pytest.raises(jf.InputError, match=r"Initializations\(…, trainable=…\)"):
        jf.gradient_flow(many, task, trainable=True, **TSIT5)
    some = jf.Initializations(
        network, 2, key=jax.random.key(0), trainable=TwoLayers(False, True)
    )
    found = jf.gradient_flow(some[1:], task, stop=jf.Time(0.1), progress=False, **TSIT5)
    np.testing.assert_array_equal(found.networks.W[0], network.W)
    assert pickle.loads(pickle.dumps(some)).network.not_trained == (".W",)


class Tied(eqx.Module):
    """A linear autoencoder whose matrices are one array, by `equinox.nn.Shared`."""

    shared: eqx.nn.Shared

    def __call__(self, x):
        encode, decode = self.shared()
        return decode.weight @ (encode.weight @ x)


def tied_where(pair):
    return pair[1].weight


def tied_get(pair):
    return pair[0].weight.T


def test_shared_arrays_are_there_once(tmp_path):
    keys = jax.random.split(jax.random.key(0))
    encode = eqx.nn.Linear(3, 2, use_bias=False, key=keys[0])
    decode = eqx.nn.Linear(2, 3, use_bias=False, key=keys[1])
    network = Tied(eqx.nn.Shared((encode, decode), tied_where, tied_get))
    task = jf.Task(X, X)
    assert jf.order(network) == 2
    solution = jf.gradient_flow(
        network, task, scale=0.3, stop=jf.Time(0.1), store=tmp_path / "run.zarr", **TIGHT
    )
    assert solution.settings["num_parameters"] == 6

    def field(_, flat):
        matrix = flat.reshape(2, 3)
        error = X @ matrix.T @ matrix - X
        return -(matrix @ (error.T @ X + X.T @ error)).ravel()

    start = 0.3 * np.asarray(encode.weight).ravel()
    expected = solve_ivp(field, (0, 0.1), start, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    found = solution.networks.shared.pytree[0].weight
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-7, atol=1e-10)
    for again in (
        jf.load(tmp_path / "run.zarr", network),
        jf.load(tmp_path / "run.zarr", trust=[__name__, "equinox.nn._shared"]),
    ):
        np.testing.assert_array_equal(again.networks.shared.pytree[0].weight, found)


class Normed(eqx.Module):
    """Layers that are other functions in training: dropout and batch normalization."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    state: eqx.nn.State
    last: eqx.nn.Linear

    def __call__(self, x):
        hidden, _ = self.norm(self.first(x), self.state)
        return self.last(self.dropout(jnp.tanh(hidden)))


def normed():
    keys = jax.random.split(jax.random.key(0))
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode="ema")
    where = lambda tree: jax.tree_util.tree_leaves(tree)
    arrays = [
        jnp.full(a.shape, 0.5 + i) if eqx.is_inexact_array(a) else jnp.zeros_like(a)
        for i, a in enumerate(where(state))
    ]
    state = eqx.tree_at(where, state, arrays)
    first = eqx.nn.Linear(3, 4, key=keys[0])
    return Normed(first, norm, eqx.nn.Dropout(), state, eqx.nn.Linear(4, 1, key=keys[1]))


def test_layers_in_inference_mode_work_and_in_training_say_why_not():
    network, task = normed(), jf.Task(X, Y)
    with pytest.raises(jf.InputError, match="BatchNorm and Dropout in training mode"):
        jf.gradient_flow(network, task, stop=jf.Time(0.1), **TSIT5)
    inference = eqx.nn.inference_mode(network)
    solution = jf.gradient_flow(inference, task, scale=0.5, stop=jf.Time(0.1), **TIGHT)
    parameters, rest = eqx.partition(inference, lambda leaf: eqx.is_inexact_array(leaf))
    names = ("first", "norm", "last")
    trained = {name: getattr(parameters, name) for name in names}
    vector, unravel = jax.flatten_util.ravel_pytree(trained)

    @jax.jit
    def slope(flat):
        def loss(flat):
            parts = unravel(flat)
            whole = [eqx.combine(parts[name], getattr(rest, name)) for name in names]
            one = Normed(whole[0], whole[1], inference.dropout, inference.state, whole[2])
            return jnp.sum((jax.vmap(one)(jnp.asarray(X))[:, 0] - Y) ** 2) / 2

        return jax.grad(loss)(flat)

    field = lambda _, flat: -np.asarray(slope(flat))
    start = 0.5 * np.asarray(vector)
    found = solve_ivp(field, (0, 0.1), start, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    ends = {name: eqx.filter(getattr(solution.networks, name), eqx.is_inexact_array)
            for name in names}  # fmt: skip
    flat = jax.flatten_util.ravel_pytree(ends)[0]
    np.testing.assert_allclose(flat, found, rtol=1e-7, atol=1e-10)
    for after, before in zip(
        jax.tree_util.tree_leaves(solution.networks.state),
        jax.tree_util.tree_leaves(inference.state),
    ):
        np.testing.assert_array_equal(after, before)


def test_an_array_in_a_static_field_says_what_to_do():
    class Static(eqx.Module):
        W: jax.Array
        a: jax.Array
        mask: object = eqx.field(static=True)

        def __call__(self, x):
            return self.a @ jnp.tanh((self.W * self.mask) @ x)

    W, a = jnp.ones((4, 3)), jnp.ones(4)
    masks = (np.eye(4, 3) * sign for sign in (1.0, -1.0))
    with pytest.warns(UserWarning, match="static"):
        one, other = (Static(W, a, mask) for mask in masks)
    task = jf.Task(X, Y)
    jf.gradient_flow(one, task, stop=jf.Time(0.1), progress=False)
    with pytest.raises(jf.InputError, match=r"static \.mask is an array: make it"):
        jf.gradient_flow(other, task, stop=jf.Time(0.1), progress=False)
