"""Telling a caller what the result of a call falls short of: one warning for a call."""

import contextlib
import contextvars
import os
import sys
import warnings
from collections.abc import Iterator
from types import FrameType

import jaxtyping

from .errors import RunWarning

_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_WRAPPERS = (
    contextlib.__file__,
    os.path.dirname(jaxtyping.__file__) + os.sep,
    "<@beartype",  # what beartype writes
)
"""Files whose functions may stand between a caller's line and jaxflow's functions."""

_depth: contextvars.ContextVar[int] = contextvars.ContextVar("jaxflow_depth", default=0)


@contextlib.contextmanager
def one_call() -> Iterator[None]:
    """A call that a caller makes, within which other calls have nothing to tell.

    What the runs of `find_kkt` fall short of is its own business: some of them are given
    few steps on purpose. As a decorator it does so for every call.
    """
    token = _depth.set(_depth.get() + 1)
    try:
        yield
    finally:
        _depth.reset(token)


def tell(text: str | None) -> None:
    """Warn at the line of the caller's that led here, unless there is nothing to say.

    Python's `skip_file_prefixes` would do, from 3.12 on.
    """
    if text is None or _depth.get() > 1:
        return
    frame = _callers_frame()
    warnings.warn_explicit(
        text,
        RunWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _callers_frame() -> FrameType:
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    own = [k for k, f in enumerate(frames) if f.f_code.co_filename.startswith(_FOLDER)]
    outside = frames[max(own) + 1 :] or frames[-1:]
    others = (f for f in outside if not f.f_code.co_filename.startswith(_WRAPPERS))
    return next(others, outside[-1])
