"""Points along each member's own path: what they hold, and where they are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import jaxflow as jf

from .comparing import assert_results_same, assert_same
from .compilations import compilations
from .problems import teacher_task, TSIT5
from .watching import ctrl_c_when_done, lanes_all_together

POINTS = 24
NUM = 6
RECORD = {"loss": jf.loss, "norms": jf.layer_norms}


@pytest.fixture(scope="module")
def many():
    """Members that escape at times of very different size."""
    network, task = teacher_task(sizes=(3, 4, 1))
    return jf.sample_ensemble(network, NUM, key=jax.random.key(5)), task


def follow(ensemble, task, **settings):
    default = {
        "scale": np.geomspace(1e-8, 1e-2, NUM),
        "stop": jf.LossBelow(0.3),
        "record": RECORD,
        "record_at": POINTS,
        "max_steps": 300,
        "progress": False,
        **TSIT5,
    }
    return jf.gradient_flow(ensemble, task, **default | settings)


@pytest.fixture(scope="module")
def found(many):
    return follow(*many)


def check_rows(found, points=POINTS, stepwise=False):
    """That rows go from the start to the end, in order, with nothing behind them."""
    records = found.records
    rows = np.arange(points)
    there = rows < records.count[:, None]
    assert (records.count >= 2).all()
    assert (records.count <= points).all()
    for values in [records.grid, *records.coordinates.values(), *records.values.values()]:
        assert values.shape[:2] == there.shape
        flat = values.reshape(*there.shape, -1)
        np.testing.assert_array_equal(~np.isnan(flat).any(axis=-1), there)
    time = records.grid
    assert (np.diff(time, axis=1)[there[:, 1:]] >= 0).all()
    assert (time[:, 0] == 0).all()
    last = np.arange(len(time)), records.count - 1
    log_norm = records.coordinates["log_norm"][last]
    np.testing.assert_allclose(log_norm, found.log_norm, rtol=1e-12)
    np.testing.assert_allclose(records.values["loss"][last], found.loss, rtol=1e-12)
    return last


def test_from_the_first_state_to_the_last(found):
    last = check_rows(found)
    np.testing.assert_array_equal(found.records.grid[last], found.rescaled_time)
    start = np.log(np.geomspace(1e-8, 1e-2, NUM))
    np.testing.assert_allclose(found.records.coordinates["log_norm"][:, 0], start)
    enough = found.stats.num_accepted >= POINTS
    assert enough.any()
    assert (found.records.count[enough] >= POINTS // 2).all()


def test_points_are_where_much_happens(found):
    """Physical times differ by factors of millions; the loss is seen to fall in each."""
    assert np.ptp(found.log_time) > np.log(1e6)
    loss = found.records.values["loss"]
    first, last = loss[:, :1], found.loss[:, None]
    fallen = (first - loss) / (first - last)
    assert (np.sum((fallen > 0.05) & (fallen < 1), axis=1) >= 2).all()
    assert (np.nanmax(np.diff(fallen, axis=1), axis=1) < 0.7).all()


@pytest.mark.parametrize("coordinates", ["polar", "cartesian"])
def test_rows_are_values_of_the_path(many, coordinates):
    """What is recorded in a row is what a run that ends at its time gives."""
    ensemble, task = many
    settings = {"scale": 0.5, "coordinates": coordinates, "rtol": 1e-9, "atol": 1e-12}
    settings |= {"max_steps": 3000}
    records = follow(ensemble, task, **settings).records
    one = jax.tree_util.tree_map(lambda leaf: leaf[2:3], ensemble)
    num = int(records.count[2])
    again = jax.tree_util.tree_map(lambda leaf: jnp.repeat(leaf, num - 1, axis=0), one)
    ends = records.grid[2, 1:num]
    ended = jf.gradient_flow(again, task, stop=jf.RescaledTime(ends), **settings, **TSIT5)
    np.testing.assert_allclose(records.values["loss"][2, 1:num], ended.loss, rtol=1e-6)
    np.testing.assert_allclose(
        records.coordinates["log_norm"][2, 1:num], ended.log_norm, atol=1e-6
    )


def test_rows_against_another_integrator():
    """A plain module with biases, against SciPy's DOP853."""
    make = lambda key: eqx.nn.MLP(2, "scalar", 4, 1, jnp.tanh, key=key)
    network = make(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (10, 2))
    task = jf.Task(x, x[:, 0] * x[:, 1])
    stop = [jf.LossBelow(1.0), jf.Time(3.0)]
    found = jf.gradient_flow(
        network,
        task,
        stop=stop,
        rtol=1e-9,
        atol=1e-12,
        record={"loss": jf.loss},
        record_at=15,
        ensemble=False,
        **TSIT5,
    )
    num = int(found.records.count)
    assert found.dataset["time"].dims == ("record",)
    weights, rebuild = jax.flatten_util.ravel_pytree(eqx.filter(network, eqx.is_array))
    rest = eqx.filter(network, eqx.is_array, inverse=True)

    def loss_of(vector):
        out = jax.vmap(eqx.combine(rebuild(vector), rest))(x)
        return jnp.sum((out - x[:, 0] * x[:, 1]) ** 2) / 2

    field = jax.jit(jax.grad(loss_of))
    times = found.dataset["time"].values[:num]
    path = solve_ivp(
        lambda t, w: -np.asarray(field(w)),
        (0.0, times[-1]),
        np.asarray(weights),
        "DOP853",
        t_eval=times,
        rtol=1e-11,
        atol=1e-13,
    )
    losses = [float(loss_of(w)) for w in path.y.T]
    np.testing.assert_allclose(found.records.values["loss"][:num], losses, rtol=1e-7)


