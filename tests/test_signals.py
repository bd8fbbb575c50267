"""Processes that are asked to end: what they save, say and leave behind."""

import gc
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

import jaxflow as jf
from jaxflow._signals import ends_on_signals
from jaxflow.engine._worker import Worker

from .comparing import assert_same
from .test_run_store import LONG, schedule, simulate

pty = pytest.importorskip("pty", reason="no terminals to pretend to be")
ROOT = pathlib.Path(__file__).parents[1]
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"

_STORED = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
from tests import test_signals
test_signals.run_long(sys.argv[1])
"""
_SEARCHING = """
import jax, jaxflow as jf
network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0))
inputs = jf.data.sphere_points(10, 3, key=jax.random.key(0))
task = jf.data.teacher_student(network, inputs, target_norm=1.0)
drawn = jf.Initializations(network, 100_000, key=jax.random.key(1))
"""
LONG_COMPUTATIONS = {
    "find_kkt": "jf.find_kkt(drawn, task, progress=True)",
    "saddle_to_saddle": "jf.saddle_to_saddle(drawn, task, scale=1e-6, progress=True)",
    "verify_early_convergence": "jf.verify_early_convergence(drawn, task, progress=True)",
    "gradient_flow": "jf.gradient_flow(drawn, task, stop=jf.Time(1e9), progress=True)",
}


def run_long(path):
    """The long run of the tests of stores, with a progress bar."""
    simulate(path, **LONG, schedule=schedule(1, 1000.0), progress=True)


class Terminal:
    """A process on a terminal of its own, and all that it has written there."""

    def __init__(self, *arguments, **environment):
        self._ours, theirs = pty.openpty()
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200", "TERM": "xterm", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self, seconds):
        if select.select([self._ours], [], [], seconds)[0]:
            try:
                found = os.read(self._ours, 2**16)
            except OSError:  # nobody is there any more
                found = b""
            self.said += found.decode(errors="replace")
            return bool(found)
        return self.process.poll() is None

    def wait_for(self, words, seconds=240):
        end = time.monotonic() + seconds
        while words not in self.said:
            if not self._read(0.1) or time.monotonic() > end:
                pytest.fail(f"it never said {words!r}: {self.said[-2000:]}")

    def end_by(self, *signals, seconds=120):
        """The exit status after these signals."""
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.05)
        end = time.monotonic() + seconds
        while self._read(0.1):
            if time.monotonic() > end:
                pytest.fail(f"it goes on: {self.said[-2000:]}")
        return self.process.wait()

    @property
    def shows_its_cursor(self):
        seen = re.findall(f"{re.escape(HIDE)}|{re.escape(SHOW)}", self.said)
        assert HIDE in seen, "no bar was ever shown"
        return seen[-1] == SHOW


@pytest.mark.parametrize(
    "signals",
    [("SIGTERM",), ("SIGHUP",), ("SIGTERM", "SIGTERM"), ("SIGINT", "SIGINT")],
    ids=" ".join,
)
def test_a_stored_run_ends_as_by_ctrl_c(tmp_path, cache, long_run, signals):
    path = tmp_path / "run.zarr"
    numbers = [getattr(signal, name) for name in signals]
    with Terminal("-c", _STORED, str(path), **cache) as child:
        child.wait_for("in flight")
        status = child.end_by(*numbers)
    # After Ctrl-C Python ends itself by SIGINT; shells make 130 of it.
    by_ctrl_c = numbers[0] == signal.SIGINT
    assert status == (-signal.SIGINT if by_ctrl_c else 128 + numbers[0])
    assert child.shows_its_cursor
    assert "Interrupted: " in child.said and "same call goes on" in child.said
    assert ("Traceback" in child.said) == by_ctrl_c
    assert (path / "jaxflow" / "files" / "in_flight").stat().st_size > 0
    assert_same(long_run, simulate(path, **LONG))


@pytest.fixture(scope="module")
def long_run():
    return simulate(**LONG)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where processes keep compiled programs for each other."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.mark.parametrize("name", LONG_COMPUTATIONS)
def test_long_computations_end_by_sigterm(name):
    code = _SEARCHING + LONG_COMPUTATIONS[name]
    with Terminal("-c", code) as child:
        child.wait_for(HIDE)
        assert child.end_by(signal.SIGTERM) == 128 + signal.SIGTERM
    assert child.shows_its_cursor and "Traceback" not in child.said


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_command_ends_without_a_traceback(tmp_path, name, status):
    code = "from jaxflow.cli import app; app()"
    options = ("demo", "--members", "4000", "--output", str(tmp_path))
    with Terminal("-c", code, *options) as child:
        child.wait_for(HIDE)
        assert child.end_by(getattr(signal, name)) == status
    assert child.shows_its_cursor and "Traceback" not in child.said


# -- within this process --


def give(number):
    signal.raise_signal(number)


@pytest.fixture(autouse=True)
def handlers_are_given_back():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_exit_status(number):
    with pytest.raises(SystemExit) as ended, ends_on_signals():
        with ends_on_signals():  # as a run within find_kkt
            give(number)
    assert ended.value.code == 128 + number


def test_others_plans_stay_theirs():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` has it
    try:
        with ends_on_signals():
            give(signal.SIGTERM)
            give(signal.SIGHUP)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, ignored)


def test_what_is_being_saved_is_saved():
    saved = []
    with pytest.raises(SystemExit), ends_on_signals():
        try:
            give(signal.SIGTERM)
        finally:
            try:  # other errors may be handled meanwhile
                raise KeyError
            except KeyError:
                give(signal.SIGTERM)
            saved.append(True)
    assert saved


def test_the_third_time_it_is_meant():
    with pytest.raises(KeyboardInterrupt), ends_on_signals():
        try:
            give(signal.SIGINT)
        finally:
            for _ in range(2):
                give(signal.SIGINT)
            pytest.fail("it still saves")


class Collected:
    def __del__(self):
        give(signal.SIGTERM)


class Referred:
    pass


def finalize():
    Collected()


def collect_garbage():
    def called(phase, found):
        if phase == "start":
            give(signal.SIGTERM)

    gc.callbacks.append(called)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(called)


def lose_a_reference():
    referred = Referred()
    reference = weakref.ref(referred, lambda _: give(signal.SIGTERM))
    del referred
    assert reference() is None


@pytest.mark.parametrize("there", [finalize, collect_garbage, lose_a_reference])
def test_a_signal_is_obeyed_where_python_drops_exceptions(monkeypatch, there):
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    begun = time.monotonic()
    with pytest.raises(SystemExit), ends_on_signals():
        there()
        while time.monotonic() < begun + 60:
            time.sleep(0.01)
    assert time.monotonic() < begun + 60
    # That one is the callback of a weak reference cannot be seen from within it.
    assert bool(dropped) == (there is lose_a_reference)


@pytest.mark.parametrize("there", [finalize, collect_garbage])
def test_no_signal_is_lost_where_nothing_comes_after_it(there):
    with pytest.raises(SystemExit), ends_on_signals():
        there()


def test_a_thread_leaves_signals_alone():
    seen = []

    def look():
        with ends_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_a_decorated_call_is_what_it_was():
    assert jf.run.__name__ == "run" and jf.find_kkt.__doc__.startswith("Distinct KKT")


def test_no_worker_goes_on_when_ctrl_c_comes_as_they_start(monkeypatch):
    start = Worker.start

    def interrupted(worker):
        start(worker)
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(schedule=jf.Schedule(width=8, pools_per_device=2))
    assert not [t for t in threading.enumerate() if isinstance(t, Worker)]
