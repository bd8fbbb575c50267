"""Data of any form: whole numbers, pytrees, sequences, weights, each member's own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import jaxflow as jf
from jaxflow.runs import _storing

from .problems import TSIT5
from .test_trained import by_scipy, COORDINATES, TIGHT, two_layers, TwoLayers, X, Y

RANDOM = np.random.default_rng(3)


def by_hand(network, loss, time, scale=1.0):
    """All inexact arrays after gradient flow of a loss of the network, by SciPy alone."""
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)
    vector, unravel = jax.flatten_util.ravel_pytree(parameters)
    of = lambda flat: loss(eqx.combine(unravel(flat), rest))
    slope = jax.jit(jax.grad(of))
    field = lambda _, flat: -np.asarray(slope(flat))
    start = scale * np.asarray(vector)
    found = solve_ivp(field, (0, time), start, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    return found, of(jnp.asarray(found))


def flat(network):
    return jax.flatten_util.ravel_pytree(eqx.filter(network, eqx.is_inexact_array))[0]


class Tokens(eqx.Module):
    """A bag of tokens in a context, `⟨Σ_t e_t, W c⟩`: homogeneous of order 2."""

    embedding: jax.Array
    W: jax.Array

    def __call__(self, x):
        tokens, context = x["tokens"], x["context"]
        assert jnp.issubdtype(tokens.dtype, jnp.integer)
        return jnp.sum(self.embedding[tokens], axis=0) @ (self.W @ context)


class Sequence(eqx.Module):
    """Scores of classes at every step of a sequence, `V σ(W x_t)`; and a number."""

    W: jax.Array
    V: jax.Array
    both: bool = eqx.field(static=True, default=False)

    def __call__(self, x):
        scores = jax.vmap(lambda h: self.V @ jnp.tanh(self.W @ h))(x)
        return {"scores": scores, "sum": jnp.sum(scores)} if self.both else scores


def sequence(both=False):
    return Sequence(
        jnp.asarray(RANDOM.normal(size=(4, 2))),
        jnp.asarray(RANDOM.normal(size=(3, 4))),
        both,
    )


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_tokens_and_several_inputs(coordinates, tmp_path):
    network = Tokens(
        jnp.asarray(RANDOM.normal(size=(5, 3))), jnp.asarray(RANDOM.normal(size=(3, 2)))
    )
    tokens, context = RANDOM.integers(0, 5, size=(8, 4)), RANDOM.normal(size=(8, 2))
    y = RANDOM.normal(size=8)
    task = jf.Task({"tokens": tokens, "context": context}, y)
    few = task.subset(np.array([0, 3]))
    assert task.num_samples == 8 and few.inputs["tokens"].shape == (2, 4)
    assert jf.order(network, task.inputs) == 2
    solution = jf.gradient_flow(
        network, task, scale=0.3, stop=jf.Time(0.2), coordinates=coordinates,
        store=tmp_path / "run.zarr", **TIGHT,
    )  # fmt: skip

    def loss(one):
        outputs = jax.vmap(one)({"tokens": jnp.asarray(tokens), "context": context})
        return jnp.sum((outputs - y) ** 2) / 2

    expected, at_end = by_hand(network, loss, 0.2, 0.3)
    np.testing.assert_allclose(flat(solution.networks), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solution.loss, at_end, rtol=1e-8)
    again = jf.Simulation.load(tmp_path / "run.zarr", trust=[__name__])
    assert again.task.inputs["tokens"].dtype == task.inputs["tokens"].dtype
    np.testing.assert_array_equal(again.task.inputs["tokens"], tokens)


def test_whole_numbers_are_no_floats_for_networks_of_jaxflow():
    whole = RANDOM.integers(-2, 3, size=(6, 3))
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
    ends = [
        jf.gradient_flow(
            network, jf.Task(x, Y[:6]), stop=jf.Time(0.1), progress=False, **TSIT5
        )
        for x in (whole, whole.astype(float))
    ]
    np.testing.assert_array_equal(ends[0].loss, ends[1].loss)


def test_sequences_of_labels_and_class_weights():
    network, x = sequence(), RANDOM.normal(size=(6, 5, 2))
    labels, weights = RANDOM.integers(0, 3, size=(6, 5)), np.array([1.0, 0.0, 3.0])
    counts = np.array([1.0, 2.0, 0.0, 1.0, 0.5, 1.0])
    task = jf.Task(x, labels, jf.CrossEntropyLoss(weights), sample_weights=counts)
    solution = jf.gradient_flow(network, task, stop=jf.Time(0.2), **TIGHT)

    def loss(one):
        logs = jax.nn.log_softmax(jax.vmap(one)(jnp.asarray(x)), axis=-1)
        of_label = jnp.take_along_axis(logs, jnp.asarray(labels)[..., None], -1)[..., 0]
        return -jnp.sum(counts[:, None] * weights[labels] * of_label)

    expected, at_end = by_hand(network, loss, 0.2)
    np.testing.assert_allclose(flat(solution.networks), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(jf.loss(solution.networks, task), at_end, rtol=1e-8)
    # In the logarithm of the loss as well, of which polar coordinates are made.
    outputs = task.shaped_for(network).outputs(network)
    shaped = task.shaped_for(network)
    np.testing.assert_allclose(shaped.log_loss(outputs), np.log(loss(network)), rtol=1e-12)
    np.testing.assert_allclose(
        shaped.relative_residuals(outputs) * loss(network),
        shaped.residuals(outputs),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_weights_of_samples_in_a_loss_with_margins(coordinates):
    network = jf.FeedForward((3, 4, 2), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
    labels, counts = (
        (X[:, 0] > 0).astype(int),
        RANDOM.random(12) * (RANDOM.random(12) > 0.3),
    )
    task = jf.Task(X, labels, jf.CrossEntropyLoss([1.0, 4.0]), sample_weights=counts)
    solution = jf.gradient_flow(
        network, task, stop=jf.Time(0.5), coordinates=coordinates, **TIGHT
    )

    def loss(one):
        logs = jax.nn.log_softmax(jax.vmap(one)(jnp.asarray(X)), axis=-1)
        factor = counts * np.array([1.0, 4.0])[labels]
        return -jnp.sum(factor * logs[np.arange(12), labels])

    expected, at_end = by_hand(network, loss, 0.5)
    np.testing.assert_allclose(flat(solution.networks), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solution.loss, at_end, rtol=1e-8)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_weights_of_samples_are_those_of_the_sum(coordinates):
    network, weights = two_layers(), np.arange(12) % 3 / 2
    task = jf.Task(X, Y, sample_weights=weights)
    solution = jf.gradient_flow(
        network, task, scale=0.2, stop=jf.Time(0.3), coordinates=coordinates, **TIGHT
    )
    expected = by_scipy(network, ("W", "a"), 0.3, 0.2, weights=weights)
    np.testing.assert_allclose(solution.networks.W, expected.W, rtol=1e-7, atol=1e-9)
    # Whole weights are samples that are there so many times.
    rows = np.repeat(np.arange(12), np.arange(12) % 3)
    twice = jf.Task(X, Y, sample_weights=np.arange(12) % 3)
    np.testing.assert_allclose(
        jf.loss(network, twice), jf.loss(network, jf.Task(X[rows], Y[rows]))
    )
    np.testing.assert_allclose(
        jf.ncf(network, twice), jf.ncf(network, jf.Task(X[rows], Y[rows]))
    )


class OfPair(jf.AbstractLoss):
    """A loss of a network that gives several arrays, and of targets in a tuple."""

    def __call__(self, prediction, target):
        (scores, mask), total = target, prediction["sum"]
        assert jnp.issubdtype(mask.dtype, jnp.integer)
        each = jnp.sum((prediction["scores"] - scores) ** 2, axis=-1)
        return jnp.sum(jnp.where(mask > 0, each, 0.0)) + total**2


def test_outputs_and_targets_of_any_form():
    network, x = sequence(both=True), RANDOM.normal(size=(4, 5, 2))
    scores, mask = RANDOM.normal(size=(4, 5, 3)), RANDOM.integers(0, 2, size=(4, 5))
    task = jf.Task(x, (scores, mask), OfPair())
    solution = jf.gradient_flow(network, task, stop=jf.Time(0.05), **TIGHT)

    def loss(one):
        found = jax.vmap(one)(jnp.asarray(x))
        each = jnp.sum((found["scores"] - scores) ** 2, axis=-1)
        return jnp.sum(jnp.where(mask > 0, each, 0.0)) + jnp.sum(found["sum"] ** 2)

    expected, at_end = by_hand(network, loss, 0.05)
    np.testing.assert_allclose(flat(solution.networks), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solution.loss, at_end, rtol=1e-8)
    with pytest.raises(jf.InputError, match="targets: found several arrays"):
        jf.Task(x, (scores, mask))
    with pytest.raises(jf.InputError, match=r"networks: .*OfPair of outputs"):
        jf.gradient_flow(sequence(), task, stop=jf.Time(0.05), **TSIT5)


class Weighted(jf.AbstractLoss):
    def __call__(self, prediction, target):
        return 0.5 * target[1] * (prediction[0] - target[0]) ** 2


def test_a_loss_of_ones_own_decides_what_fits():
    weights = RANDOM.random(12)
    own = jf.Task(X, np.stack([Y, weights], 1), loss=Weighted())
    network = two_layers()
    ends = [
        jf.gradient_flow(network, task, stop=jf.Time(0.1), progress=False, **TSIT5).loss
        for task in (own, jf.Task(X, Y, sample_weights=weights))
    ]
    np.testing.assert_allclose(ends[0], ends[1])


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_each_member_has_data_and_frozen_arrays_of_its_own(coordinates, tmp_path):
    ensemble = eqx.filter_vmap(two_layers_at)(jnp.arange(3))
    x, y = RANDOM.normal(size=(3, 6, 3)), RANDOM.normal(size=(3, 6))
    weights = RANDOM.random((3, 6))
    tasks = jf.TaskPerMember(x, y, sample_weights=weights)
    sim = jf.Simulation(
        jf.GradientFlow(coordinates), ensemble, tasks, scale=0.3, stop=[jf.Time(0.2)],
        trainable=TwoLayers(True, False), stepping=jf.Stepping(rtol=1e-10, atol=1e-13),
        record=jf.Record({"loss": jf.loss, "a": first_entry}, [0.0, 0.2], "time"),
    )  # fmt: skip
    pools = jf.Schedule(width=2, pools_per_device=1)  # so that lanes are refilled
    found = jf.run(sim, schedule=pools, progress=False)
    for row in range(3):
        one = TwoLayers(ensemble.W[row], ensemble.a[row])
        expected = by_scipy(one, ("W",), 0.2, 0.3, x[row], y[row], weights[row])
        np.testing.assert_allclose(found.networks.W[row], expected.W, rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(found.networks.a[row], one.a)
        np.testing.assert_allclose(
            found.loss[row], jf.loss(found[row].networks, tasks[row]), rtol=1e-9
        )
    a = np.repeat(np.asarray(ensemble.a)[:, :1], 2, axis=1)
    np.testing.assert_array_equal(found.records.values["a"], a)
    np.testing.assert_allclose(found.records.values["loss"][:, 1], found.loss, rtol=1e-6)
    parts = jf.concat([jf.run(sim[:1], progress=False), jf.run(sim[1:], progress=False)])
    np.testing.assert_allclose(parts.loss, found.loss, rtol=1e-12)
    np.testing.assert_allclose(
        eqx.filter_vmap(jf.loss)(found.networks, tasks.each), found.loss, rtol=1e-9
    )
    stored = jf.run(sim, store=tmp_path / "run.zarr", progress=False)
    np.testing.assert_array_equal(stored[1:].directions.a, ensemble.a[1:])
    assert jf.Simulation.load(tmp_path / "run.zarr", trust=["tests"]) == sim
    other = jf.TaskPerMember(x, y + 1.0, sample_weights=weights)
    assert sim != jf.Simulation(
        jf.GradientFlow(coordinates), ensemble, other, scale=0.3, stop=[jf.Time(0.2)]
    )


def first_entry(network, task):
    return network.a[0]


def two_layers_at(seed):
    key = jax.random.key(seed)
    return TwoLayers(jax.random.normal(key, (4, 3)), jax.random.normal(key, (4,)))


def test_every_run_has_data_of_each_members_own():
    ensemble = eqx.filter_vmap(two_layers_at)(jnp.arange(2))
    x, y = RANDOM.normal(size=(2, 6, 3)), RANDOM.normal(size=(2, 6))
    tasks = jf.TaskPerMember(x, y)
    quiet = {"progress": False}
    key = {"key": jax.random.key(0)}
    noise = {"temperature": 0.1, "time": 0.1, "step": 0.05, **key}
    few = {"optimizer": optax.sgd(1e-2), "num_steps": 3, "batch_size": 2, **key}
    for call in (
        lambda n, t: jf.gradient_descent(
            n, t, optimizer=optax.adam(1e-2), num_steps=3, **quiet
        ),
        lambda n, t: jf.gradient_descent(n, t, **few, **quiet),
        lambda n, t: jf.langevin_flow(n, t, **noise, **quiet),
        lambda n, t: jf.ncf_flow(n, t, stop=jf.RescaledTime(1e-3), **quiet),
    ):
        together = call(ensemble, tasks)
        alone = call(jax.tree_util.tree_map(lambda leaf: leaf[:1], ensemble), tasks[0])
        np.testing.assert_allclose(together.log_norm[0], alone.log_norm[0], rtol=1e-9)


def test_wrong_data_of_members_say_so(as_users_have_it):
    x, y = RANDOM.normal(size=(2, 6, 3)), RANDOM.normal(size=(2, 6))
    tasks, network = jf.TaskPerMember(x, y), two_layers()
    with pytest.raises(
        jf.InputError, match="task: found tasks of 2 members for one network"
    ):
        jf.gradient_flow(network, tasks, stop=jf.Time(1.0), **TSIT5)
    drawn = jf.sample_ensemble(network, 3, key=jax.random.key(0))
    with pytest.raises(jf.InputError, match="task: found tasks of 2 members for 3 members"):
        jf.gradient_flow(drawn, tasks, stop=jf.Time(1.0), **TSIT5)
    with pytest.raises(jf.InputError, match=r"task\[0\] is that of one"):
        jf.loss(network, tasks)
    with pytest.raises(jf.InputError, match=r"targets: .*leading axes"):
        jf.TaskPerMember(x, y[:, :5])
    with pytest.raises(jf.InputError, match="sample_weights"):
        jf.TaskPerMember(x, y, sample_weights=np.zeros((2, 6)))
    with pytest.raises(jf.InputError, match="sample_weights: found -1"):
        jf.Task(X, Y, sample_weights=-np.ones(12))
    with pytest.raises(jf.InputError, match="class_weights"):
        jf.CrossEntropyLoss([[1.0]])
    other = eqx.filter_vmap(two_layers_at)(jnp.arange(2))
    with pytest.raises(jf.InputError, match="differ from member to member"):
        jf.find_kkt(other, jf.Task(X, Y), trainable=TwoLayers(True, False))


def test_a_killed_run_goes_on_with_what_is_each_members_own(tmp_path, monkeypatch):
    many = 12
    ensemble = eqx.filter_vmap(two_layers_at)(jnp.arange(many))
    x, y = RANDOM.normal(size=(many, 6, 3)), RANDOM.normal(size=(many, 6))
    ends = jf.Time(np.where(np.arange(many) % 2, 0.02, 0.5))
    sim = jf.Simulation(
        jf.GradientFlow(), ensemble, jf.TaskPerMember(x, y), scale=0.1, stop=[ends],
        trainable=TwoLayers(False, True),
        record=jf.Record({"loss": jf.loss}, [0.01], "time"),
    )  # fmt: skip
    whole = jf.run(sim, progress=False)
    schedule = jf.Schedule(width=8, steps_per_call=4, checkpoint_seconds=1e-3)
    add = _storing.StoreSink.add

    def killed(sink, indices, outcome):
        add(sink, indices, outcome)
        raise KeyboardInterrupt

    run = lambda: jf.run(
        sim, store=tmp_path / "run.zarr", schedule=schedule, progress=False
    )
    with monkeypatch.context() as patch:
        patch.setattr(_storing.StoreSink, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    found = run()
    np.testing.assert_allclose(found.loss, whole.loss, rtol=1e-9)
    np.testing.assert_array_equal(found.directions.W, ensemble.W)
    np.testing.assert_allclose(
        found.records.values["loss"], whole.records.values["loss"], rtol=1e-9
    )
