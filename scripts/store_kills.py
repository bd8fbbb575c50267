"""Kill runs that have a store with kill -9 at random moments, copy stores file by file
while they are written, and compare what the same call then makes of them to the last bit.

Over every public function with `store=`, and `Solution.save(overwrite=True)`. It takes some
seconds for a kill and one for a copy, and ends with an error at the first difference.

    python -m scripts.store_kills --rounds 200 --copies 50 --seed 0 --minutes 35
"""

import argparse
import collections
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import zarr

import jaxflow as jf
from jaxflow.results import _run_store
from jaxflow.runs._storing import StoreSink
from jaxflow.stores import open_for_writing
from tests.comparing import assert_same
from tests.stored_calls import CALLS, NUM

ROOT = pathlib.Path(__file__).parents[1]
SAVE = "save"
IN_FLIGHT = "jaxflow/files/in_flight"  # written when all programs are compiled
KINDS = (*CALLS, SAVE)
AGAIN = 1 / 3
"""How often a killed run is gone on with by one that is killed too."""
MOST_COPIES = 5  # of one run


def configure(cache: str) -> None:
    """Double precision, small chunks, and programs compiled once for all processes."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _run_store._CHUNK_ROWS = (8, 8)  # several chunks of few members


def two_solutions() -> list:
    return [CALLS["iterator"](num=num) for num in (4, 6)]


class Child:
    """A process that waits, all imported, to be told what to run."""

    def __init__(self, cache: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scripts.store_kills", "--child", cache],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, kind: str, path: pathlib.Path) -> None:
        self.process.stdin.write(f"{kind} {path}\n")  # pyright: ignore
        self.process.stdin.flush()  # pyright: ignore

    def wait_for(self, path: pathlib.Path, seconds: float = 300) -> None:
        """Until there is such a file, or the process has ended."""
        end = time.monotonic() + seconds
        while not path.exists() and self.process.poll() is None:
            assert time.monotonic() < end, "it hangs"
            time.sleep(0.002)

    def kill(self) -> bool:
        """Whether that came before its end."""
        in_time = self.process.poll() is None
        self.process.send_signal(signal.SIGKILL)
        said = self.process.communicate()[1]
        assert in_time or self.process.returncode == 0, said[-3000:]
        return in_time


def child(cache: str) -> None:
    configure(cache)
    kind, path = sys.stdin.readline().split()
    if kind != SAVE:
        CALLS[kind](path)
        return
    solutions = two_solutions()
    for number in range(200):
        solutions[number % 2].save(path, overwrite=True)


class Trial:
    """All rounds, and what was found.

    Arguments:
        folder: for stores.
        cache: of compiled programs.
        seed: of all that is random.
    """

    def __init__(self, folder: pathlib.Path, cache: str, seed: int):
        self.folder, self.cache = folder, cache
        self.random = np.random.default_rng(seed)
        self.next = Child(cache)
        self.expected, self.longest = {}, collections.defaultdict(lambda: 1.0)
        self.stages, self.equal = collections.Counter(), collections.Counter()
        self.computed: list[int] = []
        add = StoreSink.add

        def spy(sink, indices, outcome):
            self.computed.extend(indices.tolist())
            add(sink, indices, outcome)

        StoreSink.add = spy

    def child(self) -> Child:
        """One that waits; the following one imports meanwhile."""
        ready, self.next = self.next, Child(self.cache)
        return ready

    def expect(self, kind: str):
        """What nothing happens to."""
        if kind not in self.expected:
            self.expected[kind] = two_solutions() if kind == SAVE else CALLS[kind]()
        return self.expected[kind]

    def killed(self, kind: str, path: pathlib.Path) -> None:
        """Run a child and kill it: now and then before its store begins, or just then."""
        process = self.child()
        process.begin(kind, path)
        if self.random.random() < 0.05:
            time.sleep(self.random.uniform(0, 3.0))
        else:
            at_once = kind == SAVE or self.random.random() < 0.1
            process.wait_for(path if at_once else path / IN_FLIGHT)
            time.sleep(self.random.uniform(0, self.longest[kind]))
        in_time = process.kill()
        self.longest[kind] *= 1.05 if in_time else 0.8
        self.stages["killed: " + (self.stage(kind, path) if in_time else "had ended")] += 1

    def stage(self, kind: str, path: pathlib.Path) -> str:
        """What a process that was killed left."""
        if not path.exists():
            aside = path.with_name(f".{path.name}.replaced").exists()
            begun = any(path.parent.glob(f".{path.name}.new-*"))
            return "between two renames" if aside else f"no store{', begun' * begun}"
        settled = open_for_writing(path, read_only=True)
        if kind == SAVE:
            assert settled.is_intact
            return "a saved result"
        middle = "" if settled.is_intact else ", in the middle of a commit"
        num = len(self.done(path))
        if not settled.store.attributes["jaxflow_unfinished"]:
            return "finished" + middle
        some = "nobody" if num == 0 else "some" if num < NUM else "all"
        return f"{some} done{middle}"

    def done(self, path: pathlib.Path) -> np.ndarray:
        """Who is done in a store, as far as its status says."""
        try:
            return np.flatnonzero(zarr.open_array(path / "status", mode="r")[...])
        except FileNotFoundError:  # no array yet
            return np.zeros(0, int)

    def compare(self, kind: str, path: pathlib.Path, *, copied: bool = False) -> None:
        """The same call, and whether it comes to the same."""
        expected = self.expect(kind)
        if kind == SAVE:
            if path.exists() or path.with_name(f".{path.name}.replaced").exists():
                loaded = jf.load(path)
                assert_same(expected[len(loaded.loss) == 6], loaded)
            expected[0].save(path, overwrite=True)
            assert_same(expected[0], jf.load(path))
        else:
            before = np.zeros(0, int) if copied else self.done(path)
            self.computed.clear()
            assert_same(expected, CALLS[kind](path))
            assert_same(expected, jf.load(path))
            # Of a copy parts may be too old or too new; whoever is killed loses nobody.
            again = np.intersect1d(before, self.computed)
            assert copied or not len(again), f"computed again: {again}"
        self.equal["copies" if copied else "killed"] += 1

    def copies(self, kind: str, most: int) -> int:
        """Copies of a store while a child writes it; each then goes on."""
        path = self.folder / f"copied-{kind}.zarr"
        process, copies = self.child(), []
        process.begin(kind, path)
        process.wait_for(path / IN_FLIGHT)
        while process.process.poll() is None and len(copies) < most:
            time.sleep(self.random.uniform(0, 0.3))
            copies.append(self.copied(path, len(copies)))
        process.kill()
        for copy in copies:
            settled = open_for_writing(copy, read_only=True)
            parts = "one moment" if settled.is_intact else "several moments"
            self.stages[f"copied: of {parts}"] += 1
            self.compare(kind, copy, copied=True)
            shutil.rmtree(copy)
        shutil.rmtree(path)
        return len(copies)

    def copied(self, path: pathlib.Path, number: int) -> pathlib.Path:
        """Copy file after file, in any order and at any pace."""
        copy = path.with_name(f"copy-{number}.zarr")
        files = [file for file in path.rglob("*") if file.is_file()]
        pause = self.random.uniform(0, 1.0) / len(files)
        for at in self.random.permutation(len(files)):
            target = copy / files[at].relative_to(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(files[at], target)
            except FileNotFoundError:  # it has gone meanwhile
                target.unlink(missing_ok=True)
            time.sleep(self.random.uniform(0, 2 * pause))
        return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="how many kills")
    parser.add_argument("--copies", type=int, default=5, help="how many copies")
    parser.add_argument("--seed", type=int, help="drawn if not given")
    parser.add_argument("--minutes", type=float, default=np.inf, help="after which to end")
    parser.add_argument("--cache", help="a folder to keep compiled programs in")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return
    seed = secrets.randbelow(2**32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    end = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        cache = given.cache or f"{folder}/cache"
        configure(cache)
        trial = Trial(pathlib.Path(folder), cache, seed)
        try:
            go(trial, given.rounds, given.copies, end)
        finally:
            trial.next.process.kill()
            for stage, num in sorted(trial.stages.items()):
                print(f"{num:5} {stage}")
            print(f"seed {seed}: resumed and equal {dict(trial.equal)}", flush=True)


def go(trial: Trial, rounds: int, copies: int, end: float) -> None:
    """Kills and copies in turn, so that whoever ends it early has had both."""
    kills = copied = number = 0
    while (kills < rounds or copied < copies) and time.monotonic() < end:
        kind = KINDS[number % len(KINDS)]
        number += 1
        path = trial.folder / f"{number}-{kind}.zarr"
        begun = kills
        while kills < rounds and (kills == begun or trial.random.random() < AGAIN):
            trial.killed(kind, path)
            kills += 1
        if kills > begun:
            trial.compare(kind, path)
            shutil.rmtree(path)
        if kind != SAVE and copied * rounds < copies * kills:
            copied += trial.copies(kind, min(MOST_COPIES, copies - copied))
        print(f"{number} {kind}: {kills} kills, {copied} copies", flush=True)


if __name__ == "__main__":
    main()
