"""Stores of runs: killed runs, full disks, damaged files, other runs."""

import contextlib
import errno
import importlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import diffrax
import equinox as eqx
import jax
import numpy as np
import pytest
import zarr

import jaxflow as jf
from jaxflow import _files
from jaxflow.networks import flatten
from jaxflow.runs._storing import StoreSink

from .comparing import assert_same
from .problems import TSIT5
from .stored_calls import chunks_of, written_one_by_one
from .watching import ctrl_c_when_done

NUM = 40
CHUNK = 8  # members in a chunk, here: a store of several chunks
LONG = {"num": 400, "max_steps": 2000, "every": 10}
"""A run that takes some seconds in calls of one step, most of them for a few members."""


def problem(slope=0.5):
    key = jax.random.key(0)
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(slope, 2), key=key)
    inputs = jf.data.sphere_points(10, 3, key=key)
    return network, jf.data.teacher_student(network, inputs, target_norm=1.0)


def simulate(store=None, num=NUM, *, networks=None, task=None, key=3, every=4, **changes):
    """The run of all these tests; every so many members one goes on until it gives up."""
    network, targets = problem()
    if networks is None:
        networks = jf.Initializations(network, num, key=jax.random.key(key))
    thresholds = np.where(np.arange(num) % every == 1, 1e-12, 0.3)
    settings = {
        "scale": 1e-2,
        "stop": [jf.LossBelow(thresholds)],
        "max_steps": 300,
        "record": {"norm": jf.norm},
        "record_at": [0.0, 1.0, 2.0, 3.0, 30.0],
        "schedule": schedule(),
        "progress": False,
        **TSIT5,
    }
    return jf.gradient_flow(networks, task or targets, store=store, **settings | changes)


def schedule(steps_per_call=4, checkpoint_seconds=1000.0):
    return jf.Schedule(
        width=8, steps_per_call=steps_per_call, checkpoint_seconds=checkpoint_seconds
    )


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    with chunks_of(CHUNK):
        yield


