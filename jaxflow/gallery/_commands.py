"""The command `jaxflow gallery`."""

import pathlib
from typing import Annotated

import jax
import rich.console
import typer

from .._command_line import in_plain_words
from .._signals import ends_on_signals
from ..errors import InputError
from ._claims import claim, CLAIMS
from ._showing import show, Shown
from ._tables import table_of_claims, table_of_runs, table_of_verdicts


def add_to(app: typer.Typer) -> None:
    """Give an application this command."""
    app.command()(ends_on_signals()(gallery))


def gallery(
    name: Annotated[
        str | None, typer.Argument(help="Which claim.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All claims, one table.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Under 15 minutes each, not under one.")
    ] = False,
    output: Annotated[
        pathlib.Path,
        typer.Option("--output", "-o", help="Folder of datasets, verdicts and figures."),
    ] = pathlib.Path("jaxflow-gallery"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """See published claims happen: list them, or run one and judge it.

    Examples:

        jaxflow gallery

        jaxflow gallery early-phase -o figures

        jaxflow gallery --all
    """
    console = rich.console.Console()
    with in_plain_words("what is done is kept.", "goes on from there"):
        if every and name is not None:
            raise InputError("gallery", f"{name} and --all", "one of the two")
        if not every and name is None:
            console.print(table_of_claims(CLAIMS))
            typer.echo("jaxflow gallery NAME runs one, in under a minute on two cores.")
            return
        jax.config.update("jax_enable_x64", True)
        chosen = CLAIMS if name is None else [claim(name)]
        size = "full" if full else "quick"
        shown: list[Shown] = []
        for each in chosen:
            folder = output / each.name / size
            found = show(each, size, folder, False if quiet else None)
            shown.append(found)
            rows = [verdict.row for verdict in found.verdicts]
            console.print(table_of_verdicts(each, rows))
            typer.echo(f"{found.seconds:.0f} s; wrote {folder}")
        if every:
            console.print(table_of_runs([each.as_json() for each in shown]))
