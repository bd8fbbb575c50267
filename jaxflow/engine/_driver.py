"""An ensemble through pools: one queue of members, workers that take from it, one sink.

The driver, in the caller's thread, draws members, compiles, and passes on what workers
report. Members that are done go to the sink; lanes in flight go there too every so often,
so that a run which is killed goes on from there. Workers need not agree on
anything: a member is done if the sink has it, goes on from its lane if one was saved, and
starts from its beginning otherwise.
"""

import queue
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from ..errors import StoreError
from . import _status as status
from ._calibration import best_width, default_width
from ._checkpoint import from_bytes, InFlight, to_bytes
from ._lane import Problem
from ._observer import AbstractObserver
from ._pool import join, Members, Outcome, pad, take
from ._programs import compile_programs, is_compiled, Programs
from ._schedule import Device, devices_of, LANE_UNIT, Layout, layout, Schedule
from ._worker import Batch, Report, Worker

_WORTH_MEASURING = 8
"""A run with fewer batches than this for every pool is too short to calibrate. Chosen."""


_DRAWN_BYTES = 2**24
"""Members are drawn a few batches at a time, as many as fit in this. Chosen; the part
`linear` of benchmarks/engine.py, where memory hardly grows with the members, has it."""


class Progress(NamedTuple):
    """How far a run has come."""

    done: int
    total: int | None  # None if it is not known
    failed: int
    in_flight: int
    steps: int  # attempted by members of this process, done or in flight
    doing: str = ""  # what holds it up, such as compiling


class PassedError(Exception):
    """Members were to go on from where stop conditions hold already.

    Given their numbers.
    """

    def __init__(self, indices: np.ndarray):
        super().__init__(f"stop conditions hold already for {len(indices)} members")
        self.indices = indices


@runtime_checkable
class Source(Protocol):
    """Where members come from. Their numbers are 0, 1, 2, …"""

    @property
    def total(self) -> int | None:
        """How many there are; `None` if only the end of an iterator will tell."""
        ...

    def has(self, index: int) -> bool:
        """Whether there is a member of this number; asked for in increasing order."""
        ...

    def draw(self, indices: np.ndarray) -> Members:
        """These members before their start, with a leading axis. Increasing numbers."""
        ...


def example_of(source: Source) -> Members:
    """One member of a source, for shapes and dtypes."""
    # As many as the narrowest pool has lanes, for whom the program is needed anyway.
    drawn = source.draw(np.zeros(LANE_UNIT["cpu"], np.int64))
    return take(jax.device_get(drawn), slice(0, 1))


@runtime_checkable
class Sink(Protocol):
    """Where members go when they are done."""

    def is_done(self, index: int) -> bool:
        """Whether this member was done before this run began."""
        ...

    def add(self, indices: np.ndarray, outcome: Outcome) -> None:
        """Keep where these members ended."""
        ...

    def save(self, in_flight: bytes) -> None:
        """Make all that was added safe, then these lanes in place of older ones."""
        ...

    def saved(self) -> bytes | None:
        """The lanes in flight that an earlier run saved."""
        ...


