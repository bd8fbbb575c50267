"""Stores after a power loss, which keeps of unsynced writes whatever it likes."""

import contextlib
import itertools
import pathlib
import shutil

import numpy as np
import pytest

import jaxflow as jf
from jaxflow import _files, stores
from jaxflow.results import _run_store as run_store
from jaxflow.runs._storing import StoreSink

from .comparing import assert_same
from .losing import Disk, Killed
from .stored_calls import CALLS, chunks_of, NUM, written_one_by_one

CALL = CALLS["descent"]
CHUNK = 8  # members, here
SELDOM = jf.Schedule(width=8, steps_per_call=40)
"""For runs that only have to come to their end."""


class Done(frozenset):
    """Members that a store holds, from now on for good."""


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    with chunks_of(CHUNK), written_one_by_one():
        yield


@pytest.fixture(scope="module")
def expected():
    """The run that nothing happens to."""
    return CALL()


def begin(disk, then=None, **settings):
    """The run, until it ends or is killed; notes who is done whenever a write has ended.

    `then` kills it so many operations after some are done, where it writes the next ones.
    """
    write = run_store.RunStore.write

    def noting(store, *args):
        if then is not None and np.sum(store.done) > 3:
            disk.kill_at(disk.operations + then)
        write(store, *args)
        disk.mark(Done(np.flatnonzero(store.done).tolist()))

    with disk.recording(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_store.RunStore, "write", noting)
        try:
            CALL(disk.root / "run.zarr", **settings)
        except (Killed, KeyboardInterrupt) as stop:
            return type(stop)


def recorded(path, **settings):
    path.mkdir(exist_ok=True)
    disk = Disk(path)
    begin(disk, **settings)
    return disk


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """The disk of a run that saves often."""
    disk = recorded(tmp_path_factory.mktemp("disk") / "all")
    assert set().union(*disk.marks(Done)) == set(range(NUM))
    assert len(written(disk)) > 5
    return disk


def written(disk):
    """The moments at which members had been written."""
    return [at for at, event in enumerate(disk.events) if isinstance(event, Done)]


def cuts(disk, random, num):
    """Moments of a run, a quarter of them in its first events, and its very end."""
    early = random.integers(len(disk.events) // 5, size=num // 4)
    others = random.integers(len(disk.events) + 1, size=num - len(early) - 1)
    return [*early.tolist(), *others.tolist(), len(disk.events)]


def safe(*disks_and_cuts):
    """Who was done when a write had ended before the power went."""
    marks = [each for disk, cut in disks_and_cuts for each in disk.marks(Done, cut)]
    return set().union(*marks)


def check(path, expected, added, before):
    """The same call comes to the same; nobody who was done is computed again."""
    added.clear()
    assert_same(expected, CALL(path, schedule=SELDOM))
    assert_same(expected, jf.load(path))
    assert not before & set(added)
    assert len(added) == len(set(added))
    # Whatever is left in the folder, jaxflow knows it for its own.
    expected.save(path, overwrite=True)
    assert_same(expected, jf.load(path))


@pytest.mark.parametrize("seed", range(3))
def test_run_goes_on_after_a_power_loss(tmp_path, disk, expected, added, seed):
    random = np.random.default_rng(seed)
    for number, cut in enumerate(cuts(disk, random, 8)):
        folder = tmp_path / str(number)
        disk.after_power_loss(cut, folder, random)
        check(folder / "run.zarr", expected, added, safe((disk, cut)))


@pytest.mark.parametrize("seed", range(2))
def test_power_is_lost_again_while_the_run_goes_on(tmp_path, disk, expected, added, seed):
    random = np.random.default_rng(100 + seed)
    for number, cut in enumerate(cuts(disk, random, 5)):
        folder = tmp_path / str(number)
        disk.after_power_loss(cut, folder, random)
        again = Disk(folder)
        # Mostly in its repair, which comes first.
        again.kill_at(int(random.integers(1, 160)))
        begin(again, schedule=SELDOM)
        lost = tmp_path / f"{number} again"
        again.after_power_loss(len(again.events), lost, random)
        before = safe((disk, cut), (again, None))
        check(lost / "run.zarr", expected, added, before)


def test_power_is_lost_after_a_killed_run_has_gone_on(tmp_path, expected, added):
    # What the killed process has renamed is there for the next one, and on no disk yet.
    for number in range(5, 50, 6):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = Disk(folder)
        assert begin(disk, then=number) is Killed
        disk.revive()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StoreSink, "add", killing)  # opened, and nobody written
            assert begin(disk, schedule=SELDOM) is Killed
        lost = tmp_path / f"{number} again"
        # Nothing that was not synced.
        disk.after_power_loss(len(disk.events), lost, np.random.default_rng(0), likely=0.0)
        check(lost / "run.zarr", expected, added, safe((disk, None)))