@pytest.fixture(scope="module")
def expected():
    """The run that nothing happens to."""
    return simulate()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of it to copy: finished, and interrupted when a dozen members were done."""
    folder = tmp_path_factory.mktemp("stores")
    simulate(folder / "finished")
    interrupt(folder / "interrupted")
    return folder


@pytest.fixture
def finished(stores, tmp_path):
    return pathlib.Path(shutil.copytree(stores / "finished", tmp_path / "finished.zarr"))


@pytest.fixture
def interrupted(stores, tmp_path):
    return pathlib.Path(shutil.copytree(stores / "interrupted", tmp_path / "cut.zarr"))


def interrupt(path, after=12, **settings):
    """Press Ctrl-C when so many members are done."""
    with ctrl_c_when_done(after):
        simulate(path, **settings)
    assert after <= np.sum(done(path)) < NUM


def done(path):
    """Whether each member of a store is done."""
    return np.asarray(zarr.open_array(path / "status", mode="r")[:]) != 0


@pytest.fixture
def taken_up(monkeypatch):
    """The lanes in flight that runs in this test went on with; change them at will."""
    engine = importlib.import_module("jaxflow.engine._driver")  # the package has a function
    read, found = engine.from_bytes, []
    change = types.SimpleNamespace(found=found, function=lambda lanes: lanes)

    def spy(stored, shapes):
        lanes = read(stored, shapes)
        if lanes is not None:
            lanes = change.function(lanes)
            found.append(lanes)
        return lanes

    monkeypatch.setattr(engine, "from_bytes", spy)
    return change


def contents(path):
    return {
        file: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in path.rglob("*")
        if file.is_file()
    }


# -- a run that nothing happens to --


def test_stored_run_is_the_run_in_memory(tmp_path, expected):
    assert {"LossBelow", "max_steps"} <= set(expected.status)
    stored = simulate(tmp_path / "run.zarr")
    assert_same(expected, stored)
    assert_same(expected, jf.load(tmp_path / "run.zarr"))
    assert repr(stored) == repr(expected) == repr(jf.load(tmp_path / "run.zarr"))
    saved = expected.dataset.drop_vars("status")
    assert stored.dataset.drop_vars("status").equals(saved)


def test_saving_often_changes_nothing(tmp_path, expected):
    often = schedule(checkpoint_seconds=1e-3)
    assert_same(expected, simulate(tmp_path / "run.zarr", schedule=often))


def test_drawn_members_are_those_of_the_ensemble(tmp_path, expected):
    ensemble = jf.sample_ensemble(problem()[0], NUM, key=jax.random.key(3))
    assert_same(expected, simulate(networks=ensemble))
    assert_same(expected, simulate(tmp_path / "run.zarr", networks=ensemble))


# The type checks of the tests look into mappings, and with that read them.
@pytest.mark.usefixtures("as_users_have_it")
def test_records_and_weights_are_read_when_they_are_used(tmp_path):
    path = tmp_path / "run.zarr"
    stored = simulate(path)
    assert not stored.dataset["norm"].variable._in_memory
    shutil.rmtree(path / "directions")
    with pytest.raises(jf.StoreError, match=r"run\.zarr"):
        _ = stored.directions


def test_finished_run_is_read_and_not_repeated(finished, expected, added):
    before = contents(finished)
    assert_same(expected, simulate(finished))
    assert not added
    changed = {file.name for file, now in contents(finished).items() if now != before[file]}
    assert changed <= {"lock"}


def test_store_that_is_whole_says_so(interrupted, expected):
    with pytest.raises(jf.StoreError, match="repeat the call"):
        jf.load(interrupted)
    simulate(interrupted)
    assert_same(expected, jf.load(interrupted))


# -- how many members, and from where --


@pytest.mark.parametrize("num", [0, 1, 5])
def test_few_members(tmp_path, num):
    path = tmp_path / "run.zarr"
    in_memory = simulate(num=num)
    assert in_memory.loss.shape == (num,)
    assert_same(in_memory, simulate(path, num=num))
    assert_same(in_memory, simulate(path, num=num))
    assert_same(in_memory, jf.load(path))


def one_by_one():
    ensemble = jf.sample_ensemble(problem()[0], NUM, key=jax.random.key(3))
    for index in range(NUM):
        yield jf.networks.member(ensemble, index)


# A threshold for each member needs to know how many there are.
def iterated(store=None, networks=None, **settings):
    stop = [jf.LossBelow(0.3)]
    networks = one_by_one() if networks is None else networks
    return simulate(store, networks=networks, stop=stop, **settings)


def test_members_from_an_iterator(tmp_path):
    path = tmp_path / "run.zarr"
    in_memory = iterated()
    assert in_memory.loss.shape == (NUM,)
    assert_same(in_memory, iterated(path))
    assert_same(in_memory, iterated(path))
    assert_same(in_memory, jf.load(path))
    assert len(list((path / "final_loss" / "c").iterdir())) == NUM // CHUNK


@pytest.mark.parametrize("lengthened", [(), ("status",), ("final_loss", "norm")])
def test_interrupted_iterator_goes_on(tmp_path, added, lengthened):
    path = tmp_path / "run.zarr"
    interrupt(path, stop=[jf.LossBelow(0.3)], networks=one_by_one())
    before = np.flatnonzero(done(path))
    # As if it had been killed while it made room for more members.
    for name in lengthened:
        array = zarr.open_array(path / name, mode="r+")
        array.resize((array.shape[0] + 64, *array.shape[1:]))
    added.clear()
    assert_same(iterated(), iterated(path))
    assert sorted([*before, *added]) == list(range(NUM))


def test_single_network_has_no_axis_in_its_store(tmp_path):
    network, path = problem()[0], tmp_path / "run.zarr"
    single = {"networks": network, "stop": [jf.LossBelow(0.3)]}
    in_memory = simulate(**single)
    assert in_memory.loss.shape == ()
    for stored in (simulate(path, **single), simulate(path, **single), jf.load(path)):
        assert not stored.is_ensemble
        assert "init" not in stored.dataset.dims
        assert_same(in_memory, stored)


def test_a_network_that_no_file_can_describe_is_asked_for(tmp_path):
    key, path = jax.random.key(0), tmp_path / "run.zarr"
    network = eqx.nn.MLP(3, "scalar", 4, 1, activation=lambda x: x**2, key=key)
    found = simulate(path, networks=jf.Initializations(network, NUM, key=key))
    with pytest.raises(jf.StoreError, match=r"activation.*network="):
        _ = jf.load(path).networks
    loaded = jf.load(path, network=network)
    np.testing.assert_array_equal(
        eqx.filter_vmap(flatten)(loaded.networks), eqx.filter_vmap(flatten)(found.networks)
    )


# -- interrupted and killed --


def test_interrupted_run_goes_on(interrupted, expected, added, taken_up):
    before = np.flatnonzero(done(interrupted))
    assert_same(expected, simulate(interrupted))
    assert sorted([*before, *added]) == list(range(NUM))
    (lanes,) = taken_up.found
    assert np.all(lanes.pool.lanes.num_steps > 0)
    assert not np.any(np.isin(lanes.indices, before))


def test_lanes_in_flight_go_on_from_where_they_were(interrupted, expected, taken_up):
    # Steps that were not taken show who went on and who began again.
    def with_more_steps(lanes):
        steps = lambda lanes: lanes.pool.lanes.num_steps
        return eqx.tree_at(steps, lanes, steps(lanes) + 7)

    taken_up.function = with_more_steps
    resumed = simulate(interrupted)
    more = np.zeros(NUM, int)
    more[taken_up.found[0].indices] = 7
    assert np.any(more)
    stopped = expected.status == "LossBelow"
    np.testing.assert_array_equal(
        resumed.stats.num_steps[stopped], (expected.stats.num_steps + more)[stopped]
    )


def test_ctrl_c_before_anybody_is_done(tmp_path, expected, monkeypatch):
    path = tmp_path / "run.zarr"

    def interrupting(sink, indices, outcome):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StoreSink, "add", interrupting)
        simulate(path)
    assert_same(expected, simulate(path))


_CHILD = """
import signal, sys
import jax
jax.config.update("jax_enable_x64", True)
from tests import test_run_store as tests
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.stdin.readline()
with tests.chunks_of(64):
    tests.simulate(sys.argv[1], **tests.LONG, schedule=tests.schedule(1, 0.2))
