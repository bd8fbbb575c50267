"""Solutions whose members go on: as if they had never stopped, to the last bit."""

import pickle
import shutil

import diffrax
import equinox as eqx
import jax
import numpy as np
import optax
import pytest
import zarr

import jaxflow as jf
from jaxflow.stores import CheckedStore

from .comparing import assert_same
from .stored_calls import chunks_of
from .watching import ctrl_c_when_done

KEY = jax.random.key(0)
NUM = 5
QUIET = {"schedule": jf.Schedule(width=4), "progress": False}
GRID = {"record": {"norm": jf.norm}, "record_at": np.linspace(0.0, 40.0, 15)}
PATH = {"record": {"norm": jf.norm}, "record_at": 12}


def problem(power=2):
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, power), key=KEY)
    inputs = jf.data.sphere_points(10, 3, key=KEY)
    return network, jf.data.teacher_student(network, inputs, target_norm=1.0)


def ensemble(power=2):
    return jf.sample_ensemble(problem(power)[0], NUM, key=KEY)


def flow(store=None, networks=None, *, power=2, **settings):
    defaults = {"solver": diffrax.Tsit5(), "scale": 1e-2, **PATH}
    given = ensemble(power) if networks is None else networks
    return jf.gradient_flow(
        given, problem(power)[1], store=store, **defaults | QUIET | settings
    )


SHORT = {"stop": [jf.LossBelow(0.3), jf.RescaledTime(3.0)]}
LONG = {"stop": [jf.LossBelow(0.1), jf.RescaledTime(30.0)]}
"""Some members end by their loss and some by the time, in both runs."""


def limit(**settings):
    return jf.ncf_flow(ensemble(), problem()[1], **PATH, **QUIET, **settings)


def descent(**settings):
    rate = optax.cosine_decay_schedule(1e-2, 60)
    optimizer = optax.adam(rate)
    call = {"optimizer": optimizer, **PATH, **QUIET, **settings}
    return jf.gradient_descent(ensemble(), problem()[1], **call)


def langevin(**settings):
    call = {"temperature": 0.01, "step": 0.1, "key": KEY, **PATH, **QUIET, **settings}
    return jf.langevin_flow(ensemble(), problem()[1], **call)


def cartesian(**settings):
    record = jf.Record({"norm": jf.norm}, every=3)
    call = {"coordinates": "cartesian", "record": record, "record_at": None, **settings}
    return flow(stop=jf.Time(1e4), **call)


def kinked(**settings):
    return flow(power=1, solver="auto", **GRID, **settings)


CASES = {
    "polar": (flow, jf.gradient_flow, SHORT, LONG),
    "cartesian": (cartesian, jf.gradient_flow, {"max_steps": 20}, {"max_steps": 60}),
    "kinked": (
        kinked,
        jf.gradient_flow,
        {"stop": jf.RescaledTime(3.0)},
        {"stop": jf.RescaledTime(6.0)},
    ),
    "limit": (
        limit,
        jf.ncf_flow,
        {"stop": jf.Stationary(1e-2)},
        {"stop": jf.Stationary(1e-8)},
    ),
    "descent": (descent, jf.gradient_descent, {"num_steps": 20}, {"num_steps": 45}),
    "langevin": (langevin, jf.langevin_flow, {"time": 1.03}, {"time": 2.51}),
}


@pytest.mark.filterwarnings("ignore::jaxflow.RunWarning")
@pytest.mark.parametrize("case", CASES)
def test_two_stretches_are_one_run(case):
    """The last step before the end of the first, shortened or not, leaves no trace."""
    run, goes_on, short, long = CASES[case]
    first = run(**short)
    both = goes_on(first, **long, **QUIET)
    whole = run(**long)
    assert np.all(whole.stats.num_steps > first.stats.num_steps)
    assert_same(both, whole)
    assert both.settings == whole.settings


@pytest.fixture(scope="module")
def first():
    return flow(**SHORT)


@pytest.fixture(scope="module")
def whole():
    return flow(**LONG)


def on(solution, **settings):
    return jf.gradient_flow(solution, **QUIET, **settings)


def test_some_members_go_on_alone(first, whole):
    assert_same(on(first[2:4], **LONG), whole[2:4])
    assert_same(on(first[[4, 1]], **LONG), whole[[4, 1]])
    assert_same(on(first[3], **LONG), whole[3])
    assert_same(on(jf.concat([first[3:], first[:3]]), **LONG), whole[[3, 4, 0, 1, 2]])
    assert_same(on(on(first[1:], **LONG)[:2], **LONG), whole[1:3])


