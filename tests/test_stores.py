"""Stores and what may come upon them: strangers, neighbours, links, races."""

import contextlib
import errno
import json
import os
import pathlib
import shutil
import threading
import warnings

import jax
import numpy as np
import pytest
import xarray
import zarr

import jaxflow as jf
from jaxflow import _files
from jaxflow.results import RunStore
from jaxflow.stores import _folder, lock

from .comparing import assert_same
from .forging import forge, forge_file, forge_text
from .test_results import network, own_records, solution_of
from .test_run_store import simulate

MANIFESTS = ("jaxflow/files/manifest", "jaxflow/files/manifest_copy")
NEW = "jaxflow/files/new"
NUM = 6


@pytest.fixture
def solution():
    return solution_of(network("FeedForward", NUM), NUM, own_records(NUM))


@pytest.fixture
def saved(solution, tmp_path):
    path = tmp_path / "saved.zarr"
    solution.save(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run, and its store to copy."""
    path = tmp_path_factory.mktemp("stores") / "run.zarr"
    return path, simulate(path, num=NUM)


@pytest.fixture
def stored(run, tmp_path):
    return pathlib.Path(shutil.copytree(run[0], tmp_path / "run.zarr"))


def files_in(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


# -- every byte --


def test_no_flipped_bit_of_any_file_is_loaded_as_another_number(saved, solution):
    """One chunk to the last byte, and every hundredth of all other files."""
    wrong, random = [], np.random.default_rng()
    for place, content in files_in(saved).items():
        step = 1 if place == "final_loss/c/0" else 100
        for at in range(0, len(content), step):
            changed = bytearray(content)
            changed[at] ^= 1 << random.integers(8)
            (saved / place).write_bytes(changed)
            try:
                assert_same(solution, jf.load(saved))
            except jf.StoreError:
                continue
            except Exception as error:
                wrong.append((place, at, repr(error)))
            # The same after all: white space, or a manifest of which there is a copy.
            assert place.endswith(("zarr.json", "lock", *MANIFESTS)), (place, at)
        (saved / place).write_bytes(content)
    assert wrong == []


def test_file_of_another_place_or_time_is_not_taken(saved, tmp_path):
    """Each of them is a whole file, with a checksum that is right."""
    others = {
        "another array's": saved / "final_log_norm" / "c" / "0",
        "a sibling's": tmp_path / "sibling.zarr" / "final_loss" / "c" / "0",
        "an older one": tmp_path / "older",
    }
    changed = solution_of(network("FeedForward", NUM), NUM, loss=np.full(NUM, 7.0))
    changed.save(tmp_path / "sibling.zarr")
    target = saved / "final_loss" / "c" / "0"
    shutil.copy(target, tmp_path / "older")
    own = target.read_bytes()
    for what, other in others.items():
        if what == "an older one":
            changed.save(saved, overwrite=True)
        target.write_bytes(other.read_bytes())
        with pytest.raises(jf.StoreError, match=r"final_loss/c/0(:| is damaged)"):
            jf.load(saved)
        target.write_bytes(own)


def test_one_damaged_manifest_is_made_up_for_by_the_other(saved, stored, solution, run):
    for place in MANIFESTS:
        whole = (saved / place).read_bytes()
        for damaged in (b"", whole[:-1], whole.replace(b"1", b"2")):
            (saved / place).write_bytes(damaged)
            assert_same(solution, jf.load(saved))
        (saved / place).write_bytes(whole)
        (stored / place).unlink()
        assert_same(run[1], simulate(stored, num=NUM))
        shutil.copy(stored / MANIFESTS[place == MANIFESTS[0]], stored / place)
    for place in MANIFESTS:
        (saved / place).write_bytes(b"jaxflow manifest 3 0\n{}")
    with pytest.raises(jf.StoreError, match="not as it was written"):
        jf.load(saved)


def test_description_that_another_program_has_consolidated_is_the_same(saved, solution):
    with pytest.warns(Warning):  # Zarr says that it is not in the specification yet
        zarr.consolidate_metadata(saved)
    assert "consolidated_metadata" in json.loads((saved / "zarr.json").read_text())
    assert_same(solution, jf.load(saved))


def test_what_is_said_of_a_group_below_is_right(saved):
    """Others read that, and not the manifest."""
    root = saved / "zarr.json"
    document = json.loads(root.read_text())
    below = document["consolidated_metadata"]["metadata"]
    assert below["final_loss"]["shape"] == [NUM]
    below["final_loss"]["shape"] = [NUM - 1]
    root.write_text(json.dumps(document))
    with pytest.raises(jf.StoreError, match=r"zarr\.json is not as it was written"):
        jf.load(saved)


def test_groups_of_others_are_seen_with_ours(stored, run):
    """xarray consolidates what it writes; a run that goes on keeps that."""
    with pytest.warns(Warning, match="Consolidated"):
        xarray.Dataset({"mine": ("x", np.arange(5))}).to_zarr(
            stored, group="analysis", mode="a"
        )
    assert_same(run[1], jf.load(stored))
    (stored / "final_loss" / "c" / "0").unlink()
    assert_same(run[1], simulate(stored, num=NUM))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert xarray.open_zarr(stored, group="analysis")["mine"].values.sum() == 10
        weights = xarray.open_zarr(stored, group="directions")
    assert weights["init"].values.tolist() == list(range(NUM))


def test_changed_attribute_is_seen(saved):
    zarr.open_group(saved, mode="r+").attrs["seed"] = 4
    with pytest.raises(jf.StoreError, match=r"zarr\.json is not as it was written"):
        jf.load(saved)


def test_damaged_descriptions_are_written_again_and_nothing_is_computed(
    stored, run, monkeypatch
):
    for description in sorted(stored.rglob("zarr.json")):
        description.write_bytes(b"")
    with pytest.raises(jf.StoreError, match="not as it was written"):
        jf.load(stored)
    assert_same(run[1], simulate(stored, num=NUM))
    assert_same(run[1], jf.load(stored))
    with xarray.open_zarr(stored, consolidated=False) as opened:
        np.testing.assert_array_equal(opened["final_loss"], run[1].loss)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
def test_file_that_cannot_be_opened_now_is_left_as_it_is(stored, monkeypatch, number):
    before, read = files_in(stored), _files.read

    def failing(root, key, most):
        if key.startswith("final_loss/c"):
            raise OSError(number, os.strerror(number))
        return read(root, key, most)

    monkeypatch.setattr(_files, "read", failing)
    with pytest.raises(jf.StoreError, match=os.strerror(number)):
        simulate(stored, num=NUM)
    monkeypatch.undo()
    assert files_in(stored) == before


# -- strangers --


def describes(structure):
    """An edit that lets a group of weights say this of its networks."""

    def edit(document):
        text = structure if isinstance(structure, str) else json.dumps(structure)
        document["attributes"]["jaxflow_structure"] = text

    return edit


def nested(depth):
    return '{"list": [' * depth + '{"value": 1}' + "]}" * depth


LINEAR = "jaxflow.networks._diagonal:DiagonalLinear"
STRUCTURES = {
    "a function": {"object": "builtins:exec"},
    "a module beside it": {"object": "evil:anything"},
    "no module": {
        "class": "jaxflow.errors:InputError",
        "fields": {},
    },
    "what a module of ours imports": {"object": "jaxflow._files:os"},
    "a name with dots": {"object": "jaxflow.observables._weights:jnp.save"},
    "Partial": {
        "class": "equinox:Partial",
        "fields": {"func": {"object": "os:remove"}},
    },
    "partial": {
        "partial": {"object": "os:system"},
        "args": [{"value": "touch ran"}],
        "keywords": {},
    },
    "partial of no function": {"partial": {"value": 1}, "args": [], "keywords": {}},
    "arguments that are none": {
        "partial": {"object": "jax.numpy:tanh"},
        "args": [],
        "keywords": [],
    },
    "an instance": {"instance": "evil:anything"},
    "an instance of a module": {"instance": LINEAR},
    "an instance of a number": {"instance": "builtins:int"},
    "a tuple with names": {"named tuple": "evil:anything", "items": []},
    "a tuple with names of a number": {"named tuple": "builtins:int", "items": []},
    "a constant": {"enum": "evil:anything", "member": "RED"},
    "a constant that is none": {"enum": "jax.lax:Precision", "member": "__class__"},
    "a type of objects": {"dtype": "object"},
    "a number of objects": {"number": "object", "bytes": "00"},
    "a number that is too long": {"number": "float32", "bytes": "00" * 8},
    "pairs that are none": {"dict": [["a", {"value": 1}, 3]]},
    "no words": {"unnamed": ["\x1b[31m"]},
    "__class__": {"class": LINEAR, "fields": {"__class__": {"object": "builtins:object"}}},
    "no fields": {"class": LINEAR},
    "fields that are none": {"class": LINEAR, "fields": ["weights"]},
    "an unknown field": {"class": LINEAR, "fields": {"run": {"value": 1}}},
    "an unknown kind": {"code": "print()"},
    "two kinds": {"value": 1, "object": "builtins:exec"},
    "a list": [],
    "a value that is none": {"value": {"object": "builtins:exec"}},
    "an array that is none": {"array": "evil"},
    "a list that is none": {"list": 3},
    "no name": {"object": 3},
    "too deep": nested(1500),
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_a_file_names_is_not_run(tmp_path, monkeypatch, saved, structure):
    """Not even where the manifest says that all is right."""
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    forge(saved, describes(STRUCTURES[structure]), group="directions")
    with pytest.raises(jf.StoreError, match=r"saved\.zarr"):
        jf.load(saved)
    assert not (tmp_path / "ran").exists()


def test_run_that_a_file_names_is_not_made_of_anything_else(stored, tmp_path):
    assert jf.Simulation.load(stored).num == NUM
    forge_text(stored, "jaxflow.observables._weights:norm", "os:remove", group="simulation")
    with pytest.raises(jf.StoreError, match=r"names os:remove.*trust"):
        jf.Simulation.load(stored)
    forge(stored, describes({"class": LINEAR, "fields": {}}), group="simulation")
    with pytest.raises(jf.StoreError, match="holds a DiagonalLinear"):
        jf.Simulation.load(stored)


def _shaped(shape):
    def edit(document):
        document["shape"] = shape
        document["chunk_grid"]["configuration"]["chunk_shape"] = shape

    return edit


@pytest.mark.parametrize("shape", [[2**29], [2**60], [10**30], [-1], ["6"], [[6]], [1e3]])
def test_array_of_any_size_can_be_declared(saved, shape):
    forge(saved, _shaped(shape), group="final_loss")
    with pytest.raises(jf.StoreError, match=r"saved\.zarr"):
        jf.load(saved)


def test_small_file_that_would_become_a_large_one(saved, tmp_path):
    bomb = zarr.create_array(tmp_path / "bomb", shape=(2**27,), chunks=(2**27,), dtype="u1")
    bomb = bomb.with_config({"write_empty_chunks": True})
    bomb[:] = 0
    content = (tmp_path / "bomb" / "c" / "0").read_bytes()
    assert len(content) < 2**17
    forge_file(saved, "final_loss/c/0", content)
    with pytest.raises(jf.StoreError, match="would become 134,217,728"):
        jf.load(saved)


def test_codec_from_elsewhere_is_not_looked_for(saved):
    forge_text(saved, '"zstd"', '"my_codec"', group="final_loss")
    with pytest.raises(jf.StoreError, match="codecs that jaxflow does not write"):
        jf.load(saved)


def test_json_that_is_too_deep(saved):
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    (saved / "final_loss" / "zarr.json").write_bytes(deep)
    with pytest.raises(jf.StoreError, match=r"saved\.zarr"):
        jf.load(saved)


@pytest.mark.parametrize(
    "place",
    ["", "zarr.json", "final_loss/c/0", "final_loss/zarr.json", "directions", *MANIFESTS],
)
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "large"])
def test_what_is_no_file_is_not_waited_for(saved, solution, place, what):
    target = saved / place
    kept = target.with_name(target.name + ".kept")
    target.rename(kept)
    if what == "pipe":
        os.mkfifo(target)
    elif what == "device":
        target.symlink_to("/dev/zero")
    elif what == "folder":
        target.mkdir()
    else:
        with open(target, "wb") as file:
            file.truncate(2**36)  # without a block on the disk
    if place in MANIFESTS:
        assert_same(solution, jf.load(saved))  # there is the other one
    else:
        with pytest.raises(jf.StoreError, match=r"saved\.zarr|/dev/zero"):
            jf.load(saved)
    assert kept.exists()


# -- links and neighbours --


def test_links_in_a_store_lead_nowhere(stored, tmp_path):
    other = pathlib.Path(shutil.copytree(stored, tmp_path / "other.zarr"))
    before = files_in(other)
    victim, empty = tmp_path / "victim", tmp_path / "empty"
    victim.write_text("precious")
    empty.mkdir()
    (stored / "final_loss" / "c" / "0").write_bytes(b"damaged, so that it is written")
    for place, leads_to in [
        ("jaxflow/files/lock", victim),
        (NEW, victim),
        ("directions", other / "directions"),
        ("directions", empty),
        ("final_loss/c", other / "final_loss" / "c"),
    ]:
        shutil.rmtree(stored, ignore_errors=True)
        shutil.copytree(other, stored)
        (stored / "final_loss" / "c" / "0").write_bytes(b"damaged, so that it is written")
        target = stored / place
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)
        target.symlink_to(leads_to)
        for call in (lambda: simulate(stored, num=NUM), lambda: jf.load(stored)):
            with contextlib.nullcontext() if place == NEW else pytest.raises(jf.StoreError):
                call()
        assert victim.read_text() == "precious"
        assert list(empty.iterdir()) == []
        assert files_in(other) == before


@pytest.mark.parametrize(
    "make", [_files.make_way, lambda *at: _files.write(*at, b"", "new")]
)
def test_no_folder_is_made_through_a_link(tmp_path, make):
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        make(tmp_path / "root", "link/folder/file")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_store_may_itself_be_a_link(tmp_path, run):
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "large_disk")
    assert_same(run[1], simulate(tmp_path / "results" / "run.zarr", num=NUM))
    assert (tmp_path / "large_disk" / "run.zarr").is_dir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "large_disk" / "run.zarr")
    assert_same(run[1], simulate(tmp_path / "link.zarr", num=NUM))
    run[1].save(tmp_path / "link.zarr", overwrite=True)
    assert (tmp_path / "link.zarr").is_symlink()
    assert_same(run[1], jf.load(tmp_path / "large_disk" / "run.zarr"))


def test_what_others_keep_in_a_store_stays(stored, run):
    mine = xarray.Dataset({"mine": ("x", np.arange(5))})
    mine.to_zarr(stored, group="analysis", mode="a", consolidated=False)
    (stored / "notes.txt").write_text("mine")
    (stored / "figures" / "c").mkdir(parents=True)
    (stored / "figures" / "c" / "a.partial").write_text("mine")
    (stored / "final_loss" / "c" / "0").unlink()
    others = {p: c for p, c in files_in(stored).items() if "final_loss" not in p}
    assert_same(run[1], simulate(stored, num=NUM))
    now = files_in(stored)
    assert {p for p in others if p not in now} == set()
    ours = ("jaxflow/", "zarr.json", "status/c")
    assert {p for p in others if now[p] != others[p] and not p.startswith(ours)} == set()
    assert_same(run[1], jf.load(stored))


def test_only_what_says_that_it_is_ours_is_overwritten(tmp_path, saved, solution):
    other = solution_of(network("FeedForward", 2), 2)
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("all of it")
    (tmp_path / "file").write_text("a file")
    zarr.create_array(tmp_path / "array.zarr", shape=(2,), dtype=float)
    for path in (thesis, tmp_path / "file", tmp_path / "array.zarr"):
        with pytest.raises(jf.StoreError, match=f"{path.name}.*overwritten"):
            other.save(path, overwrite=True)
    assert (thesis / "thesis.tex").read_text() == "all of it"
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(jf.StoreError, match=r"holds notes\.txt, which is not jaxflow's"):
        other.save(saved, overwrite=True)
    assert_same(solution, jf.load(saved))
    (saved / "notes.txt").unlink()
    with lock(saved), pytest.raises(jf.StoreError, match="being written by another run"):
        other.save(saved, overwrite=True)
    assert_same(solution, jf.load(saved))
    other.save(saved, overwrite=True)
    assert_same(other, jf.load(saved))
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"thesis", "file", "array.zarr", "saved.zarr"}


class Killed(BaseException):
    """What nobody catches."""


def test_store_that_is_being_replaced_is_never_gone(tmp_path, saved, solution, monkeypatch):
    new, rename = solution_of(network("FeedForward", 2), 2), os.rename

    def killing_at(number):
        renames = []

        def killing(old, path):
            renames.append(path)
            if len(renames) == number:
                raise Killed
            rename(old, path)

        return killing

    # Moving it to its place fails, as something is there; then the two renames.
    for kill_at in (1, 2, 3):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(_folder.os, "rename", killing_at(kill_at))
            new.save(saved, overwrite=True)
        assert_same(solution, jf.load(saved))
    assert not saved.exists()  # it lies beside its place
    with pytest.raises(jf.StoreError, match="overwrite=True"):
        new.save(saved)
    assert_same(solution, jf.load(saved))
    new.save(saved, overwrite=True)
    assert_same(new, jf.load(saved))
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved.zarr"]


# -- races --


def test_one_of_two_that_begin_a_store_has_it(tmp_path):
    identity = {"kind": "gradient flow"}
    for round in range(60):
        path, barrier = tmp_path / f"{round}.zarr", threading.Barrier(3)
        held, refused = [], []

        def begin(path=path, barrier=barrier, held=held, refused=refused):
            barrier.wait()
            try:
                held.append(RunStore(path, identity, 4))
            except jf.StoreError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=begin) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(held) == 1, (held, refused)
        assert all("being written by another run" in each for each in refused)
        held[0].close()
    assert {entry.suffix for entry in tmp_path.iterdir()} == {".zarr"}
    assert not any(entry.name.startswith(".") for entry in tmp_path.iterdir())


# The type checks of the tests look into mappings, and with that read them.
@pytest.mark.usefixtures("as_users_have_it")
def test_weights_that_are_read_later_are_still_checked(stored, run, tmp_path, monkeypatch):
    monkeypatch.chdir(stored.parent)
    solution = simulate("run.zarr", num=NUM)
    same = simulate("run.zarr", num=NUM)
    monkeypatch.chdir("/")  # a relative path means what it meant
    assert_same(run[1], same)
    shutil.rmtree(stored / "directions" / "weights_0" / "c")
    with pytest.raises(jf.StoreError, match=r"run\.zarr.*weights_0/c/0/0/0 has gone"):
        _ = solution.directions
    shutil.rmtree(stored)
    with pytest.raises(jf.StoreError, match=r"run\.zarr"):
        _ = solution.records.values["norm"]
    with pytest.raises(jf.StoreError, match=r"run\.zarr"):
        solution.dataset["norm"].load()


def test_finished_store_is_read_where_nothing_can_be_written(stored, run, monkeypatch):
    def refused(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("write", "make_way", "remove"):
        monkeypatch.setattr(_files, name, refused)
    monkeypatch.setattr(_folder, "lock", refused)
    assert_same(run[1], simulate(stored, num=NUM))
    assert_same(run[1], jf.load(stored))
    with pytest.raises(jf.StoreError, match="Read-only file system"):
        simulate(stored, num=NUM, attrs={"note": "new"})


# -- names --


def test_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch, run, solution):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_same(run[1], simulate("~/runs/run.zarr", num=NUM))
    assert (tmp_path / "runs" / "run.zarr").is_dir()
    assert_same(run[1], jf.load("~/runs/run.zarr"))
    solution.save("~/saved.zarr")
    assert_same(solution, jf.load(str(tmp_path / "saved.zarr")))


@pytest.mark.parametrize(
    "path",
    ["s3://bucket/run.zarr", "gs://b/x", "", "a\0b", 3, b"x", ["a"], "~no_such_user/x"],
)
def test_what_is_no_folder_is_refused_before_anything_is_computed(
    path, solution, monkeypatch, as_users_have_it
):
    monkeypatch.setattr(jax, "jit", lambda *args, **kwargs: pytest.fail("compiled"))
    for name, call in {
        "store": lambda: simulate(path, num=NUM),
        "path": lambda: solution.save(path),
        "path ": lambda: jf.load(path),
        "path  ": lambda: jf.Simulation.load(path),
    }.items():
        with pytest.raises(jf.InputError, match=f"^{name.strip()}: found"):
            call()


@pytest.mark.parametrize("trust", [3, [4], [None], [""], None])
def test_trust_is_a_list_of_modules(saved, trust, as_users_have_it):
    with pytest.raises(jf.InputError, match=r"^trust: found"):
        jf.load(saved, trust=trust)


def test_single_precision_is_told_of(saved, solution):
    with jax.enable_x64(False), pytest.warns(UserWarning, match="float64.*float32.*x64"):
        narrow = jf.load(saved)
    assert narrow.directions.weights[0].dtype == np.float32
    assert narrow.loss.dtype == np.float64