"""


class Child:
    """A process that waits, all imported, for its word to begin the long run."""

    def __init__(self, path, cache):
        cached = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path)],
            cwd=pathlib.Path(__file__).parents[1],
            env={**os.environ, **cached},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait_for(self, happened, seconds=120):
        end = time.monotonic() + seconds
        while not happened():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                pytest.fail(f"it ended or hangs: {self.process.communicate()[1][-2000:]}")
            time.sleep(0.002)

    def wait_for_checkpoint(self):
        file = self.path / "jaxflow" / "files" / "in_flight"
        found = lambda: file.stat().st_mtime_ns if file.exists() else None
        before = found()
        self.wait_for(lambda: found() != before)

    def interrupt(self, seconds=120):
        """Press Ctrl-C, again where Python dropped it: in a callback of its collector."""
        for _ in range(seconds // 4):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.communicate(timeout=4)[1]
        pytest.fail("Ctrl-C does not end it")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def long_run():
    return simulate(**LONG)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where processes keep compiled programs for each other."""
    return tmp_path_factory.mktemp("cache")


def test_killed_ten_times_over(tmp_path, cache, long_run, added, taken_up):
    path, random = tmp_path / "run.zarr", np.random.default_rng(0)
    before = np.zeros(LONG["num"], bool)
    counts = []
    with contextlib.ExitStack() as children:
        child = children.enter_context(Child(path, cache))
        for kill in range(10):
            child.begin()
            # The next one imports meanwhile.
            following = children.enter_context(Child(path, cache)) if kill < 9 else None
            if kill == 0:
                child.wait_for(path.exists)  # at the very beginning of the store
            else:
                child.wait_for_checkpoint()
            time.sleep(random.uniform(0, 0.02 if kill == 0 else 0.4))
            assert child.process.poll() is None, "the run is too short for this test"
            child.process.send_signal(signal.SIGKILL)
            child.process.wait()
            child = following
            if (path / "status" / "zarr.json").exists():
                now = done(path)
                assert np.all(now[before])
                before = now
            counts.append(int(np.sum(before)))
    assert 0 < counts[-1] < LONG["num"]
    resumed = simulate(path, **LONG)
    assert_same(long_run, resumed)
    assert_same(long_run, jf.load(path))
    # Everybody once, and those who were done not again.
    assert sorted([*np.flatnonzero(before), *added]) == list(range(LONG["num"]))
    (lanes,) = taken_up.found
    assert len(lanes.indices) and np.all(lanes.pool.lanes.num_steps >= 0)
    assert np.max(lanes.pool.lanes.num_steps) > 0