def test_each_member_may_have_a_stop_of_its_own(first):
    times = np.array([10.0, 20.0, 30.0])
    one_by_one = [
        flow(stop=[jf.LossBelow(1e-3), jf.RescaledTime(time)])[2 + row]
        for row, time in enumerate(times)
    ]
    stop = [jf.LossBelow(1e-3), jf.RescaledTime(times)]
    for member, expected in zip(on(first[2:], stop=stop), one_by_one, strict=True):
        assert_same(member, expected)


def test_the_same_stop_again_changes_nothing(first):
    assert_same(on(first), first)
    assert_same(on(first, max_steps=20_000), first)


def test_other_conditions_than_before(first):
    """Rounding apart, what one run under them would have given."""
    stop = [jf.LossBelow(0.05), jf.NormAbove(50.0)]
    both, one_run = on(first, stop=stop), flow(stop=stop)
    assert both.status.tolist() == one_run.status.tolist()
    np.testing.assert_allclose(both.loss, one_run.loss, rtol=1e-9)


def test_members_of_many_kinds_go_on():
    """Drawn ones, some with data of their own, a network without an axis, in a stretch
    that ends at the start."""
    network, task = problem()
    drawn = jf.Initializations(network, 3, key=KEY)
    first = flow(networks=drawn, stop=jf.RescaledTime(1e-9))
    assert_same(on(first, **LONG), flow(networks=drawn, **LONG))
    single = flow(networks=network, **SHORT)
    assert_same(on(single, **LONG), flow(networks=network, **LONG))
    factors = np.linspace(0.5, 1.0, NUM)[:, None, None]
    inputs = np.broadcast_to(task.inputs, (NUM, *task.inputs.shape))
    own = jf.TaskPerMember(inputs, factors * np.asarray(task.targets))
    call = {"networks": ensemble(), "task": own, "scale": 1e-2}
    call |= {"solver": diffrax.Tsit5()} | QUIET
    both = on(jf.gradient_flow(**call, **SHORT), **LONG)
    assert_same(both, jf.gradient_flow(**call, **LONG))


@pytest.mark.filterwarnings("ignore::jaxflow.RunWarning")
def test_failed_members_fail_again():
    """A member that had no number where it began, or on its way, has none further on."""
    broken = eqx.tree_at(lambda n: n.weights[0], ensemble(), 1e200 * ensemble().weights[0])
    first = cartesian(networks=broken, max_steps=20)
    assert set(first.status) == {"non_finite"}
    assert_same(on(first, max_steps=60), cartesian(networks=broken, max_steps=60))


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"stop": jf.RescaledTime(1.0)}, "stop"),
        ({"stop": [jf.LossBelow(0.5), jf.RescaledTime(30.0)]}, "stop"),
        ({"max_steps": 5}, "stop"),
        ({"stop": jf.RescaledTime(np.ones(3))}, "stop=RescaledTime"),
        ({"stop": "later"}, "stop"),
        ({"max_steps": 0}, "max_steps"),
        ({"rtol": 1e-3}, "rtol"),
        ({"scale": 0.1}, "scale"),
        ({"task": jf.Task(np.eye(3), np.ones(3))}, "task"),
        ({"task": None}, "task"),
    ],
)
def test_what_is_no_continuation_is_refused(first, given, argument):
    with pytest.raises(jf.InputError) as refused:
        on(first, **given)
    assert refused.value.argument == argument


def test_the_same_task_may_be_given_again(first):
    assert_same(jf.gradient_flow(first[:1], problem()[1], **QUIET), first[:1])


def test_solutions_that_do_not_know_their_run(first, tmp_path, monkeypatch):
    """They say what to do, and are otherwise what they were."""
    first.save(tmp_path / "saved")
    saved = jf.load(tmp_path / "saved")
    pickled = pickle.loads(pickle.dumps(first))
    assert_same(pickled, first)
    members = iter([problem()[0]] * 2)
    iterated = flow(networks=members, **SHORT)
    monkeypatch.setattr("jaxflow.runs._execution._MOST_WEIGHTS", 100)
    for solution in (saved, pickled, iterated, flow(**SHORT)):
        with pytest.raises(jf.InputError, match="from where its members go on"):
            on(solution, **LONG)
    with pytest.raises(jf.InputError, match="one that gradient_descent has given"):
        jf.gradient_descent(first, num_steps=3)


