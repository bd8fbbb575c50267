"""What all commands have in common: how they speak, and how they end."""

import contextlib
import warnings
from collections.abc import Iterator

import rich.console
import rich.text
import typer

from .errors import JaxflowError

FAILED, INTERRUPTED = 1, 130
"""Exit codes: of a command that cannot do what it was asked to, and of one that Ctrl-C
ended, as shells have it. Wrong usage is 2, which typer says."""


def say(kind: str, style: str, what: object) -> None:
    """A line on the error stream, with nothing in it taken for markup."""
    line = rich.text.Text.assemble((f"{kind}:", style), f" {what}")
    rich.console.Console(stderr=True).print(line, soft_wrap=True)


@contextlib.contextmanager
def in_plain_words(kept: str, again: str = "begins again") -> Iterator[None]:
    """Errors and warnings for people, without a traceback.

    Arguments:
        kept: what there is after Ctrl-C.
        again: what the same command does then.
    """
    with warnings.catch_warnings():
        # Whoever gives a command has no use for a place in the code.
        in_a_line = lambda message, *where, **more: say("warning", "yellow", message)
        warnings.showwarning = in_a_line
        try:
            yield
        except (JaxflowError, ImportError) as error:
            say("error", "red", error)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            say("interrupted", "yellow", f"{kept}\nThe same command {again}.")
            raise typer.Exit(INTERRUPTED) from error
