"""The commands of studies, from a starter to a page."""

import contextlib
import enum
import json
import pathlib
import tomllib
from typing import Annotated, Any

import jax
import rich.console
import typer

from .._command_line import FAILED, in_plain_words
from .._signals import ends_on_signals
from ..engine import Schedule
from ..errors import InputError
from ._export import export_csv, export_netcdf, export_parquet
from ._outcome import as_json, Outcome, read_outcome, table_of
from ._pilot import description, estimate
from ._schema import json_schema
from ._starters import kinds, starter
from ._study import Study

Kind: Any = enum.StrEnum("Kind", {kind.upper(): kind for kind in kinds()})
File = Annotated[pathlib.Path, typer.Argument(help="A study file.", show_default=False)]
Store = Annotated[
    pathlib.Path, typer.Argument(help="What jaxflow run wrote.", show_default=False)
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Run code that the study names, of yours.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Another value, as initialization.scale=1e-4."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
NOTHING = "nothing has been written."


def add_to(app: typer.Typer) -> None:
    """Give an application these commands."""
    for command in (new, check, run, show, plot, report, export, schema):
        app.command()(ends_on_signals()(command))


def new(
    kind: Annotated[
        Kind,  # pyright: ignore[reportInvalidTypeForm]
        typer.Argument(help="Of the equation or the analysis."),
    ] = Kind.GRADIENT_FLOW,
    file: Annotated[
        pathlib.Path | None,
        typer.Argument(help="Where to; KIND.toml if not given.", show_default=False),
    ] = None,
) -> None:
    """Write a commented study file to begin with, which runs in under a minute.

    Example:

        jaxflow new gradient_flow first.toml
    """
    path = pathlib.Path(f"{kind.value}.toml") if file is None else file
    with in_plain_words(NOTHING):
        try:
            with path.open("x", encoding="utf-8") as opened:
                opened.write(starter(kind.value))
        except FileExistsError as error:
            raise InputError("file", f"{path}, which exists", "a new name") from error
        except OSError as error:
            raise InputError("file", f"{path} ({error.strerror})", "a file") from error
    typer.echo(f"wrote {path}; now: jaxflow run {path}")


def check(
    file: File,
    changes: Changes = None,
    pilot: Annotated[
        bool, typer.Option(help="Run a few members, to know what all will take.")
    ] = True,
    allow_code: AllowCode = False,
) -> None:
    """Look at a study file: what it asks for, and how long that may take.

    Example:

        jaxflow check study.toml --set initialization.num=1000
    """
    console = rich.console.Console()
    with in_plain_words(NOTHING):
        study = _study(file, changes, allow_code)
        for line in description(study):
            console.print(line, highlight=False, markup=False)
        if pilot:
            for line in estimate(study):
                console.print(line, highlight=False, markup=False)


def run(
    file: Annotated[
        pathlib.Path,
        typer.Argument(help="A study file, or a store to run --again.", show_default=False),
    ],
    output: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the result; that of the file's [output], or FILE.zarr, if not "
            "given.",
            show_default=False,
        ),
    ] = None,
    changes: Changes = None,
    again: Annotated[
        bool, typer.Option("--again", help="Repeat the study of a store, into --output.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that compute; one for each core if not given."),
    ] = None,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Run a study, or go on with one that was interrupted.

    The same command goes on where it was killed, and has nothing to do when all is done.
    It ends with 0 if every setting was run, with 1 if one could not be or the file is
    wrong, with 2 for options that there are not, with 130 after Ctrl-C.

    Examples:

        jaxflow run study.toml

        jaxflow run study.toml --set initialization.scale=1e-4 -o small.zarr

        jaxflow run small.zarr --again -o repeated.zarr
    """
    with in_plain_words("what is done is kept.", "goes on from there"):
        study = _study(file, changes, allow_code, again=again)
        path = _output(study, file, output, again)
        schedule = Schedule(pools_per_device=workers)
        progress = False if quiet else None
        result = study.run(store=path, schedule=schedule, progress=progress)
        if not quiet:
            _show(read_outcome(path))
            typer.echo(f"wrote {path}")
        figures = study.tables.get("output", {}).get("figures", [])
        for name in figures:
            _draw(read_outcome(path), name, path.parent, quiet)
    if result.failures:
        raise typer.Exit(FAILED)


def show(
    store: Store,
    as_text: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what came out: how members ended, and where, for every setting.

    Example:

        jaxflow show study.zarr --json | jq .settings
    """
    with in_plain_words(NOTHING):
        outcome = _read(store)
        if as_text:
            typer.echo(json.dumps(as_json(outcome), indent=2))
        else:
            _show(outcome)


