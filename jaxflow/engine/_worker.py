"""A worker: a thread that keeps one pool of lanes busy.

It takes batches of members from the driver, puts them into free lanes, advances the pool
by compiled calls, and hands back members that are done. It calls compiled programs only;
all tracing is done by the driver (see `_programs.py`).
"""

import math
import queue
import threading
import time
from typing import Any, cast, NamedTuple

import numpy as np

from .._compiled import as_here
from . import _status as status
from ._checkpoint import InFlight
from ._pool import Members, Outcome, pad, Pool, take
from ._programs import Programs

_LONGEST_CALL = 0.25
"""Seconds, so that progress, checkpoints and Ctrl-C need not wait longer. Chosen."""

_FIRST_CALL = 8
"""Attempts in the first call, before anything is known about their cost. Chosen."""

_LONGEST_START = 0.5
"""Seconds until a thread that was started has begun. Chosen."""

_SMOOTHING = 0.3
"""The weight of the newest measurement in running means of costs and rates. Chosen."""


class Batch(NamedTuple):
    """Members for a worker, as many as there are lanes or fewer."""

    indices: np.ndarray
    members: Members | None  # before their start, or:
    pool: Pool | None = None  # on their way already


class Report(NamedTuple):
    """What a worker reports after every call."""

    worker: "Worker"
    indices: np.ndarray  # of the members in `outcome`
    outcome: Outcome | None  # None if no member is done
    num_live: int
    live_steps: int  # attempted so far by members that are not done
    in_flight: InFlight | None  # if the driver asked for it
    ended: bool
    error: BaseException | None = None


