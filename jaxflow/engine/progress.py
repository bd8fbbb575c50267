"""A progress bar for a run."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

from .run import Progress


@contextlib.contextmanager
def progress_bar(
    description: str, show: bool | None
) -> Iterator[Callable[[Progress], None]]:
    """Show members done, failed, per second, and the time left, on the error stream.

    **Arguments:**

    - `description`: what is being run.
    - `show`: whether to; on a terminal only if `None`.

    **Returns:** a context manager that gives a function to call with each `Progress`.
    """
    if show is False or (show is None and not sys.stderr.isatty()):
        yield lambda progress: None
        return
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[failed]} failed"),
        _MembersPerSecond(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    )
    with bar:
        line = bar.add_task(description, total=None, failed=0)
        yield lambda progress: bar.update(
            line, completed=progress.done, total=progress.total, failed=progress.failed
        )


class _MembersPerSecond(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> str:
        speed = task.finished_speed or task.speed
        return "" if speed is None else f"{speed:.3g} members/s"
