"""How far a run has come: a bar where it can move, else a line now and then."""

import contextlib
import contextvars
import importlib.util
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress
import rich.progress_bar
import rich.table
import rich.text

from ._driver import Progress

_SECONDS_BETWEEN_LINES = 30.0
"""Chosen, so that the log of a run of hours stays readable."""

_LINE = 80
"""Characters of a line where there is no terminal. Chosen: what a log is read at."""

_LEAST_BAR, _LONGEST_BAR = 6, 40
"""Characters of a bar. Chosen for the eye."""


_whole: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar(
    "jaxflow_whole", default=()
)


@contextlib.contextmanager
def part_of(whole: str) -> Iterator[None]:
    """Within, progress bars say of what they are a part, such as `"3/9"`."""
    token = _whole.set((*_whole.get(), whole))
    try:
        yield
    finally:
        _whole.reset(token)


@contextlib.contextmanager
def progress_bar(
    description: str, show: bool | None, vjps_per_step: int | None
) -> Iterator[Callable[[Progress], None]]:
    """Show how far a run has come, on the error stream.

    Members done, what is going on (compiling, say), members failed, the time left, members
    per second, members in flight and vector-Jacobian products per second: as much of that
    as fits in a line.

    Arguments:
        description: what is being run.
        show: `True` or `None` for a bar on a terminal and in a notebook that has
            `ipywidgets`, and a line every half a minute elsewhere, with `True` at the
            beginning and at the end too. `False` for nothing.
        vjps_per_step: products in an attempted step, if that is known.

    Returns:
        A context manager that gives a function to call with each `Progress`.
    """
    if show is False:
        yield lambda progress: None
        return
    console = rich.console.Console(stderr=True)
    state = _State(" ".join([*_whole.get(), description]), vjps_per_step)
    with (_bar if _can_move(console) else _lines)(state, console, bool(show)):
        yield state.update


def _can_move(console: rich.console.Console) -> bool:
    """Whether what was written can be written over."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_interactive


@contextlib.contextmanager
def _bar(state: "_State", console: rich.console.Console, show: bool) -> Iterator[None]:
    bar = rich.progress.Progress(_Line(state, console), console=console)
    with contextlib.ExitStack() as stack:
        # First, so that it is done last and whatever happens: where Ctrl-C comes while
        # a bar begins, nobody ends it, and it has hidden the cursor.
        stack.callback(console.show_cursor)
        stack.enter_context(bar)
        stack.callback(bar.refresh)  # in a notebook rich does not show how it ended
        bar.add_task(state.description, total=None)
        yield


@contextlib.contextmanager
def _lines(state: "_State", console: rich.console.Console, show: bool) -> Iterator[None]:
    """A line now and then, by a thread: while a program is compiled nobody reports."""
    say = lambda: print(state.line(_LINE), file=sys.stderr, flush=True)
    over = threading.Event()

    def now_and_then() -> None:
        while not over.wait(_SECONDS_BETWEEN_LINES):
            say()

    speaker = threading.Thread(target=now_and_then, daemon=True)
    if show:
        say()
    try:
        speaker.start()
        yield
    finally:
        over.set()
        speaker.join()
        if show:
            say()


class _State:
    """What a run last reported, in words."""

    def __init__(self, description: str, vjps_per_step: int | None):
        self.description = description
        self.last = Progress(0, None, 0, 0, 0, "starting")
        self._vjps_per_step = vjps_per_step
        self._started = time.monotonic()
        self._begun: float | None = None
        self._done_before = 0

    def update(self, progress: Progress) -> None:
        if self._begun is None and not progress.doing:
            # Members that an earlier run finished do not count for the speed of this one,
            # and compiling is no part of it.
            self._begun, self._done_before = time.monotonic(), progress.done
        self.last = progress

    @property
    def head(self) -> str:
        """The members done, and of what."""
        total = "?" if self.last.total is None else f"{self.last.total:,}"
        return f"{self.last.done:,}/{total} {self.description}"

    @property
    def elapsed(self) -> str:
        return _duration(time.monotonic() - self._started)

    def line(self, width: int) -> str:
        """All of it in a line without a bar."""
        details = [f"after {self.elapsed}", *self._details()]
        return f"{self.head}: {self.within(width - len(self.head) - 2, details)}"

    def within(self, room: int, details: list[str] | None = None) -> str:
        """The first details that there is room for."""
        details = self._details() if details is None else details
        texts = list(itertools.accumulate(details, lambda all, one: f"{all}, {one}"))
        return next((text for text in reversed(texts) if len(text) <= room), "")

    def _details(self) -> list[str]:
        """What matters most goes first."""
        last, found = self.last, []
        if last.doing:
            found.append(last.doing)
        if last.failed:
            found.append(f"{last.failed:,} failed")
        seconds = 0.0 if self._begun is None else time.monotonic() - self._begun
        new = last.done - self._done_before
        if seconds and new:
            if last.total is not None and last.done < last.total:
                left = (last.total - last.done) * seconds / new
                found.append(f"{_duration(left)} left")
            found.append(f"{new / seconds:.3g} members/s")
        if last.in_flight or not last.doing:
            found.append(f"{last.in_flight:,} in flight")
        if seconds and last.steps and self._vjps_per_step is not None:
            found.append(f"{last.steps * self._vjps_per_step / seconds:,.3g} VJPs/s")
        return found


class _Line(rich.progress.ProgressColumn):
    """A line with a bar, whose count comes first: nothing that matters is cut off."""

    max_refresh = None

    def __init__(self, state: _State, console: rich.console.Console):
        super().__init__()
        self._state = state
        self._console = console

    def render(self, task: rich.progress.Task) -> rich.table.Table:
        state, last = self._state, self._state.last
        fixed = len(state.head) + len(state.elapsed) + 2
        details = state.within(self._console.width - fixed - _LEAST_BAR - 2)
        bar = self._console.width - fixed - len(details) - 2
        line = rich.table.Table.grid(padding=(0, 1))
        for _ in range(4):
            line.add_column(no_wrap=True, overflow="ellipsis")
        whole = rich.progress_bar.ProgressBar(
            total=last.total,
            completed=last.done,
            width=min(max(bar, 1), _LONGEST_BAR),
            pulse=bool(last.doing),
            animation_time=task.get_time(),
        )
        line.add_row(
            rich.text.Text(state.head), whole, rich.text.Text(details), state.elapsed
        )
        return line


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
