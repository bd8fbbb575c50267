"""What a benchmark leaves behind: a table to read, a file of figures, and a picture."""

import contextlib
import dataclasses
import datetime
import enum
import importlib.metadata
import json
import math
import os
import pathlib
import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import jax
import typer
from rich.console import Console
from rich.table import Table

from . import pictures
from .measuring import load, num_cores, set_up, Settings, Timings

RESULTS = pathlib.Path(__file__).parent / "results"

Repeats = Annotated[int, typer.Option(min=1, help="How often each thing is timed.")]
Quick = Annotated[bool, typer.Option(help="Tiny sizes: whether it runs, not how fast.")]
Output = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="JSON of raw figures, with a picture beside it; in benchmarks/results if not "
        "given, and nothing with --quick."
    ),
]


@dataclasses.dataclass(frozen=True)
class Report:
    """The answer to one question: a table to read, and the figures behind it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    figures: dict[str, Any]
    summary: str  # the answer in one sentence

    def show(self, console: Console) -> None:
        table = Table(title=self.title, title_justify="left", title_style="bold")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        console.print(self.summary + "\n")


def choice(parts: Iterable[str]) -> type[enum.StrEnum]:
    """The parts of a benchmark as the command knows them."""
    return enum.StrEnum("Part", {part.replace("-", "_").upper(): part for part in parts})


def run_parts(
    benchmark: str,
    parts: Mapping[str, Callable[[Any], Report]],
    chosen: Iterable[str] | None,
    settings: Settings,
    output: pathlib.Path | None,
) -> None:
    """Show the parts' answers one after another, and keep figures and picture in files."""
    set_up()
    if output is None and not settings.quick:
        output = RESULTS / f"{benchmark}.json"
    console = Console()
    if not console.is_terminal:  # a log has room for long lines
        console = Console(width=110)
    if (busy := load()) > 0.5 and not settings.quick:
        console.print(f"[yellow]Load {busy:.1f}: other work will disturb what follows.[/]")
    for part in chosen or parts:
        report = parts[part](settings)
        report.show(console)
        if output is not None:
            results = _add(output, part, report, settings)
            pictures.draw(benchmark, results, output.with_suffix(".png"))


def _add(path: pathlib.Path, part: str, report: Report, settings: Any) -> dict[str, Any]:
    """Put one part's table and figures into a file, beside those of other parts."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[str(part)] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "settings": dataclasses.asdict(settings),
        "title": report.title,
        "columns": report.columns,
        "rows": report.rows,
        "summary": report.summary,
        "figures": _plain(report.figures),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_text(text)
    return json.loads(text)


def _plain(value: Any) -> Any:
    """Timings and NumPy's numbers as JSON knows them; it has none for NaN and infinity."""
    if isinstance(value, Timings):
        return {
            "median": value.median,
            "min": min(value.seconds),
            "max": max(value.seconds),
            "seconds": list(value.seconds),
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def machine() -> dict[str, Any]:
    """What it ran on, as far as it bears on speed."""
    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": num_cores(),
        "memory_gib": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
        ),
        "system": platform.system(),
        "device": f"{device.platform}: {device.device_kind}",
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


_COMPARED = (
    *("jaxflow", "jax", "jaxlib", "diffrax", "equinox", "optax", "numpy", "scipy"),
    *("torch", "torchdiffeq", "torchode", "scikit-sundae", "zarr"),
)


def versions() -> dict[str, str]:
    """Of Python and of all that is compared."""
    found = {"python": platform.python_version()}
    for name in _COMPARED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