def test_ctrl_c_says_how_to_go_on(tmp_path, cache, long_run, added):
    path = tmp_path / "run.zarr"
    with Child(path, cache) as child:
        child.begin()
        child.wait_for_checkpoint()
        child.process.send_signal(signal.SIGSTOP)  # it must not end meanwhile
        with pytest.raises(jf.StoreError, match=r"run\.zarr is being written"):
            simulate(path, **LONG)
        child.process.send_signal(signal.SIGCONT)
        said = child.interrupt()
    assert child.process.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")
    before = np.flatnonzero(done(path))
    (line,) = [line for line in said.splitlines() if line.startswith("Interrupted")]
    assert f"{len(before)} of {LONG['num']} members are done" in line
    assert str(path) in line
    assert "The same call goes on from there." in line
    assert_same(long_run, simulate(path, **LONG))
    assert sorted([*before, *added]) == list(range(LONG["num"]))


def test_what_a_run_left_that_was_killed_before_its_store_began(tmp_path, expected):
    path = tmp_path / "run.zarr"
    (tmp_path / ".run.zarr.new-0badcafe").mkdir()  # killed before it was locked
    os.utime(tmp_path / ".run.zarr.new-0badcafe", (0, 0))
    for left in ("0a1b2c3d", "deadbeef"):
        files = tmp_path / f".run.zarr.new-{left}" / "jaxflow" / "files"
        files.mkdir(parents=True)
        (files / "lock").touch()
        (files / "new").write_text("jaxfl")
        os.utime(files / "lock", (0, 0))
    (tmp_path / ".run.zarr.new-notours!").mkdir()
    path.mkdir()  # an empty folder is as good as none
    assert_same(expected, simulate(path))
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"run.zarr", ".run.zarr.new-notours!"}


@pytest.mark.filterwarnings("error", "ignore::jaxflow.RunWarning")
def test_what_a_killed_run_left_half_written_is_cleared_away(interrupted, expected):
    half = interrupted / "jaxflow" / "files" / "new"
    half.write_bytes(b"half")
    mine = interrupted / "final_loss" / "mine.partial"
    mine.write_bytes(b"not a file of jaxflow's")
    assert_same(expected, simulate(interrupted))
    assert not half.exists()
    assert mine.read_bytes() == b"not a file of jaxflow's"


# -- disks that are full, or fail --


@contextlib.contextmanager
def disk_that_fails(after):
    """No space is left when so many files have been written; gives how many were."""
    written = types.SimpleNamespace(num=0)

    write = _files.write

    def failing(*args):
        if written.num >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.num += 1
        write(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "write", failing)
        yield written


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a given number of bytes, mounted; call again to give it another size."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(size, options=""):
        command = ["mount", "-t", "tmpfs", "-o", f"{options}size={size}", "tmpfs", path]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a small disk cannot be mounted here: {error}")
        return path

    yield mount
    subprocess.run(["umount", path], capture_output=True)