# -- in a store --


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The folder of a store of the first stretch, in chunks of two members."""
    folder = tmp_path_factory.mktemp("stores")
    with chunks_of(2):
        flow(folder / "first", **SHORT)
    return folder


@pytest.fixture
def stored(stores, tmp_path):
    return shutil.copytree(stores / "first", tmp_path / "run.zarr")


def test_the_same_store_goes_on(stored, whole):
    assert_same(flow(stored, **LONG), whole)
    assert_same(jf.load(stored), whole)
    assert jf.Simulation.load(stored).stops[1].value == 30.0
    attributes = zarr.open_group(stored, mode="r").attrs
    assert attributes["jaxflow"]["settings"]["max_steps"] == 10_000


def test_more_steps_in_the_same_store(tmp_path, whole):
    with chunks_of(2), pytest.warns(jf.RunWarning):
        flow(tmp_path / "run.zarr", **LONG, max_steps=25)
    assert_same(flow(tmp_path / "run.zarr", **LONG), whole)


@pytest.mark.parametrize("after", [1, 4])
def test_a_store_that_is_stopped_while_it_goes_on(stored, whole, after, monkeypatch):
    """Members are written two at a time, some of them into chunks of those to come."""
    monkeypatch.setattr("jaxflow.runs._storing._BUFFER_MEMBERS", 1)
    with ctrl_c_when_done(after):
        flow(stored, **LONG)
    with pytest.raises(jf.StoreError, match="has not finished"):
        jf.load(stored)
    assert_same(flow(stored, **LONG), whole)


def test_a_store_that_had_not_finished(tmp_path, whole):
    """Members of whom nothing is known start, those in flight and those done go on."""
    path, call = tmp_path / "run.zarr", {"schedule": jf.Schedule(width=2, steps_per_call=4)}
    with ctrl_c_when_done(2):
        flow(path, **SHORT, **call)
    assert_same(flow(path, **LONG), whole)


def test_a_store_that_began_to_go_on_can_still_be_what_it_was(stored, first, monkeypatch):
    """Killed between the two commits: nobody is done, and the run is the earlier one."""
    commit, done = CheckedStore.commit, []

    def killed(store, last=None):
        if done:
            raise KeyboardInterrupt
        done.append(commit(store, last))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckedStore, "commit", killed)
        flow(stored, **LONG)
    assert_same(flow(stored, **SHORT), first)


def test_a_solution_from_a_store_goes_on_in_memory_and_in_a_store(stored, whole, tmp_path):
    solution = flow(stored, **SHORT)
    assert_same(on(solution, **LONG), whole)
    assert_same(on(solution[1:4], **LONG, store=tmp_path / "some"), whole[1:4])
    assert_same(on(solution, **LONG, store=stored), whole)
    with pytest.raises(jf.InputError, match="next to each other"):
        on(solution[[1, 3]], **LONG, store=tmp_path / "others")


def test_what_a_store_cannot_go_on_to_leaves_it_as_it_was(stored, first, tmp_path):
    before = {file: file.read_bytes() for file in stored.rglob("*") if file.is_file()}
    for stop in (jf.RescaledTime(1.0), SHORT["stop"][:1]):
        with pytest.raises((jf.InputError, jf.StoreError)):
            flow(stored, stop=stop)
    with pytest.raises(jf.StoreError, match=r"another run: .* had passed"):
        flow(stored, stop=[jf.LossBelow(0.5), jf.RescaledTime(30.0)])
    with pytest.raises(jf.StoreError, match="another run"):
        flow(stored, **LONG, rtol=1e-3)
    assert before == {f: f.read_bytes() for f in stored.rglob("*") if f.is_file()}
    assert_same(flow(stored, **SHORT), first)


def test_a_store_with_other_points_of_records_is_refused(tmp_path):
    record = jf.Record({"norm": jf.norm}, every=3)
    call = {"record": record, "record_at": None, **SHORT}
    flow(tmp_path / "run.zarr", **call, max_steps=300)
    with pytest.raises(jf.InputError, match="recorded at other points"):
        flow(tmp_path / "run.zarr", **call, max_steps=600)
