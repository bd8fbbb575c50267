"""Arguments that are refused: one clear error, before anything is compiled or run."""

import contextlib
import threading

import pytest

import jaxflow as jf

from .compilations import compilations

PROBE = "jit(_probe)"
"""The program that measures the order of homogeneity."""
LOOK = "jit(_sides_on)", "jit(_jumps_between)"
"""The programs that find out which choices of a network are kinks."""


def _no_worker(thread):
    pytest.fail("a worker was started")


@contextlib.contextmanager
def refused(argument, error=jf.InputError, match=None, programs=()):
    """The error is of one type, names the argument, and comes before any compilation.

    `programs` are those that the check itself may need.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        compilations() as compiled,
        pytest.raises(error, match=match) as caught,
    ):
        # Every run has workers, also one whose programs were compiled before.
        patch.setattr(threading.Thread, "start", _no_worker)
        yield caught
    assert type(caught.value) is error
    assert caught.value.argument == argument
    assert set(compiled) <= set(programs)
