"""What goes wrong while a run is computed, said in jaxflow's own words."""

import contextlib
from collections.abc import Iterator

import jax

from ..errors import RunError


@contextlib.contextmanager
def failures(what: str) -> Iterator[None]:
    """JAX's errors of compiled programs, as a `RunError` that says what was run.

    A network, a loss or a recorder may call the caller's own code in them.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise RunError(f"{what} failed while it was computed: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    """The line that says what happened: the end of a traceback in it, else the first."""
    before, _, traceback = str(error).partition("Traceback (most recent call last):")
    after = [line for line in traceback.splitlines() if line.strip()]
    ends = [line for line in after if not line.startswith(" ")]  # frames are indented
    first = before.strip().splitlines()
    return (ends or first or [type(error).__name__])[0]
