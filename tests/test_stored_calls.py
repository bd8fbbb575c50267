"""Every public function with `store=`: stored, loaded, repeated, interrupted, killed."""

import contextlib

import jax
import numpy as np
import pytest

import jaxflow as jf

from .comparing import assert_results_same, assert_same
from .losing import Disk, Killed
from .stored_calls import CALLS, CHANGES, chunks_of, NUM, written_one_by_one
from .watching import ctrl_c_when_done

TSIT5 = ("polar", "cartesian")


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    with chunks_of(8), written_one_by_one():
        yield


# One test for each: what it compiles serves all that is asked of it. What "automatic" keeps
# of a lane in polar coordinates, and "simulation" of one in Cartesian ones, is all that
# Tsit5 keeps in either, and more.
@pytest.mark.parametrize("kind", [kind for kind in CALLS if kind not in TSIT5])
def test_stored_call_is_the_call_in_memory(tmp_path, added, kind):
    call, path = CALLS[kind], tmp_path / "run.zarr"
    expected = call()
    assert len(set(expected.status)) > 1 or kind in ("correlation", "simulation")
    if kind == "correlation":
        assert np.all(np.isnan(expected.blow_up_time))
    elif expected.records is not None:
        assert np.any(np.isnan(expected.records.values["norm"]))

    disk = Disk(tmp_path)
    with disk.recording():  # which only counts, here
        assert_same(expected, call(path))
    assert sorted(added) == list(range(NUM))
    assert_same(expected, jf.load(path))
    added.clear()
    assert_same(expected, call(path))
    assert not added
    with pytest.raises(jf.StoreError, match="another run"):
        call(path, **CHANGES[kind])
    assert_same(expected, jf.load(path))

    interrupted = tmp_path / "interrupted.zarr"
    with ctrl_c_when_done(NUM // 3):
        call(interrupted)
    with pytest.raises(jf.StoreError, match="repeat the call"):
        jf.load(interrupted)
    with pytest.raises(jf.StoreError, match="another run"):
        call(interrupted, **CHANGES[kind])
    assert_same(expected, call(interrupted))
    assert sorted(added) == list(range(NUM))

    random = np.random.default_rng(list(kind.encode()))
    folder = tmp_path / "killed"
    folder.mkdir()
    killed = Disk(folder)
    # Twice: the second process is killed on what the first one left.
    for operations in random.integers(1, disk.operations // 2, size=2):
        killed.revive()
        killed.kill_at(killed.operations + int(operations))
        # How often a run saves is a matter of time, so it may end before.
        with killed.recording(), contextlib.suppress(Killed):
            call(folder / "run.zarr")
    assert_same(expected, call(folder / "run.zarr"))
    assert_same(expected, jf.load(folder / "run.zarr"))


def test_search_for_kkt_points_goes_on_from_its_store(tmp_path, added):
    network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
    ensemble = jf.sample_ensemble(network, NUM, key=jax.random.key(1))
    task = jf.Task(np.eye(2), np.array([1.0, -0.5]))

    def call(path=None, **changes):
        schedule = jf.Schedule(width=8, steps_per_call=8, checkpoint_seconds=1e-3)
        given = {"store": path, "schedule": schedule, "progress": False, **changes}
        return jf.find_kkt(ensemble, task, **given)

    expected = call()
    with ctrl_c_when_done(NUM // 3):
        call(tmp_path / "run.zarr")
    assert_results_same(expected, call(tmp_path / "run.zarr"))
    assert sorted(added) == list(range(NUM))
    assert_results_same(expected, call(tmp_path / "run.zarr"))
    assert len(added) == NUM
    with pytest.raises(jf.StoreError, match="another run"):
        call(tmp_path / "run.zarr", tol=1e-6)