class Worker(threading.Thread):
    """One pool on one device.

    The driver may set `narrow_to`, `wants_in_flight` and `leave` at any time; they are
    looked at between two calls.
    """

    def __init__(
        self,
        programs: Programs,
        batches: "queue.Queue[Batch | None]",
        reports: "queue.Queue[Report]",
        steps_per_call: int | None,
    ):
        super().__init__(name="jaxflow worker", daemon=True)
        self.programs = programs
        self.narrow_to: Programs | None = None
        self.wants_in_flight = threading.Event()
        self.leave = threading.Event()
        self._as_set = as_here()  # where the worker is made
        self._batches = batches
        self._reports = reports
        self._most_attempts = steps_per_call or 2**30
        self._pace = _Pace()
        self._pool: Pool | None = None
        self._members = _nobody(programs.width)  # index of the member in each lane, or -1
        self._num_steps = np.zeros(programs.width, np.int32)  # of each lane
        self._ready: Pool | None = None  # started members that wait for a lane
        self._waiting: list[Any] = []  # (row in `_ready`, index)
        self._more = True  # the driver has not said yet that the queue is empty

    def run(self) -> None:
        with self._as_set():
            self._run()

    def _run(self) -> None:
        try:
            while not self.leave.is_set():
                self._narrow()
                self._fill_lanes()
                if not np.any(self._members >= 0):
                    if self._more:
                        continue
                    break
                self._advance()
            self._report(ended=True)
        except BaseException as error:  # the driver raises it where the caller sees it
            self._reports.put(Report(self, _NONE, None, 0, 0, None, True, error))

    def wait_for_end(self) -> None:
        """Wait until it has ended, if it was started, or is being started.

        Ctrl-C may come at the start of a thread. If it was not waited for, it would compute
        while Python ends, and take the process down with it.
        """
        patience = time.monotonic() + _LONGEST_START
        while self.ident is None and time.monotonic() < patience:
            time.sleep(1e-3)
        if self.ident is not None:
            self.join()

    @property
    def is_draining(self) -> bool:
        """Whether no member waits for a lane any more."""
        return not self._more and not self._waiting

    def _advance(self) -> None:
        assert self._pool is not None
        width = self.programs.width
        live = int(np.sum(self._members >= 0))
        # With members waiting, a call ends when so many lanes are free that refilling
        # pays; when the queue is empty, one lane going on is reason enough.
        enough = 0 if self.is_draining else max(0, live - self._pace.worth_refilling(width))
        attempts = min(self._most_attempts, self._pace.attempts)
        begun = time.perf_counter()
        self._pool, tried = self.programs.advance(self._pool, attempts, enough)
        self._num_steps = np.array(self._pool.lanes.num_steps)
        ended = time.perf_counter()
        num_done = self._harvest()
        self._pace.learn(int(tried), ended - begun, num_done)

    def _harvest(self) -> int:
        """Hand back the members that are done, and free their lanes."""
        assert self._pool is not None
        codes = np.array(self._pool.lanes.status)
        done = np.flatnonzero((codes != status.RUNNING) & (self._members >= 0))
        finished = self.programs.outcome(self._pool, done) if len(done) else None
        indices = self._members[done]
        self._members[done] = -1
        self._report(indices, finished)
        return len(done)

    def _report(self, indices=None, finished=None, ended=False) -> None:
        in_flight = None
        if ended or self.wants_in_flight.is_set():
            self.wants_in_flight.clear()
            in_flight = self._in_flight()
        occupied = self._members >= 0
        steps = int(np.sum(self._num_steps[occupied])) if np.any(occupied) else 0
        indices = _NONE if indices is None else indices
        report = Report(
            self, indices, finished, int(np.sum(occupied)), steps, in_flight, ended
        )
        self._reports.put(report)

    def _in_flight(self) -> InFlight | None:
        lanes = np.flatnonzero(self._members >= 0)
        if self._pool is None or not len(lanes):
            return None
        return InFlight(self._members[lanes].copy(), take(self._pool, lanes))

    def _fill_lanes(self) -> None:
        """Put members into free lanes as long as there are both."""
        while len(free := np.flatnonzero(self._members < 0)):
            if not self._waiting and not self._take_batch():
                return
            # Members that are done at their start need no lane; they were handed back.
            placed = self._waiting[: len(free)]
            del self._waiting[: len(placed)]
            lanes = free[: len(placed)]
            source = np.full(self.programs.width, -1, np.int32)
            source[lanes] = [row for row, _ in placed]
            self._members[lanes] = [index for _, index in placed]
            assert self._ready is not None
            begun = time.perf_counter()
            if self._pool is None:
                empty: Any = pad(self._ready, self.programs.width)
                empty.lanes.status[:] = status.NOBODY
                self._pool = cast(Pool, self.programs.put(empty))
            self._pool = self.programs.refill(self._pool, self._ready, source)
            self._num_steps = np.array(self._pool.lanes.num_steps)
            self._pace.learn_refilling(time.perf_counter() - begun)

    def _take_batch(self) -> bool:
        """Start another batch of members; false if there is none (at the moment)."""
        width = self.programs.width
        while self._more and not self._waiting and not self.leave.is_set():
            busy = bool(np.any(self._members >= 0))
            try:
                batch = self._batches.get(block=not busy, timeout=None if busy else 0.05)
            except queue.Empty:
                return False
            if batch is None:
                self._more = False
                return False
            present = np.arange(width) < len(batch.indices)
            if batch.pool is not None:
                pool = pad(batch.pool, width)
                pool.lanes.status[~present] = status.NOBODY
                self._ready = self.programs.put(pool)
            else:
                self._ready = self.programs.fill(pad(batch.members, width), present)
            assert self._ready is not None
            codes = np.array(self._ready.lanes.status)[present]
            runs = codes == status.RUNNING
            self._waiting = [(row, int(batch.indices[row])) for row in np.flatnonzero(runs)]
            # Reported even if no member is done: the driver then sends the next batch.
            done = np.flatnonzero(~runs)
            finished = self.programs.outcome(self._ready, done) if len(done) else None
            self._report(batch.indices[done], finished)
        return bool(self._waiting)

    def _narrow(self) -> None:
        """Go on in a narrower pool, if one is offered and holds all that are left."""
        programs = self.narrow_to
        lanes = np.flatnonzero(self._members >= 0)
        if programs is None or not self.is_draining or self._pool is None:
            return
        self.narrow_to = None
        if not 0 < len(lanes) <= programs.width < self.programs.width:
            return
        pool = pad(take(self._pool, lanes), programs.width)
        self._members, old = _nobody(programs.width), self._members[lanes]
        self._members[: len(lanes)] = old
        # The lanes that fill the pool up are copies of the last and hold no member.
        pool.lanes.status[len(lanes) :] = status.NOBODY
        self.programs, self._pool = programs, programs.put(pool)
        self._num_steps = np.array(pool.lanes.num_steps)
        self._pace = _Pace()


class _Pace:
    """How long a call should be, from what attempts and refills have cost so far.

    A refill costs `h` seconds. If members finish at a rate `r` and the pool, `W` lanes
    wide, is refilled whenever `k` lanes are free, a share `k/(2W)` of the lanes idles and
    a share `h r/k` of the time goes into refilling: least together at `k = √(2 h r W)`.
    """

    def __init__(self):
        self.attempts = _FIRST_CALL
        self._refilling = 5e-4
        self._rate: float | None = None

    def worth_refilling(self, width: int) -> int:
        if self._rate is None:
            return 1
        best = math.sqrt(2 * self._refilling * self._rate * width)
        return min(max(1, round(best)), width)

    def learn(self, tried: int, seconds: float, num_done: int) -> None:
        if tried:
            wanted = _LONGEST_CALL * tried / max(seconds, 1e-6)
            # At most eight times as long as the last, which may have been a slow one.
            self.attempts = int(min(max(wanted, 1), 8 * self.attempts, 2**20))
        rate = num_done / max(seconds, 1e-6)
        old = rate if self._rate is None else self._rate
        self._rate = (1 - _SMOOTHING) * old + _SMOOTHING * rate

    def learn_refilling(self, seconds: float) -> None:
        # Harvesting and reporting cost about as much as refilling.
        self._refilling += _SMOOTHING * (2 * seconds - self._refilling)


def _nobody(width: int) -> np.ndarray:
    return np.full(width, -1, np.int64)


_NONE = np.zeros(0, np.int64)