def plot(
    store: Store,
    kind: Annotated[
        str | None,
        typer.Argument(help="curves, sweep, …; all if not given.", show_default=False),
    ] = None,
    output: Annotated[
        pathlib.Path | None,
        typer.Option("--output", "-o", help="Folder of the figures; that of the store if "
                     "not given.", show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Draw what fits the result, or one kind of picture.

    Examples:

        jaxflow plot study.zarr

        jaxflow plot study.zarr curves-loss -o figures
    """
    with in_plain_words("some figures may have been written."):
        outcome = _read(store)
        _draw(outcome, kind, outcome.path.parent if output is None else output, quiet)


def report(
    store: Store,
    output: Annotated[
        pathlib.Path | None,
        typer.Option("--output", "-o", help="The page; STORE.html if not given.",
                     show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write one page with settings, tables and figures, which opens without a network.

    Example:

        jaxflow report study.zarr -o report.html
    """
    from ._report import report as page_of  # draws, which takes a second to import

    with in_plain_words(NOTHING):
        outcome = _read(store)
        path = outcome.path.with_suffix(".html") if output is None else output
        with _written(path):
            page = page_of(outcome)
            path.write_text(page, encoding="utf-8")
    if not quiet:
        typer.echo(f"wrote {path}")


def export(
    store: Store,
    csv: Annotated[
        pathlib.Path | None,
        typer.Option(help="A table of members.", show_default=False),
    ] = None,
    parquet: Annotated[
        pathlib.Path | None, typer.Option(help="The same table.", show_default=False)
    ] = None,
    netcdf: Annotated[
        pathlib.Path | None, typer.Option(help="The dataset.", show_default=False)
    ] = None,
    records: Annotated[
        bool, typer.Option("--records", help="Records in place of where members ended.")
    ] = False,
) -> None:
    """Write results for other programs.

    Example:

        jaxflow export study.zarr --csv members.csv
    """
    formats = {export_csv: csv, export_parquet: parquet, export_netcdf: netcdf}
    with in_plain_words(NOTHING):
        if not any(formats.values()):
            raise InputError("export", "no format", "--csv, --parquet or --netcdf")
        outcome = _read(store)
        for write, path in formats.items():
            if path is not None:
                with _written(path):
                    write(outcome, path, records)
                typer.echo(f"wrote {path}")


def schema() -> None:
    """Print the JSON schema of study files, by which editors complete them.

    Example:

        jaxflow schema > study.schema.json
    """
    typer.echo(json_schema(), nl=False)


# -- what they share --


def _read(store: pathlib.Path) -> Outcome:
    """What is in a folder, with all its digits."""
    jax.config.update("jax_enable_x64", True)
    return read_outcome(store)


def _study(
    file: pathlib.Path, changes: list[str] | None, allow_code: bool, again: bool = False
) -> Study:
    """The study of a command, in the precision that it asks for."""
    if again:
        text = read_outcome(file).study
        if text is None:
            raise InputError("store", f"{file}, which no study made", "one of a study")
        study = Study.from_text(text, name=f"the study of {file}", allow_code=allow_code)
    else:
        study = Study.from_toml(file, allow_code=allow_code)
    study = study.replace(dict(_change(each) for each in changes)) if changes else study
    jax.config.update("jax_enable_x64", study.is_double)
    return study


def _change(text: str) -> tuple[str, Any]:
    """A key and its value, as TOML has it; a word is a word without quotes too."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError("--set", repr(text), "KEY=VALUE")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _output(
    study: Study, file: pathlib.Path, output: pathlib.Path | None, again: bool
) -> pathlib.Path:
    if output is not None:
        return output
    if again:
        raise InputError("--output", "none with --again", "a new folder")
    named = study.tables.get("output", {}).get("store")
    return file.with_suffix(".zarr") if named is None else file.parent / named


def _show(outcome: Outcome) -> None:
    console = rich.console.Console()
    if outcome.result is not None:
        console.print(outcome.result, highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(table_of(outcome))
    for label, text in outcome.failures.items():
        console.print(f"failed: {label}: {text}", highlight=False, markup=False)


def _draw(outcome: Outcome, kind: str | None, folder: pathlib.Path, quiet: bool) -> None:
    import matplotlib.pyplot as plt

    from ._pictures import pictures_of

    with _written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures_of(outcome, kind):
        path = folder / f"{outcome.path.stem}-{picture.name}.png"
        try:
            figure = picture.draw()
        except InputError:
            if kind is not None:
                raise
            continue  # it does not fit these networks, and nobody has asked for it
        with _written(path):
            figure.savefig(path, dpi=150)
        plt.close(figure)
        if not quiet:
            typer.echo(f"wrote {path}")


@contextlib.contextmanager
def _written(path: pathlib.Path):
    """What the disk refuses, in words."""
    try:
        yield
    except OSError as error:
        found = f"{path} ({error.strerror or error})"
        raise InputError("output", found, "what can be written") from error