def test_nothing_depends_on_how_it_is_run(many, found, tmp_path):
    ensemble, task = many
    other = jf.Schedule(width=16, steps_per_call=3)
    assert_same(found, follow(ensemble, task, schedule=other))
    sim = jf.Simulation(
        jf.GradientFlow(),
        ensemble,
        task,
        scale=np.geomspace(1e-8, 1e-2, NUM),
        stop=jf.LossBelow(0.3),
        stepping=jf.Stepping(**TSIT5, max_steps=300),
        record=jf.Record(RECORD, POINTS),
    )
    assert_same(found, jf.concat([jf.run(sim[:2]), jf.run(sim[2:])]))
    # Stopped when two members were done, and gone on with from the lanes in flight.
    store = tmp_path / "run.zarr"
    slow = jf.Schedule(width=8, steps_per_call=2, checkpoint_seconds=1e3)
    with ctrl_c_when_done(2):
        follow(ensemble, task, store=store, schedule=slow)
    stored = follow(ensemble, task, store=store, schedule=slow)
    assert_same(found, stored)
    assert_same(found, jf.load(store))


def test_result_of_members(found, tmp_path):
    found.save(tmp_path / "found.zarr")
    loaded = jf.load(tmp_path / "found.zarr")
    assert_results_same(loaded, found)
    assert_results_same(jf.concat([found[:1], found[1], found[2:]]), found)
    one = loaded[3]
    assert one.dataset["loss"].dims == ("record",)
    assert one.dataset["norms"].dims == ("record", "layer")
    assert one.records.count == found.records.count[3]
    np.testing.assert_array_equal(one.records.grid, found.records.grid[3])
    dataset = found.dataset
    assert dataset["loss"].dims == ("init", "record")
    for name in ("rescaled_time", "time", "log_time", "log_norm"):
        assert dataset.coords[name].dims == ("init", "record")
    np.testing.assert_array_equal(dataset["num_records"], found.records.count)
    assert "points of each path" in str(found)


def test_lanes_together_record_the_same(many, found):
    with lanes_all_together():
        together = follow(*many, record={"loss": lambda n, t: jf.loss(n, t)})
    np.testing.assert_array_equal(together.records.count, found.records.count)
    np.testing.assert_allclose(
        together.records.values["loss"], found.records.values["loss"], rtol=1e-12
    )


def test_only_shapes_are_compiled(many):
    ensemble, task = many
    every = lambda k, steps: follow(
        ensemble,
        task,
        record=jf.Record({"loss": jf.loss}, every=k),
        record_at=None,
        max_steps=steps,
    )
    every(10, 80)
    follow(ensemble, task)
    with compilations() as compiled:
        follow(ensemble, task, scale=0.1, stop=jf.LossBelow(0.2))
        every(20, 160)  # as many rows
    assert compiled == []


