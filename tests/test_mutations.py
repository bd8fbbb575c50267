"""Stores of every kind under random damage: the same numbers, or a sentence.

`JAXFLOW_MUTATIONS=5000 JAXFLOW_SEED=3 pytest tests/test_mutations.py -n0 -s` does as many.
"""

import collections
import contextlib
import os
import resource
import shutil
import signal
import time

import jax
import numpy as np
import optax
import pytest

import jaxflow as jf

from .comparing import assert_results_same
from .filled import filled
from .mutating import generator, mutate
from .test_columns import early_convergence, kkt_points, saddle_to_saddle, solution
from .test_run_store import interrupt, simulate

COUNT = int(os.environ.get("JAXFLOW_MUTATIONS", 120))
SEED = os.environ.get("JAXFLOW_SEED")
SECONDS = 60  # after which something hangs
BYTES = 2**30
NUM = 40


def descend(store=None):
    """A run most of whose columns are the same for all members."""
    network = filled(lambda: jf.DiagonalLinear(3, 2, key=jax.random.key(0)))
    return jf.gradient_descent(
        jf.Initializations(network, 9, key=jax.random.key(1)),
        jf.Task(np.eye(2), np.ones(2)),
        optimizer=optax.sgd(0.1),
        num_steps=4,
        store=store,
        progress=False,
    )


SAVED = {
    "Solution": lambda: solution(5),
    "KKTPoints": kkt_points,
    "EarlyConvergence": early_convergence,
    "SaddleToSaddle": saddle_to_saddle,
}
RUNS = {"flow": simulate, "descent": descend}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """By name, a store and the result that it has to give."""
    folder, found = tmp_path_factory.mktemp("stores"), {}
    for name, make in SAVED.items():
        found[name] = make()
        found[name].save(folder / name)
    for name, run in RUNS.items():
        found[name] = run(folder / name)
    interrupt(folder / "interrupted")
    found["interrupted"] = found["flow"]
    simulate(folder / "another run", key=4)
    solution(7).save(folder / "another solution")
    return folder, found


@contextlib.contextmanager
def deadline(seconds):
    def late(*args):
        raise TimeoutError(f"it has not ended after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_stores_under_random_damage(stores, tmp_path, as_users_have_it):
    folder, results = stores
    random, seed = generator(None if SEED is None else int(SEED))
    print(f"seed {seed}")
    others = [folder / name for name in (*results, "another run", "another solution")]
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    outcomes, wrong = collections.Counter(), []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(COUNT):
        name = list(results)[number % len(results)]
        path = tmp_path / f"{name}.zarr"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(folder / name, path)
        done = [mutate(path, random, others, victim) for _ in range(random.integers(1, 4))]
        calls = {"load": lambda path=path: jf.load(path)}
        if name in RUNS or name == "interrupted":
            run = RUNS.get(name, simulate)
            calls["resume"] = lambda path=path, run=run: run(path)
            calls["load again"] = calls["load"]
        for what, call in calls.items():
            begun = time.monotonic()
            try:
                with deadline(SECONDS):
                    assert_results_same(results[name], call())
                outcomes[what, "same"] += 1
            except jf.StoreError:
                outcomes[what, "StoreError"] += 1
            except (Exception, AssertionError) as error:
                wrong.append((name, what, done, repr(error)[:300]))
            assert time.monotonic() - begun < SECONDS
        assert [(victim / "file").read_text(), len(list(victim.iterdir()))] == [
            "precious",
            1,
        ]
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(dict(outcomes), f"{grown / 2**20:.0f} MiB more")
    assert wrong == [], f"seed {seed}"
    assert grown < BYTES
    # Both must occur, or the test says nothing.
    assert outcomes["load", "StoreError"] > COUNT // 4
    assert outcomes["resume", "same"] > COUNT // 8