def killing(sink, indices, outcome):
    raise Killed


def test_impatience(tmp_path, expected, added):
    """Ctrl-C while a store is written, and a kill while it is put in order."""
    random = np.random.default_rng(300)
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = Disk(folder)
        stop = int(random.integers(150, 300))
        disk.stops[stop] = KeyboardInterrupt
        disk.kill_at(stop + int(random.integers(1, 30)))
        begin(disk)
        check(folder / "run.zarr", expected, added, safe((disk, None)))


@pytest.mark.parametrize("seed", range(2))
def test_copy_made_file_by_file_goes_on(tmp_path, disk, expected, added, seed):
    """While the run wrote, in any order; every other copy is killed in its repair."""
    random = np.random.default_rng(500 + seed)
    begun = written(disk)[0]
    for number in range(8):
        ends = np.sort(random.integers(begun, len(disk.events) + 1, size=2))
        cuts = np.unique(random.integers(ends[0], ends[1] + 1, size=6)).tolist()
        folder = tmp_path / str(number)
        disk.copied(cuts, folder, random)
        if number % 2:
            again = Disk(folder)
            again.kill_at(int(random.integers(1, 90)))
            begin(again, schedule=SELDOM)
        check(folder / "run.zarr", expected, added, set())


def test_repair_of_a_copy_of_several_moments_is_cut_short(tmp_path, disk, expected, added):
    """The newest status beside older losses, as a copy made file by file may have them."""
    older, newer = next(
        (first, second)
        for first, second in itertools.pairwise(written(disk))
        # A chunk of which some were done before, and one more is now.
        if {n // CHUNK for n in disk.events[first]}
        & {n // CHUNK for n in disk.events[second] - disk.events[first]}
    )
    for name, cut in (("older", older), ("copy", newer)):
        disk.after_power_loss(cut, tmp_path / name, np.random.default_rng(0))
    chunks = pathlib.Path("run.zarr", "final_loss", "c")
    for file in (tmp_path / "older" / chunks).iterdir():
        shutil.copy(file, tmp_path / "copy" / chunks)
    shutil.copytree(tmp_path / "copy", tmp_path / "whole")
    whole = recorded(tmp_path / "whole", schedule=SELDOM)
    for operation in whole.changes[:8]:
        folder = tmp_path / str(operation)
        shutil.copytree(tmp_path / "copy", folder)
        repair = Disk(folder)
        repair.kill_at(operation)
        assert begin(repair, schedule=SELDOM) is Killed
        check(folder / "run.zarr", expected, added, set())


def test_what_an_interrupted_commit_wrote_is_known_to_the_next_one(tmp_path):
    """Three contents of one file: before, of the commit that was interrupted, and after."""
    place, path = "array/c/0", tmp_path / "store"
    for operation in range(1, 14):
        with stores.unfinished(path, {}) as (new, held):
            new.put(place, b"before")
            new.commit()
            assert stores.move_to(path, new)
            held.close()
        store = stores.open_for_writing(path).store
        write = _files.write

        def interrupting(root, key, *args, write=write):
            write(root, key, *args)
            if key == place:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_files, "write", interrupting)
            store.put(place, b"interrupted")
            store.commit()
        disk = Disk(tmp_path)
        disk.kill_at(operation)
        with disk.recording(), pytest.raises(Killed):
            store.put(place, b"after")
            store.commit()
        settled = stores.open_for_writing(path)
        assert not settled.lost
        assert settled.store.content(place) in (b"interrupted", b"after")
        shutil.rmtree(path)


# -- results that are saved --


@pytest.fixture(scope="module")
def results():
    return [CALLS["iterator"](num=num) for num in (2, 3, 4)]


def saved_over_each_other(path, results):
    """The disk of results that were saved one over the other, in a new folder."""
    path.mkdir()
    disk = Disk(path)
    with disk.recording():
        for number, result in enumerate(results):
            result.save(path / "new" / "saved", overwrite=number > 0)
            disk.mark(number)
    return disk


def test_saved_result_is_there_after_a_power_loss(tmp_path, results):
    """The one saved last, or the one that was being saved, and nothing in between."""
    disk, random = (
        saved_over_each_other(tmp_path / "disk", results),
        np.random.default_rng(0),
    )
    for number, cut in enumerate(random.integers(len(disk.events) + 1, size=150).tolist()):
        folder = tmp_path / str(number)
        disk.after_power_loss(cut, folder, random)
        path, last = folder / "new" / "saved", max(disk.marks(int, cut), default=-1)
        try:
            found = jf.load(path)
        except jf.StoreError as error:
            assert last == -1 and "There is no result" in str(error)
        else:
            which = len(found.loss) - 2
            assert which in (last, last + 1)
            assert_same(results[which], found)
        if number % 5 == 0:
            results[0].save(path, overwrite=True)
            assert_same(results[0], jf.load(path))


def test_saving_that_is_killed_leaves_one_result_or_the_other(tmp_path, results):
    whole = saved_over_each_other(tmp_path / "whole", results[:2])
    random = np.random.default_rng(1)
    for number in random.choice(np.arange(1, whole.operations), 40, replace=False).tolist():
        path = tmp_path / f"{number}" / "saved"
        path.parent.mkdir(exist_ok=True)
        disk = Disk(path.parent)
        disk.kill_at(number)
        with disk.recording(), contextlib.suppress(Killed):
            for result in results[:2]:
                result.save(path, overwrite=True)
                disk.mark(1)
        last = len(disk.marks(int)) - 1
        try:
            found = jf.load(path)
        except jf.StoreError as error:
            assert last == -1 and "There is no result" in str(error)
        else:
            assert_same(results[len(found.loss) - 2], found)
            assert len(found.loss) - 2 in (last, last + 1)
        results[2].save(path, overwrite=True)
        assert_same(results[2], jf.load(path))


def test_half_a_store_never_stands_in_for_one(tmp_path, results):
    """A killed process left half of what it replaced; then somebody moves the new one."""
    disk = Disk(tmp_path)
    with disk.recording():
        results[0].save(tmp_path / "saved")
        before = disk.operations
        results[1].save(tmp_path / "saved", overwrite=True)
        last = disk.operations
    for number in range(last - 1, before, -3):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = Disk(folder)
        disk.kill_at(number)
        with disk.recording(), pytest.raises(Killed):
            results[0].save(folder / "saved")
            results[1].save(folder / "saved", overwrite=True)
        if len(jf.load(folder / "saved").loss) == 2:
            break  # not replaced yet
        (folder / "saved").rename(folder / "moved")
        try:
            assert_same(results[0], jf.load(folder / "saved"))
        except jf.StoreError as error:
            assert "There is no result" in str(error)
    else:
        pytest.fail("it was never replaced")