def test_full_disk_is_an_error_after_which_the_run_goes_on(
    stores, small_disk, expected, added
):
    files = [file for file in (stores / "finished").rglob("*") if file.is_file()]
    blocks = sum(-(-file.stat().st_size // 4096) for file in files)
    path = small_disk(size=int(0.7 * blocks) * 4096) / "run.zarr"
    with (
        written_one_by_one(),
        pytest.raises(jf.StoreError, match="No space left") as raised,
    ):
        simulate(path)
    assert str(path) in str(raised.value)
    before = np.flatnonzero(done(path))
    assert 0 < len(before) < NUM
    # Those who are done are whole, with the disk as full as it is.
    loss = np.asarray(zarr.open_array(path / "final_loss", mode="r")[:])
    np.testing.assert_array_equal(loss[before], expected.loss[before])
    with written_one_by_one(), pytest.raises(jf.StoreError, match="No space left"):
        simulate(path)
    before = np.flatnonzero(done(path))
    small_disk(size="64m", options="remount,")
    added.clear()
    assert_same(expected, simulate(path))
    assert sorted([*before, *added]) == list(range(NUM))


def test_disk_that_fails_at_any_file_of_a_new_store(tmp_path, monkeypatch):
    # Two members, so that most files are those that a store begins with.
    whole = simulate(num=2)
    with disk_that_fails(after=1000) as written:
        simulate(tmp_path / "run.zarr", num=2)
    assert 40 < written.num < 100
    for after in range(0, written.num, 9):
        path = tmp_path / f"{after}.zarr"
        with disk_that_fails(after), pytest.raises(jf.StoreError, match="No space left"):
            simulate(path, num=2)
        assert_same(whole, simulate(path, num=2))


def test_disk_that_has_no_room_for_lanes_in_flight(tmp_path, monkeypatch, expected):
    path, replace = tmp_path / "run.zarr", os.replace

    def failing(old, new):
        if pathlib.Path(new).name == "in_flight":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(jf.StoreError, match=r"run\.zarr.*No space left"):
            simulate(path, schedule=schedule(checkpoint_seconds=1e-3))
    assert [
        file.name
        for file in (path / "jaxflow" / "files").iterdir()
        if "in_flight" in file.name
    ] == []
    assert_same(expected, simulate(path))


# -- damage --


def _truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


DAMAGE = {"truncated": _truncate, "flipped": _flip, "deleted": pathlib.Path.unlink}
ARRAYS = ("status", "final_loss", "norm", "directions/weights_0")


def chunk_of(path, array, number):
    (file,) = [f for f in (path / array / "c" / str(number)).rglob("*") if f.is_file()] or [
        path / array / "c" / str(number)
    ]
    return file


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("array", ARRAYS)
def test_members_of_a_damaged_chunk_are_computed_again(
    finished, expected, added, array, damage
):
    DAMAGE[damage](chunk_of(finished, array, 2))
    assert_same(expected, simulate(finished))
    assert sorted(added) == list(range(2 * CHUNK, 3 * CHUNK))
    assert_same(expected, jf.load(finished))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("array", ARRAYS)
def test_damaged_chunk_is_not_loaded_as_good(finished, array, damage):
    DAMAGE[damage](chunk_of(finished, array, 2))
    with pytest.raises(jf.StoreError, match=r"finished\.zarr"):
        jf.load(finished)


@pytest.mark.parametrize("array", ARRAYS)
def test_damage_to_an_interrupted_run(interrupted, expected, added, array):
    damaged = np.arange(NUM) // CHUNK == 0
    before = done(interrupted)
    assert np.any(before & damaged)
    _flip(chunk_of(interrupted, array, 0))
    assert_same(expected, simulate(interrupted))
    again = np.bincount(added, minlength=NUM)
    np.testing.assert_array_equal(again, ~before | damaged)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["zarr.json", "c/0"])
def test_damaged_grid_is_written_again(finished, expected, file, damage):
    DAMAGE[damage](finished / "rescaled_time" / file)
    assert_same(expected, simulate(finished))
    assert_same(expected, jf.load(finished))


@pytest.mark.parametrize("file", ["c/0", "zarr.json"])
def test_deleted_grid_is_not_loaded_as_good(finished, file):
    (finished / "rescaled_time" / file).unlink()
    with pytest.raises(jf.StoreError, match=r"finished\.zarr"):
        jf.load(finished)


@pytest.mark.parametrize("damage", ["gone", "without description", "broken description"])
@pytest.mark.parametrize("array", ARRAYS)
def test_array_that_cannot_be_opened_is_computed_again(finished, expected, array, damage):
    if damage == "gone":
        shutil.rmtree(finished / array)
    elif damage == "without description":
        (finished / array / "zarr.json").unlink()
    else:
        _truncate(finished / array / "zarr.json")
    assert_same(expected, simulate(finished))
    assert_same(expected, jf.load(finished))


@pytest.mark.parametrize("array", ["final_loss", "directions/weights_0"])
def test_repair_that_is_cut_short_leaves_nothing_that_looks_good(
    stores, tmp_path, expected, array
):
    for after in (0, 1, 2, 5):
        path = tmp_path / f"{after}.zarr"
        shutil.copytree(stores / "finished", path)
        _flip(chunk_of(path, array, 2))
        with disk_that_fails(after), pytest.raises(jf.StoreError, match="No space left"):
            simulate(path)
        assert_same(expected, simulate(path))


def _replace_by_junk(file):
    file.write_bytes(np.random.default_rng(1).bytes(file.stat().st_size))


def _cut_head(file):
    file.write_bytes(file.read_bytes()[:20])


@pytest.mark.parametrize(
    "damage",
    [*DAMAGE.values(), _replace_by_junk, _cut_head, lambda file: file.write_bytes(b"")],
    ids=[*DAMAGE, "junk", "head only", "empty"],
)
def test_damaged_lanes_begin_again(interrupted, expected, taken_up, damage):
    damage(interrupted / "jaxflow" / "files" / "in_flight")
    assert_same(expected, simulate(interrupted))
    assert not taken_up.found


def test_no_flipped_bit_of_lanes_in_flight_is_read(stores, tmp_path):
    shutil.copytree(stores / "interrupted", tmp_path / "cut.zarr")
    file = tmp_path / "cut.zarr" / "jaxflow" / "files" / "in_flight"
    whole, seen = file.read_bytes(), []
    engine = importlib.import_module("jaxflow.engine._driver")
    read, random = engine.from_bytes, np.random.default_rng(2)

    def read_all(stored, shapes):
        assert read(stored, shapes) is not None
        for place in random.integers(len(stored), size=200):
            content = bytearray(stored)
            content[place] ^= 1 << random.integers(8)
            seen.append(read(bytes(content), shapes))
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "from_bytes", read_all)
        simulate(tmp_path / "cut.zarr")
    assert whole and seen == [None] * 200