def test_every_few_steps(many):
    ensemble, task = many
    record = jf.Record({"loss": jf.loss}, every=7)
    settings = {"record_at": None, "max_steps": 60}
    found = follow(ensemble, task, record=record, **settings)
    check_rows(found, 60 // 7 + 2)
    steps = found.stats.num_accepted
    # The start, every seventh step, and the end unless it is one of these.
    np.testing.assert_array_equal(found.records.count, 1 + -(-steps // 7))
    all_of_them = follow(
        ensemble, task, record=jf.Record({"loss": jf.loss}, every=1), **settings
    )
    np.testing.assert_array_equal(all_of_them.records.count, 1 + steps)
    for member, num in enumerate(found.records.count):
        one, other = (f.records.values["loss"][member] for f in (found, all_of_them))
        np.testing.assert_allclose(one[: num - 1], other[::7][: num - 1], rtol=1e-12)


@pytest.mark.parametrize("over", ["log_time", "log_norm"])
def test_evenly_over_a_quantity(many, over):
    found = follow(*many, record_over=over, scale=1e-3, record_at=40)
    assert found.records.over == over
    assert found.dataset[over].dims == ("init", "record")
    where = found.records.grid
    if over == "log_time":  # which begins at minus infinity
        where = where[:, 1:]
    gaps = np.diff(where, axis=1)
    whole = np.nanmax(where, axis=1) - np.nanmin(where, axis=1)
    assert (found.records.count >= 12).all()
    assert (np.nanmax(gaps, axis=1) < 0.25 * whole).all()


def test_descent_has_every_so_many_updates(many):
    ensemble, task = many
    settings = {"optimizer": optax.adam(1e-2), "progress": False, "scale": 0.5}
    found = jf.gradient_descent(
        ensemble, task, num_steps=100, record={"loss": jf.loss}, record_at=20, **settings
    )
    # Rows are two, four, … updates apart, until twenty are enough.
    expected = [*np.arange(0, 100, 8), 100]
    assert (found.records.count == len(expected)).all()
    for member in range(NUM):
        clock = found.records.coordinates["clock"][member, : len(expected)]
        np.testing.assert_allclose(clock, expected, rtol=1e-14)
    ended = jf.gradient_descent(ensemble, task, num_steps=8, **settings)
    np.testing.assert_allclose(found.records.values["loss"][:, 1], ended.loss, rtol=1e-12)
    assert found.dataset["loss"].dims == ("init", "record")
    assert "time" not in found.dataset.coords


def test_noise_and_the_limit_are_recorded(many):
    ensemble, task = many
    noisy = jf.langevin_flow(
        ensemble,
        task,
        temperature=0.01,
        time=1.0,
        step=0.05,
        key=jax.random.key(1),
        record={"loss": jf.loss},
        record_at=30,
    )
    check_rows(noisy, 30)
    assert (noisy.records.count == 21).all()
    times = np.tile(np.arange(21) / 20, (NUM, 1))
    np.testing.assert_allclose(noisy.records.grid[:, :21], times, atol=1e-12)
    limit = jf.ncf_flow(ensemble, task, record={"norm": jf.norm}, record_at=POINTS)
    last = np.arange(NUM), limit.records.count - 1
    norms = limit.records.values["norm"]
    np.testing.assert_allclose(norms[last], np.exp(limit.log_norm), rtol=1e-12)
    np.testing.assert_allclose(norms[:, 0], 1.0, rtol=1e-12)
    # Growth by many e-folds is seen all along.
    grown = np.diff(np.log(norms), axis=1)
    assert (np.nanmax(grown, axis=1) < 0.5 * limit.log_norm).all()


def test_steps_of_many_stages_are_recorded(many):
    """A stabilized method makes a step in several attempts."""
    ensemble, task = many
    settings = {"solver": jf.solvers.RKC2(), "scale": 1e-2}
    found = follow(ensemble, task, **settings)
    last = check_rows(found)
    np.testing.assert_array_equal(found.records.grid[last], found.rescaled_time)
    without = follow(ensemble, task, record=None, record_at=None, **settings)
    np.testing.assert_array_equal(found.log_norm, without.log_norm)


def test_members_that_end_at_their_start_and_zero_weights(many):
    ensemble, task = many
    zero = jax.tree_util.tree_map(lambda leaf: leaf.at[1].set(0.0), ensemble)
    found = follow(zero, task, stop=[jf.LossBelow(0.3), jf.RescaledTime(1e-3)], scale=0.1)
    records = found.records
    assert (records.count >= 2).all()
    assert records.coordinates["log_norm"][1, 0] == -np.inf
    assert (records.values["loss"][1, : records.count[1]] == found.loss[1]).all()
    at_once = follow(ensemble, task, stop=jf.LossBelow(1e3))
    assert (at_once.records.count == 1).all()
    np.testing.assert_allclose(at_once.records.values["loss"][:, 0], at_once.loss)
    assert np.isnan(at_once.records.values["loss"][:, 1:]).all()


def test_single_precision():
    network, task = teacher_task(sizes=(3, 4, 1), dtype=jnp.float32)
    ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(5))
    found = follow(ensemble, task, scale=1e-3, record={"loss": jf.loss})
    assert found.records.values["loss"].dtype == np.float32
    assert (found.records.count >= POINTS // 2).all()
    assert (np.diff(found.records.grid, axis=1) < 0).sum() == 0


@pytest.mark.parametrize("at", [[0.0, 0.1, 1e3], 12], ids=["grid", "path"])
def test_whole_networks(many, tmp_path, at):
    """As networks in memory, in a store, and from a file."""
    ensemble, task = many
    pair = lambda network, task: {"norm": jf.norm(network), "also": jf.layer_norms(network)}
    settings = {"scale": 0.1, "stop": jf.RescaledTime(2.0), "record_at": at}
    settings["record"] = {"weights": jf.weights, "pair": pair, "norm": jf.norm}
    found = follow(ensemble, task, **settings)
    networks = found.records.values["weights"]
    assert type(networks) is jf.FeedForward
    assert networks.weights[0].shape[:2] == (NUM, found.records.grid.shape[-1])
    norms = jax.vmap(jax.vmap(lambda network: jf.norm(network)))(networks)
    np.testing.assert_allclose(norms, found.records.values["norm"], rtol=1e-12)
    both = found.records.values["pair"]
    np.testing.assert_array_equal(both["norm"], found.records.values["norm"])
    start = networks.weights[1][:, 0] / 0.1
    np.testing.assert_allclose(start, ensemble.weights[1], rtol=1e-12)
    variable = found.dataset["weights_weights_0"]
    assert variable.dims[2:] == ("weights_weights_0_0", "weights_weights_0_1")
    np.testing.assert_array_equal(variable, networks.weights[0])

    stored = follow(ensemble, task, store=tmp_path / "run.zarr", **settings)
    found.save(tmp_path / "found.zarr")
    loaded = jf.load(tmp_path / "found.zarr")
    parts = [found[:2], loaded[2], stored[3:]]
    for other in (stored, loaded, jf.load(tmp_path / "run.zarr"), jf.concat(parts)):
        for name, values in found.records.values.items():
            again = other.records.values[name]
            structures = [jax.tree_util.tree_structure(v) for v in (values, again)]
            assert structures[0] == structures[1]
            jax.tree_util.tree_map(np.testing.assert_array_equal, values, again)
    loaded[1:3].save(tmp_path / "some.zarr")
    some = jf.load(tmp_path / "some.zarr").records.values["weights"].weights[0]
    np.testing.assert_array_equal(some, networks.weights[0][1:3])


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("record_at", {"record_at": 1}),
        ("record_at", {"record_at": 2**21}),
        ("record_at", {"record_at": 10, "record": jf.Record(RECORD, 5)}),
        (
            "record_over",
            {
                "record_over": "time",
                "record": jf.Record(RECORD, [1.0], over="log_time"),
                "record_at": None,
            },
        ),
        (
            "every",
            {"record": jf.Record(RECORD, every=1), "record_at": None, "max_steps": 2**30},
        ),
        ("record", {"record": {"num_records": jf.norm}}),
    ],
)
def test_refused(many, argument, change):
    with pytest.raises(jf.InputError, match=f"^{argument}"):
        follow(*many, **change)
