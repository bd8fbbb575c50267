"""A progress bar for a run; where there is no terminal, a line now and then."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

from ._driver import Progress

_SECONDS_BETWEEN_LINES = 30.0
"""Chosen, so that the log of a run of hours stays readable."""


@contextlib.contextmanager
def progress_bar(
    description: str, show: bool | None, vjps_per_step: int | None
) -> Iterator[Callable[[Progress], None]]:
    """Show how far a run has come, on the error stream.

    Members done, in flight and failed, members and vector-Jacobian products per second,
    and the time left.

    **Arguments:**

    - `description`: what is being run.
    - `show`: `True` for a bar, `False` for nothing; `None` for a bar on a terminal and a
      line every half a minute elsewhere.
    - `vjps_per_step`: products in an attempted step, if that is known.

    **Returns:** a context manager that gives a function to call with each `Progress`.
    """
    if show is False:
        yield lambda progress: None
    elif show or sys.stderr.isatty():
        bar = _bar()
        with contextlib.ExitStack() as stack:
            # First, so that it is done last and whatever happens: where Ctrl-C comes while
            # a bar begins, nobody ends it, and it has hidden the cursor.
            stack.callback(bar.console.show_cursor)
            stack.enter_context(bar)
            line = bar.add_task(description, total=None, details="")
            speed = _Speed(vjps_per_step)
            yield lambda progress: bar.update(
                line,
                completed=progress.done,
                total=progress.total,
                details=_details(progress, speed),
            )
    else:
        yield _Lines(description, _Speed(vjps_per_step))


def _bar() -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[details]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    )


class _Lines:
    """Prints a line of progress when the last one is old enough."""

    def __init__(self, description: str, speed: "_Speed"):
        self._description = description
        self._speed = speed
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        details = _details(progress, self._speed)
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        total = "" if progress.total is None else f" of {progress.total:,}"
        left = self._speed.seconds_left(progress)
        time_left = "" if left is None else f", about {_duration(left)} left"
        print(
            f"{self._description}: {progress.done:,}{total} done, {details}{time_left}",
            file=sys.stderr,
            flush=True,
        )


class _Speed:
    """Members and products per second since the first report of a run."""

    def __init__(self, vjps_per_step: int | None):
        self._vjps_per_step = vjps_per_step
        self._begun: float | None = None
        self._done_before = 0

    def members(self, progress: Progress) -> float | None:
        seconds = self._seconds(progress)
        new = progress.done - self._done_before
        return new / seconds if seconds and new else None

    def vjps(self, progress: Progress) -> float | None:
        seconds = self._seconds(progress)
        if not seconds or self._vjps_per_step is None:
            return None
        return progress.steps * self._vjps_per_step / seconds

    def seconds_left(self, progress: Progress) -> float | None:
        speed = self.members(progress)
        if speed is None or progress.total is None:
            return None
        return (progress.total - progress.done) / speed

    def _seconds(self, progress: Progress) -> float:
        now = time.monotonic()
        if self._begun is None:
            # Members that an earlier run finished do not count for the speed of this one.
            self._begun, self._done_before = now, progress.done
        return now - self._begun


def _details(progress: Progress, speed: _Speed) -> str:
    parts = [f"{progress.in_flight:,} in flight", f"{progress.failed:,} failed"]
    if (members := speed.members(progress)) is not None:
        parts.append(f"{members:.3g} members/s")
    if vjps := speed.vjps(progress):
        parts.append(f"{vjps:,.3g} VJPs/s")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
