"""The command `jaxflow gallery`."""

import pathlib
import time
from typing import Annotated

import jax
import rich.console
import typer

from .._command_line import in_plain_words
from .._signals import ends_on_signals
from ..errors import InputError
from ._claims import claim, CLAIMS
from ._showing import show, Shown
from ._tables import in_a_line, table_of_claims, table_of_verdicts


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
            console.print(table_of_verdicts(each, found.verdicts))
            typer.echo(f"{found.seconds:.0f} s; wrote {folder}")
        if every:
            _print_all(shown, console)


def _print_all(shown: list[Shown], console: rich.console.Console) -> None:
    for each in shown:
        states = in_a_line([verdict.state for verdict in each.verdicts])
        line = f"{each.claim.name}: {states}, {each.seconds:.0f} s"
        console.print(line, highlight=False, markup=False)
    total = sum(each.seconds for each in shown)
    console.print(f"{time.strftime('%Y-%m-%d')}: {total:.0f} s in all", highlight=False)
