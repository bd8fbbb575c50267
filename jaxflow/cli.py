"""The command `jaxflow`."""

import importlib
import pathlib
import time
from typing import Annotated

import jax
import rich.console
import typer

from ._command_line import in_plain_words, say
from ._signals import ends_on_signals
from ._versions import versions
from .gallery import add_to as add_gallery
from .studies import add_to as add_studies

app = typer.Typer(
    help="Gradient flow of neural networks, for thousands of initializations at once.",
    no_args_is_help=True,
    rich_markup_mode=None,  # brackets in help are brackets, as in pip install ".[bench]"
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        for name, version in versions().items():
            typer.echo(f"{name.removesuffix('_version')} {version}")
        raise typer.Exit()
    return wanted


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show versions."
        ),
    ] = False,
) -> None:
    """What every command has in common."""


@app.command()
@ends_on_signals()
def demo(
    output: Annotated[
        pathlib.Path, typer.Option(help="Folder for the figure and the results.")
    ] = pathlib.Path("jaxflow-demo"),
    members: Annotated[int, typer.Option(min=1, help="Initializations.")] = 256,
    images: Annotated[int, typer.Option(min=2, help="Training images.")] = 100,
    scale: Annotated[float, typer.Option(help="Initialization scale δ.")] = 1e-8,
    seed: Annotated[int, typer.Option(help="Of the initial directions.")] = 0,
    float32: Annotated[
        bool, typer.Option("--float32", help="Single precision in place of double.")
    ] = False,
) -> None:
    """See early directional convergence on handwritten digits.

    256 networks learn to tell 3 from 8, from weights of norm 1e-8. Shows how far they grow
    and which KKT points of the neural correlation function their directions approach.
    """
    # Here and not at import: the library leaves JAX's settings to its caller.
    jax.config.update("jax_enable_x64", not float32)
    from . import demo as job  # imports matplotlib, which other commands can do without

    began = time.perf_counter()
    with in_plain_words(f"nothing has been written to {output}."):
        job.check_output(output)
        study = job.study(
            members=members, images=images, scale=scale, seed=seed, float32=float32
        )
        found = study.run().result
        typer.echo(found)
    with in_plain_words(f"{output} may hold a part of the results."):
        for path in job.save(found, study, output):  # pyright: ignore
            typer.echo(f"wrote {path}")
    typer.echo(f"{time.perf_counter() - began:.0f} s")


@app.command()
@ends_on_signals()
def bench(
    name: Annotated[
        list[str] | None, typer.Argument(help="Which benchmark; default: all.")
    ] = None,
) -> None:
    """Run the short versions of all benchmarks and print one table.

    From a checkout of the project, installed with pip install -e ".[bench]". The long
    versions, of which the figures count, are python -m benchmarks.NAME.
    """
    try:
        short = importlib.import_module("benchmarks.short")
    except ModuleNotFoundError as error:
        say(
            "error",
            "red",
            f"no module {error.name!r}: benchmarks are part of a checkout of the project, "
            'installed with pip install -e ".[bench]"',
        )
        raise typer.Exit(1) from error
    unknown = [one for one in name or () if one not in short.BENCHMARKS]
    if unknown:
        known = ", ".join(short.BENCHMARKS)
        say("error", "red", f"no benchmark {unknown[0]!r}; there are {known}")
        raise typer.Exit(1)
    with in_plain_words("nothing has been kept."):
        if not short.run(name or list(short.BENCHMARKS), rich.console.Console()):
            raise typer.Exit(1)


add_studies(app)
add_gallery(app)
