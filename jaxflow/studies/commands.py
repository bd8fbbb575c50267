"""The commands of studies: new, check, run, show, plot, report and export."""

import enum
import json
import os
import pathlib
import sys
import tomllib
from typing import Annotated, Any

import rich.console
import typer

from .._command_line import FAILED, in_plain_words, say
from .._signals import ends_on_signals
from ..errors import InputError
from ._outcome import Outcome, read_outcome
from ._starters import kinds, starter
from ._study import Study

Kind = enum.StrEnum("Kind", {kind.upper(): kind for kind in kinds()})
File = Annotated[pathlib.Path, typer.Argument(help="A study file.", show_default=False)]
Store = Annotated[
    pathlib.Path, typer.Argument(help="What jaxflow run wrote.", show_default=False)
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Run classes that the file names.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Another value, as initialization.scale=1e-4."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def add_to(app: typer.Typer) -> None:
    """Give an application these commands."""
    for command in (new, check, run, show, plot, report, export):
        app.command()(ends_on_signals()(command))


def new(
    kind: Annotated[Kind, typer.Argument(help="Of equation or analysis.")] = Kind.GRADIENT_FLOW,
    file: Annotated[
        pathlib.Path | None, typer.Argument(help="KIND.toml if not given.", show_default=False)
    ] = None,
) -> None:
    """Write a commented study file to begin with.

    Example: jaxflow new gradient_flow first.toml
    """
    path = pathlib.Path(f"{kind.value}.toml") if file is None else file
    with in_plain_words("nothing has been written."):
        try:
            with path.open("x", encoding="utf-8") as opened:
                opened.write(starter(kind.value))
        except FileExistsError as error:
            raise InputError("file", f"{path}, which exists", "a new name") from error
        except OSError as error:
            raise InputError("file", f"{path} ({error.strerror})", "a file") from error
    typer.echo(f"wrote {path}; now: jaxflow run {path}")


def run(
    file: Annotated[
        pathlib.Path, typer.Argument(help="A study file, or a store to run --again.")
    ],
    output: Annotated[
        pathlib.Path | None,
        typer.Option("--output", "-o", help="Folder of the result; FILE.zarr if not given."),
    ] = None,
    changes: Changes = None,
    again: Annotated[
        bool, typer.Option("--again", help="Repeat the study of a store, into --output.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pools of lanes at a time; one for a core.")
    ] = None,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Run a study, or go on with one that was interrupted.

    The same command goes on where it was killed, and has nothing to do when it is done.

    Examples:

        jaxflow run study.toml

        jaxflow run study.toml --set initialization.scale=1e-4 -o small.zarr

        jaxflow run out.zarr --again -o repeated.zarr
    """
    with in_plain_words("what is done is safe.", "goes on from there"):
        study = _study(file, changes, allow_code, again=again)
        path = _output(study, file, output, again)
        result = study.run(store=path, progress=False if quiet else None)
        if not quiet:
            rich.console.Console().print(read_outcome(path).table)
            typer.echo(f"wrote {path}")
    if result.failures:
        raise typer.Exit(FAILED)


def _study(file: pathlib.Path, changes: Any, allow_code: bool, again: bool = False) -> Study:
    if again:
        text = read_outcome(file).study
        study = Study.from_text(text, name=str(file), allow_code=allow_code)
    else:
        study = Study.from_toml(file, allow_code=allow_code)
    return study.replace(dict(_change(each) for each in changes)) if changes else study


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
