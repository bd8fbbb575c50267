"""A run as a value: it pickles, can be cut and joined, and is told from every other."""

import copy
import functools
import pickle
import subprocess
import sys
import textwrap

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf

from . import problems
from .comparing import assert_same
from .problems import teacher_task, TSIT5

KEY = jax.random.key(3)


def simulation(num=24, *, start=0, equation=None, stop=None, record=None, **options):
    network, task = teacher_task(sizes=(3, 4, 1))
    drawn = jf.Initializations(network, num, key=KEY, start=start)
    if equation is None:
        options.setdefault("stepping", jf.Stepping(**TSIT5))
    return jf.Simulation(
        jf.GradientFlow() if equation is None else equation,
        options.pop("networks", drawn),
        options.pop("task", task),
        stop=jf.LossBelow(0.4) if stop is None else stop,
        record=record,
        **options,
    )


def run(sim, **options):
    few = jf.Schedule(width=8)
    return jf.run(sim, progress=False, **{"schedule": few, **options})


RECORD = jf.Record({"norm": jf.norm}, [0.0, 1.0, 3.0])
CASES = {
    "flow": lambda: simulation(scale=0.1, record=RECORD),
    "flow, each its own": lambda: simulation(
        scale=np.geomspace(0.1, 1.0, 24),
        stop=[jf.LossBelow(np.linspace(0.3, 0.45, 24)), jf.RescaledTime(20.0)],
        record=jf.Record({"norm": jf.norm}, np.arange(1.0, 3.0) + np.arange(24)[:, None]),
    ),
    "limit": lambda: simulation(equation=jf.CorrelationLimit(), stop=jf.Stationary(1e-4)),
    "descent": lambda: simulation(
        equation=jf.GradientDescent(optax.adam(0.01), 20, 5, jax.random.key(8)),
        stop=jf.LossBelow(0.1),
    ),
    "Langevin": lambda: simulation(
        equation=jf.Langevin(temperature=0.01, time=0.5, step=0.1, key=jax.random.key(9)),
        stop=jf.LossBelow(0.1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_two_parts_are_the_whole(case):
    sim = CASES[case]()
    whole = run(sim)
    parts = [run(sim[:9]), run(sim[9:])]
    assert_same(whole, jf.concat(parts))
    assert_same(parts[1], whole[9:])
    np.testing.assert_array_equal(parts[1].dataset["init"], np.arange(9, 24))


def test_a_part_of_a_part_and_an_ensemble():
    network, task = teacher_task(sizes=(3, 4, 1))
    ensemble = jf.sample_ensemble(network, 24, key=KEY)
    sim = simulation(networks=ensemble, task=task)
    assert_same(run(sim)[12:15], run(sim[10:20][2:5]))
    assert len(sim[10:20]) == 10
    with pytest.raises(jf.InputError, match=r"members: found \[7:5\], none of 24"):
        simulation()[7:5]
    with pytest.raises(jf.InputError, match="slice"):
        sim[3]
    with pytest.raises(jf.InputError, match="an ensemble"):
        simulation(networks=network)[0:1]


def test_initializations_are_numbered_for_ever():
    """Members beyond 2³² are others, and a run of them is what a part of a whole is."""
    first, far = (run(simulation(3, start=start)) for start in (0, 2**32))
    assert not np.any(first.loss == far.loss)
    np.testing.assert_array_equal(far.dataset["init"], 2**32 + np.arange(3))
    assert_same(run(simulation(10, start=7)), run(simulation(40)[7:17]))


@pytest.mark.parametrize("case", [c for c in CASES if c != "descent"])
def test_it_pickles(case):
    sim = CASES[case]()
    again = pickle.loads(pickle.dumps(sim))
    assert again == sim and hash(again) == hash(sim)
    assert_same(run(sim[:3]), run(again[:3]))


LEAKY = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)


@pytest.mark.parametrize("activation", [jax.nn.relu, jnp.tanh, LEAKY])
def test_functions_are_pickled_by_name(activation):
    """What jax.jit and jax.custom_jvp return cannot be pickled as it is."""
    network = eqx.nn.MLP(3, 1, 4, 2, activation, key=KEY)
    drawn = jf.Initializations(network, 3, key=KEY)
    sim = simulation(networks=drawn, stop=jf.Time(0.1))
    again = pickle.loads(pickle.dumps(sim))
    assert again == sim == copy.copy(sim) == copy.deepcopy(sim)
    np.testing.assert_array_equal(run(sim).loss, run(again).loss)


def test_members_100_to_199_in_another_process(tmp_path):
    """The halves of a run, one of them from a fresh process, are the run."""
    sim = simulation(200, scale=0.1)
    (tmp_path / "sim").write_bytes(pickle.dumps(sim))
    script = f"""
        import pickle, jax
        jax.config.update("jax_enable_x64", True)
        import jaxflow as jf
        sim = pickle.load(open({str(tmp_path / "sim")!r}, "rb"))
        few = jf.Schedule(width=8)
        solution = jf.run(sim[100:200], schedule=few, progress=False)
        solution.save({str(tmp_path / "half.zarr")!r})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    halves = [run(sim[:100]), jf.load(tmp_path / "half.zarr")]
    assert_same(run(sim), jf.concat(halves))


@pytest.mark.parametrize("case", [c for c in CASES if c != "descent"])
def test_a_store_gives_it_back(tmp_path, case):
    sim = CASES[case]()
    stored = run(sim, store=tmp_path / "run.zarr")
    again = jf.Simulation.load(tmp_path / "run.zarr")
    assert again == sim
    assert_same(stored, run(again))


def test_what_no_file_can_hold_is_run_and_not_given_back(tmp_path):
    run(CASES["descent"](), store=tmp_path / "run.zarr")
    with pytest.raises(jf.StoreError, match="simulation"):
        jf.Simulation.load(tmp_path / "run.zarr")


# -- what tells runs apart --


class Power(jf.AbstractLoss):
    weight: float
    power: int = eqx.field(static=True)

    def __call__(self, prediction, target):
        return self.weight * jnp.sum(jnp.abs(prediction - target) ** self.power)


class Level(jf.AbstractCondition):
    value: float
    which: str = eqx.field(static=True)
    needs = ("loss", "log_norm")

    def gap(self, shown):
        return self.value - shown[self.which]


def scaled(factor):
    """A recorder that closes over a number."""
    return lambda network, task: factor * jf.norm(network)


def loss_class(power):
    """Classes of one name with methods of their own."""

    if power == 2:

        class Own(jf.AbstractLoss):
            def __call__(self, prediction, target):
                return jnp.sum((prediction - target) ** 2)

    else:

        class Own(jf.AbstractLoss):
            def __call__(self, prediction, target):
                return jnp.sum((prediction - target) ** 4)

    return Own()


def calls_a_module(network, task):
    return problems.twice(jf.norm(network))


def descent(optimizer):
    return simulation(equation=jf.GradientDescent(optimizer, 5), stop=())


def with_loss(loss):
    _, task = teacher_task(sizes=(3, 4, 1))
    return simulation(task=jf.Task(task.inputs, task.targets, loss))


def recording(function):
    return simulation(record=jf.Record({"a": function}, [0.0, 1.0]))


FACTOR = 2.0


def reads_a_global(network, task):
    return FACTOR * jf.norm(network)


PAIRS = {
    "learning rate": (lambda: descent(optax.sgd(0.1)), lambda: descent(optax.sgd(0.2))),
    "optimizer": (lambda: descent(optax.sgd(0.1)), lambda: descent(optax.adam(0.1))),
    "momentum": (
        lambda: descent(optax.sgd(0.1, momentum=0.9)),
        lambda: descent(optax.sgd(0.1, momentum=0.8)),
    ),
    "schedule of rates": (
        lambda: descent(optax.sgd(optax.linear_schedule(0.1, 0.0, 5))),
        lambda: descent(optax.sgd(optax.linear_schedule(0.1, 0.0, 6))),
    ),
    "static exponent of a loss": (
        lambda: with_loss(Power(1.0, 2)),
        lambda: with_loss(Power(1.0, 4)),
    ),
    "method of a loss": (
        lambda: with_loss(loss_class(2)),
        lambda: with_loss(loss_class(4)),
    ),
    "weight of a loss": (
        lambda: with_loss(Power(1.0, 2)),
        lambda: with_loss(Power(2.0, 2)),
    ),
    "static field of a stop": (
        lambda: simulation(stop=Level(-1.0, "loss")),
        lambda: simulation(stop=Level(-1.0, "log_norm")),
    ),
    "number that a recorder closes over": (
        lambda: recording(scaled(1.0)),
        lambda: recording(scaled(2.0)),
    ),
    "default of a recorder": (
        lambda: recording(lambda network, task, a=1.0: a * jf.norm(network)),
        lambda: recording(lambda network, task, a=2.0: a * jf.norm(network)),
    ),
    "code of a recorder": (
        lambda: recording(lambda network, task: jf.norm(network) + 1),
        lambda: recording(lambda network, task: jf.norm(network) + 2),
    ),
    "argument of a partial": (
        lambda: recording(functools.partial(jf.kkt_residual, relative=True)),
        lambda: recording(functools.partial(jf.kkt_residual, relative=False)),
    ),
    "temperature": (
        lambda: CASES["Langevin"](),
        lambda: simulation(
            equation=jf.Langevin(
                temperature=0.02, time=0.5, step=0.1, key=jax.random.key(9)
            ),
            stop=jf.LossBelow(0.1),
        ),
    ),
    "key of noise": (
        lambda: simulation(
            equation=jf.GradientDescent(optax.sgd(0.1), 5, 4, jax.random.key(0)), stop=()
        ),
        lambda: simulation(
            equation=jf.GradientDescent(optax.sgd(0.1), 5, 4, jax.random.key(1)), stop=()
        ),
    ),
    "controller": (
        lambda: simulation(
            stepping=jf.Stepping(controller=diffrax.PIDController(1e-6, 1e-9))
        ),
        lambda: simulation(
            stepping=jf.Stepping(controller=diffrax.PIDController(1e-6, 1e-9, pcoeff=0.1))
        ),
    ),
    "members": (lambda: simulation(24), lambda: simulation(24, start=1)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_others_are_others(pair):
    one, other = PAIRS[pair]
    assert one() == one()
    assert one() != other()
    ours, theirs = one().identity, other().identity
    assert [name for name, text in ours.items() if theirs.get(name) != text]


@pytest.mark.parametrize("pair", ["learning rate", "static exponent of a loss"])
def test_a_store_of_another_is_refused(tmp_path, pair):
    one, other = (make() for make in PAIRS[pair])
    run(one[:4], store=tmp_path / "run.zarr")
    with pytest.raises(jf.StoreError, match="another run"):
        run(other[:4], store=tmp_path / "run.zarr")


def test_what_a_function_reads_from_around_it_counts(monkeypatch):
    before = recording(reads_a_global).identity
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert recording(reads_a_global).identity != before


def test_what_a_function_calls_in_a_module_of_ones_own_counts(monkeypatch):
    monkeypatch.setattr(problems, "twice", lambda x: 2 * x, raising=False)
    before = recording(calls_a_module).identity
    monkeypatch.setattr(problems, "twice", lambda x: 3 * x)
    assert recording(calls_a_module).identity != before


def test_an_iterator_is_gone_through_once():
    network, task = teacher_task(sizes=(3, 4, 1))
    ensemble = jf.sample_ensemble(network, 40, key=KEY)
    each = (jax.tree_util.tree_map(lambda a, i=i: a[i], ensemble) for i in range(40))
    sim = simulation(networks=each, task=task)
    assert len(run(sim)) == 40
    with pytest.raises(jf.InputError, match="gone through"):
        run(sim)


def test_grids_run_over_what_rises():
    with pytest.raises(jf.InputError, match="rises along a path"):
        simulation(record=jf.Record({"norm": jf.norm}, [0.1, 0.2], over="loss"))


def test_what_cannot_be_told_apart_is_refused():
    class Opaque:
        __slots__ = ()

        def __call__(self, network, task):
            return jf.norm(network)

    with pytest.raises(jf.InputError, match="cannot be told from another"):
        _ = recording(Opaque()).identity


def test_attributes_hide_nothing(tmp_path):
    """A caller's `scale` is not the run's, beside it or in its store."""
    attrs = {"scale": 7.0, "solver": "mine", "order": "first"}
    sim = simulation(3, scale=0.1)
    for solution in (run(sim, attrs=attrs), run(sim, attrs=attrs, store=tmp_path / "a")):
        assert solution.attrs == attrs
        assert (solution.settings["solver"], solution.settings["order"]) == ("Tsit5", 3)
        np.testing.assert_array_equal(solution.scale, 0.1)
        assert solution.dataset.attrs["solver"] == "mine"
    with pytest.raises(jf.StoreError, match="scale"):
        run(simulation(3, scale=0.2), attrs=attrs, store=tmp_path / "a")


def test_times_can_be_recorded_over():
    """`record_over="time"` for every flow that has a time."""
    grid = np.array([0.5, 2.0, 40.0])
    for coordinates in ("polar", "cartesian", "block_polar"):
        record = jf.Record({"norm": jf.norm}, grid, over="time")
        sim = simulation(
            4,
            equation=jf.GradientFlow(coordinates),
            scale=0.1,
            stop=jf.Time(50.0),
            record=record,
            stepping=jf.Stepping(**TSIT5, rtol=1e-9, atol=1e-12),
        )
        solution = run(sim)
        assert solution.dataset["norm"].dims == ("init", "time")
        for time, norm in zip(grid, solution.records.values["norm"].T):
            ended = run(
                simulation(
                    4,
                    scale=0.1,
                    stop=jf.Time(time),
                    stepping=jf.Stepping(**TSIT5, rtol=1e-9, atol=1e-12),
                )
            )
            np.testing.assert_allclose(np.log(norm), ended.log_norm, rtol=1e-6)
    noisy = run(
        simulation(4, equation=CASES["Langevin"]().equation, stop=(), record=record)
    )
    assert noisy.dataset["norm"].dims == ("init", "time")


def test_record_without_a_quantity_runs_over_that_of_the_call():
    network, task = teacher_task(sizes=(3, 4, 1))

    def call(over):
        record = jf.Record({"norm": jf.norm}, [0.0, 0.5], over)
        return jf.gradient_flow(
            network, task, stop=jf.Time(1.0), record=record, record_over="time", **TSIT5
        )

    assert call(None).records.over == "time"
    with pytest.raises(jf.InputError, match="'time' beside a Record over 'log_norm'"):
        call("log_norm")


def test_two_stops_of_one_kind_are_two():
    stop = [jf.LossBelow(1e-9), jf.LossBelow(0.4), jf.LossBelow(0.3)]
    solution = run(simulation(4, stop=stop))
    assert set(solution.status) == {"LossBelow_2"}
    status = solution.dataset["status"]
    meanings = dict(
        zip(status.attrs["flag_values"], status.attrs["flag_meanings"].split(" "))
    )
    assert {meanings[code] for code in status.values.tolist()} == {"LossBelow_2"}


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("equation", lambda: simulation(equation="gradient flow")),
        ("equation", lambda: simulation(equation=jf.GradientFlow)),
        ("stepping", lambda: simulation(stepping=diffrax.Tsit5())),
        ("record", lambda: simulation(record={"norm": jf.norm})),
        ("scale", lambda: simulation(equation=jf.CorrelationLimit(), scale=0.1)),
        (
            "stepping",
            lambda: simulation(
                equation=jf.GradientDescent(optax.sgd(0.1), 3),
                stepping=jf.Stepping(diffrax.Euler()),
            ),
        ),
        ("simulation", lambda: jf.run(jf.GradientFlow())),
    ],
)
@pytest.mark.usefixtures("as_users_have_it")
def test_wrong_parts(argument, make):
    with pytest.raises(jf.InputError) as caught:
        make()
    assert caught.value.argument == argument