def test_lanes_of_another_run_are_not_taken_up(tmp_path, interrupted, expected, taken_up):
    other = tmp_path / "other.zarr"
    interrupt(other, key=4)
    shutil.copy(
        other / "jaxflow" / "files" / "in_flight",
        interrupted / "jaxflow" / "files" / "in_flight",
    )
    assert_same(expected, simulate(interrupted))
    assert not taken_up.found


# -- stores of something else --


def _other_task(inputs=1.0, targets=1.0):
    task = problem()[1]
    return {"task": jf.Task(inputs * task.inputs, targets * task.targets)}


def _other_network():
    network = problem(slope=0.4)[0]
    return {"networks": jf.Initializations(network, NUM, key=jax.random.key(3))}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (lambda: _other_task(inputs=1.5), "inputs"),
        (lambda: _other_task(targets=1.5), "targets"),
        (_other_network, "network"),
        (lambda: {"key": 4}, "key"),
        (lambda: {"num": NUM + 1, "stop": [jf.LossBelow(np.ones(NUM + 1))]}, "members"),
        (lambda: {"scale": 1e-3}, "scale"),
        (lambda: {"stop": [jf.RescaledTime(1.0)]}, "stop"),
        (lambda: {"rtol": 1e-5}, "rtol"),
        (lambda: {"atol": 1e-7}, "atol"),
        (lambda: {"solver": diffrax.Dopri5()}, "solver"),
        (lambda: {"coordinates": "cartesian"}, "coordinates"),
        (lambda: {"record": {"norm": jf.layer_norms}}, "record"),
        (lambda: {"record": {"size": jf.norm}}, "record"),
        (lambda: {"record_at": [0.0, 1.0, 2.0, 3.0, 31.0]}, "record.at"),
        (lambda: {"record": None, "record_at": None}, "record"),
    ],
)
def test_store_of_another_run_is_refused(finished, changes, named):
    before = contents(finished)
    with pytest.raises(jf.StoreError, match="another run") as raised:
        simulate(finished, **changes())
    assert contents(finished) == before
    first, *differences = str(raised.value).splitlines()
    assert str(finished) in first
    assert any(named in line.split(":")[0] for line in differences)
    for line in differences:
        there, here = re.fullmatch(
            r"  [^:]+: (.+) in the store, (.+) in this call", line
        ).groups()
        assert there != here  # shown, and not only said