def run(
    problem: Problem,
    source: Source,
    sink: Sink,
    *,
    observer: AbstractObserver | None = None,
    schedule: Schedule | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Run every member of a source to its end and give it to the sink.

    Arguments:
        problem: what all members share.
        source: where members come from.
        sink: where they go when they are done.
        observer: what is recorded; the source then gives recordings.
        schedule: how the run is spread over the machine.
        on_progress: called whenever something has happened.
    """
    if not source.has(0):
        return
    _Driver(problem, source, sink, observer, schedule or Schedule(), on_progress).run()


class _Driver:
    def __init__(self, problem, source, sink, observer, schedule, on_progress):
        self.problem = problem
        self.source: Source = source
        self.sink: Sink = sink
        self.observer = observer
        self.schedule: Schedule = schedule
        self.on_progress = on_progress
        self.example = example_of(source)  # asked for before any other
        self.next_index = 0
        self.restored: InFlight | None = None
        self.handed_out: set[int] = set()  # members that go on from a saved lane
        self.done_now: set[int] = set()  # of those
        self.num_done = self.num_failed = self.steps_done = 0
        self.last: dict[Worker, Report] = {}
        self.in_flight: dict[Worker, InFlight | None] = {}  # as last reported
        self.batches: queue.Queue[Batch | None] = queue.Queue()
        self.reports: queue.Queue[Report] = queue.Queue()

    def run(self) -> None:
        plan = self._plan()
        by_device = {d: self.compile(plan.width, d) for d in plan.devices}
        self._restore(by_device[plan.devices[0]])
        self.coming = self._members_to_run(plan.width)
        workers = [
            Worker(by_device[device], self.batches, self.reports, plan.steps_per_call)
            for device in plan.devices
        ]
        self._feed(len(workers))
        self._tell()
        try:
            for worker in workers:
                worker.start()
            self._drive(workers, plan)
        except BaseException as error:
            safe = not isinstance(error, (StoreError, PassedError))
            self._leave(workers, safe_to_save=safe)
            raise

    # -- members to workers --

    def _restore(self, programs: Programs) -> None:
        """Take up lanes in flight that an earlier run saved, but those that are done."""
        stored = self.sink.saved()
        found = None if stored is None else from_bytes(stored, programs.shapes)
        if found is None:
            return
        rows = np.flatnonzero([not self.sink.is_done(int(i)) for i in found.indices])
        self.restored = InFlight(found.indices[rows], take(found.pool, rows))
        self.handed_out = set(self.restored.indices.tolist())

    def _members_to_run(self, width: int):
        """Batches: first those that go on, then those that start."""
        if self.restored is not None:
            for first in range(0, len(self.restored.indices), width):
                rows = slice(first, first + width)
                going_on = take(self.restored.pool, rows)
                yield Batch(self.restored.indices[rows], None, going_on)
        chunk = width * self._batches_drawn_together(width)
        while True:
            indices = []
            while len(indices) < chunk and self.source.has(self.next_index):
                index, self.next_index = self.next_index, self.next_index + 1
                if self.sink.is_done(index):
                    self.num_done += 1
                elif index not in self.handed_out:
                    indices.append(index)
            if not indices:
                return
            # Always as many, so that the source compiles one program.
            padded = np.array(indices + indices[-1:] * (chunk - len(indices)), np.int64)
            members = jax.device_get(self.source.draw(padded))
            for first in range(0, len(indices), width):
                rows = slice(first, min(first + width, len(indices)))
                yield Batch(padded[rows], take(members, rows))

    def _batches_drawn_together(self, width: int) -> int:
        """Several where members are many and small: drawing has a cost of its own."""
        total = self.source.total
        leaves = jax.tree_util.tree_leaves(self.example)
        size = width * max(1, sum(leaf.nbytes for leaf in leaves))
        few = total is None or total < 16 * width
        return 1 if few else int(np.clip(_DRAWN_BYTES // size, 1, 16))

    def _feed(self, num_workers: int) -> None:
        """Keep a batch ready for every worker; after the last batch send each a `None`."""
        while self.coming is not None and self.batches.qsize() < num_workers:
            batch = next(self.coming, None)
            if batch is None:
                self.coming = None
                for _ in range(num_workers):
                    self.batches.put(None)
            else:
                self.batches.put(batch)

    # -- reports from workers --

    def _drive(self, workers: list[Worker], plan: Layout) -> None:
        running = set(workers)
        narrowing = _Narrowing(self, plan.narrower)
        saving = _Saving(self.schedule.checkpoint_seconds)
        while running:
            report = self.reports.get()
            self._take(report)
            if report.error is not None:
                raise report.error
            if report.ended:
                running.discard(report.worker)
            self._feed(len(workers))
            self._tell()
            if saving.is_due(report, running):
                self._save()
            if not report.ended and report.worker.is_draining:
                narrowing.consider(report)
        self.sink.save(b"")

    def _take(self, report: Report) -> None:
        self.last[report.worker] = report
        if report.in_flight is not None or report.ended:
            self.in_flight[report.worker] = report.in_flight
        if report.outcome is None:
            return
        if np.any(passed := report.outcome.status == status.PASSED):
            raise PassedError(report.indices[passed])
        self.sink.add(report.indices, report.outcome)
        self.done_now.update(self.handed_out.intersection(report.indices.tolist()))
        self.num_done += len(report.indices)
        self.num_failed += int(np.sum(report.outcome.status < 0))
        self.steps_done += int(np.sum(report.outcome.num_steps, dtype=np.int64))

    def _tell(self, doing: str = "") -> None:
        reports = self.last.values()
        self.on_progress(
            Progress(
                self.num_done,
                self.source.total,
                self.num_failed,
                sum(report.num_live for report in reports),
                self.steps_done + sum(report.live_steps for report in reports),
                doing,
            )
        )

    def _save(self) -> None:
        """Save the lanes that workers last reported, and restored ones not yet reported."""
        parts = [part for part in self.in_flight.values() if part is not None]
        told = {int(index) for part in parts for index in part.indices}
        if self.restored is not None:
            kept = [
                row
                for row, index in enumerate(self.restored.indices.tolist())
                if index not in told and index not in self.done_now
            ]
            if kept:
                old = take(self.restored.pool, np.array(kept))
                parts.append(InFlight(self.restored.indices[kept], old))
        whole = InFlight(*join([tuple(part) for part in parts])) if parts else None
        self.sink.save(b"" if whole is None else to_bytes(whole))

    def _leave(self, workers: list[Worker], *, safe_to_save: bool) -> None:
        """Stop all workers, and save what they have done and where they are."""
        for worker in workers:
            worker.leave.set()
        for worker in workers:
            worker.wait_for_end()
        try:
            while True:
                report = self.reports.get_nowait()
                if report.error is None and safe_to_save:
                    self._take(report)
        except queue.Empty:
            pass
        if safe_to_save:
            self._save()

    # -- programs --

    def _plan(self) -> Layout:
        devices = devices_of(self.schedule)
        total = self.source.total
        width = self.schedule.width
        if width is None:
            width = default_width(devices[0])
            if total is None or total >= _WORTH_MEASURING * width * len(devices):
                one = take(self.example.starts, 0)
                self._tell("measuring")
                width = best_width(self.problem, one, devices)
            if total is not None:
                # Every pool several times full: at the end of a run lanes are empty.
                width = min(width, max(1, total // (4 * len(devices))))
        return layout(self.schedule, width, total)

    def compile(self, width: int, device: Device) -> Programs:
        """Programs for pools of this width."""
        members = pad(self.example, width)
        if not self.is_compiled(width, device):
            self._tell("compiling")
        return compile_programs(self.problem, self.observer, members, device)

    def is_compiled(self, width: int, device: Device) -> bool:
        """Whether they are there already."""
        members = pad(self.example, width)
        return is_compiled(self.problem, self.observer, members, device)


class _Saving:
    """Asks workers for their lanes every so often, and says when all have answered."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        self._asked: set[Worker] | None = None

    def is_due(self, report: Report, running: set[Worker]) -> bool:
        if self._asked is None:
            if time.monotonic() < self._next:
                return False
            self._asked = set(running)
            for worker in running:
                worker.wants_in_flight.set()
        if report.in_flight is not None or report.ended or not report.num_live:
            self._asked.discard(report.worker)
        if self._asked & running:
            return False
        self._asked, self._next = None, time.monotonic() + self._seconds
        return True


class _Narrowing:
    """Offers narrower pools to workers with few lanes left and no members waiting.

    Programs that are there already are offered at once. Others are compiled when a worker
    has waited as long as that takes, which costs at most twice the best that could have
    been done without knowing how long the last members run.
    """

    def __init__(self, driver: _Driver, widths: tuple[int, ...]):
        self._driver = driver
        self._widths = widths
        self._since: dict[tuple[Worker, int], float] = {}

    def consider(self, report: Report) -> None:
        worker, now = report.worker, time.perf_counter()
        fitting = [w for w in self._widths if report.num_live <= w < worker.programs.width]
        if not fitting or not report.num_live or worker.narrow_to is not None:
            return
        width = min(fitting)
        device = worker.programs.device
        waited = now - self._since.setdefault((worker, width), now)
        ready = self._driver.is_compiled(width, device)
        if ready or waited > worker.programs.seconds:
            worker.narrow_to = self._driver.compile(width, device)
