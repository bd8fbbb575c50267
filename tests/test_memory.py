"""What stays in memory, and in which processes a run is refused."""

import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import jaxflow as jf
from jaxflow._compiled import forget_programs as forget_functions, LastUsed
from jaxflow.engine import forget_programs

from .stored_calls import CALLS


def test_a_shape_leaves_nothing_but_programs_that_are_given_up():
    """Of networks of new shapes, JAX keeps no program of its own."""

    def run(width):
        network = jf.FeedForward((3, width, 1), jf.LeakyReLU(), key=jax.random.key(0))
        ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
        task = jf.Task(np.eye(3) + width, np.ones(3))
        jf.gradient_flow(ensemble, task, stop=jf.RescaledTime(0.1), progress=False)

    def left():
        forget_programs()
        forget_functions()
        gc.collect()
        return len(jax.devices()[0].client.live_executables())

    run(4)
    before = left()
    for width in (5, 6):
        run(width)
    assert left() <= before  # some of other tests may go meanwhile


@pytest.mark.parametrize("kind", ["descent", "polar"])
def test_a_run_that_is_repeated_leaves_nothing(tmp_path, kind):
    """JAX keeps what it traces; a program that is there is not traced again."""

    def run(number):
        CALLS[kind](tmp_path / f"{number}.zarr")
        gc.collect()
        return len(gc.get_objects())

    *_, before, _, after = map(run, range(5))
    assert after - before < 2000  # tracing once anew leaves ten thousand


def test_what_was_used_last_is_kept():
    kept = LastUsed(2)
    made = []

    def ask(key):
        return kept.get(key, lambda: made.append(key) or key)

    for key in ("a", "b", "a", "c", "a", "b"):
        assert ask(key) == key
    assert made == ["a", "b", "c", "b"]
    assert len(kept) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_after_jax_was_used_is_told_what_to_do():
    program = """
        import os, jax, jaxflow as jf
        network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        child = os.fork()
        if child == 0:
            try:
                jf.gradient_flow(network, task, stop=jf.RescaledTime(0.1))
            except jf.JaxflowError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    assert "spawn" in said and "forked" in said


def _ends(seed):
    network = jf.DiagonalLinear(2, 2, key=jax.random.key(seed))
    task = jf.Task(np.eye(2), np.ones(2))
    return str(jf.gradient_flow(network, task, stop=jf.RescaledTime(0.1)).status)


def test_a_spawned_process_runs():
    _ends(0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_ends, [1]) == ["RescaledTime"]