def test_another_kind_of_run_is_refused(finished):
    network, task = problem()
    drawn = jf.Initializations(network, NUM, key=jax.random.key(3))
    with pytest.raises(jf.StoreError, match="kind: gradient flow in the store"):
        jf.ncf_flow(drawn, task, store=finished)


def test_schedule_may_change(interrupted, expected):
    one = jf.Schedule(width=8, steps_per_call=3, pools_per_device=1)
    resumed = simulate(interrupted, schedule=one, progress=True)
    assert_same(expected, resumed)


def test_attributes_that_are_no_numbers_are_no_difference(tmp_path):
    path, odd = tmp_path / "run.zarr", {"rate": float("nan"), "most": float("inf")}
    first = simulate(path, num=2, attrs=odd)
    assert_same(first, simulate(path, num=2, attrs=odd))


@pytest.mark.parametrize("kind", ["file", "folder", "solution", "array", "other format"])
def test_what_is_no_store_of_a_run_is_refused(tmp_path, stores, expected, kind):
    path = tmp_path / "run.zarr"
    if kind == "file":
        path.write_text("a file")
    elif kind == "folder":
        path.mkdir()
        (path / "thesis.tex").write_text("all of it")
    elif kind == "solution":
        expected.save(path)
    elif kind == "array":
        zarr.create_array(path, shape=(2,), dtype=float)
    else:
        shutil.copytree(stores / "finished", path)
        for copy in ("manifest", "manifest_copy"):
            file = path / "jaxflow" / "files" / copy
            content = file.read_bytes()
            assert content.startswith(b"jaxflow manifest 3 ")
            file.write_bytes(content.replace(b"manifest 3", b"manifest 99", 1))
    before = path.read_text() if kind == "file" else contents(path)
    with pytest.raises(jf.StoreError, match=r"run\.zarr exists and is no store"):
        simulate(path)
    assert (path.read_text() if kind == "file" else contents(path)) == before


def test_store_that_could_not_be_opened_is_not_kept_from_others(finished, expected):
    # The error is held, as a notebook holds it, and with it what was opened.
    with disk_that_fails(after=0), pytest.raises(jf.StoreError) as held:
        _flip(chunk_of(finished, "final_loss", 2))
        simulate(finished)
    assert_same(expected, simulate(finished))
    assert held.value.__traceback__ is not None
