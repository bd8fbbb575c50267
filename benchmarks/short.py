"""The short versions of all benchmarks, in one table: does everything run, and roughly how?

python -m benchmarks.short       # the same as `jaxflow bench`
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from . import (
    defaults,
    descent,
    early_phase,
    engine,
    escape,
    measuring,
    peers,
    plateau,
    scaling,
    work_precision,
)

BENCHMARKS: dict[str, Any] = {
    "defaults": defaults,
    "work_precision": work_precision,
    "early_phase": early_phase,
    "plateau": plateau,
    "descent": descent,
    "peers": peers,
    "escape": escape,
    "engine": engine,
    "scaling": scaling,
}


class Outcome(NamedTuple):
    """What one part of a benchmark found at its smallest size."""

    benchmark: str
    part: str
    answer: str
    seconds: float
    failed: bool = False


def outcomes(names: Iterable[str]) -> Iterator[Outcome]:
    """Of the parts of these benchmarks, one after another; a part that fails says why."""
    for name in names:
        for part, answer in _parts(BENCHMARKS[name]).items():
            begun = time.perf_counter()
            try:
                found, failed = answer(BENCHMARKS[name].SHORT).summary, False
            except Exception as error:
                found, failed = f"{type(error).__name__}: {error}", True
            yield Outcome(name, part, found, time.perf_counter() - begun, failed)


def run(names: Sequence[str], console: Console) -> bool:
    """Show what every part finds, then all in one table; whether all of them ran."""
    measuring.set_up()
    found: list[Outcome] = []
    parts = sum(len(_parts(BENCHMARKS[name])) for name in names)
    with console.status("") as status:
        for outcome in outcomes(names):
            found.append(outcome)
            status.update(f"{len(found)} of {parts}: {outcome.benchmark} {outcome.part}")
    console.print(table(found))
    return not any(outcome.failed for outcome in found)


def _parts(benchmark: Any) -> dict[str, Any]:
    """All parts of a benchmark, or those that it names where there are many."""
    names = getattr(benchmark, "SHORT_PARTS", benchmark.PARTS)
    return {name: benchmark.PARTS[name] for name in names}


def table(found: Iterable[Outcome]) -> Table:
    """One row for each part."""
    made = Table(title="Tiny sizes: benchmarks/README.md has what counts")
    for column in ("benchmark", "part", "answer"):
        made.add_column(column, overflow="fold")
    made.add_column("seconds", justify="right")
    last = None
    for one in found:
        style = "red" if one.failed else None
        name = "" if one.benchmark == last else one.benchmark
        made.add_row(name, one.part, one.answer, f"{one.seconds:.0f}", style=style)
        last = one.benchmark
    return made


if __name__ == "__main__":
    raise SystemExit(not run(list(BENCHMARKS), Console()))
