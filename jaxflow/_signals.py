"""Ctrl-C and the signals that ask a process to end, while something long goes on.

A process that is asked to end by SIGTERM (`kill`, a cluster's time limit) or SIGHUP (a
terminal that is closed) is gone at once, unless it says otherwise: what is in flight is not
saved, and a terminal keeps what a progress bar did to it. Here both end what goes on as
Ctrl-C does, by an exception in the main thread.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP

_PATIENCE = 1
"""Signals that are let pass while the first is being obeyed. Chosen: `kill` and Ctrl-C are
easily given twice, and whoever gives them a third time means it."""

_BURST = 0.25
"""Seconds for which signals are still let pass at the end, so that two in quick succession
are one however little there was to be done in between. Chosen."""

_AGAIN = 0.5
"""Seconds after which an exception that has led nowhere is raised again. Chosen."""

_SOON = 0.02
"""Seconds after which a signal is given again that came where nobody hears an exception:
more than a finalizer takes, less than anybody waits for. Chosen."""

_OF_WEAK_REFERENCES = {
    found.__init__.__code__.co_filename
    for found in (weakref.WeakKeyDictionary, weakref.WeakSet)
}
"""The files of Python's collections of weak references."""


@contextlib.contextmanager
def ends_on_signals() -> Iterator[None]:
    """End on SIGTERM and SIGHUP as on Ctrl-C: by an exception in the main thread.

    `SystemExit(128 + n)` for a signal `n`, `KeyboardInterrupt` for Ctrl-C. While the first
    one is being obeyed, so while members are saved, a second is let pass; a third does what
    it would do if nothing were here.

    Only signals that nobody has made other plans for are taken: those of the caller's own
    handlers stay theirs, and what is ignored (as SIGHUP is under `nohup`) stays ignored.
    Python handles signals in the main thread; in another nothing is done. As a decorator it
    does so for every call.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = _Taken()
    try:
        taken.take()
        yield
    finally:
        taken.give_back()


class _Taken:
    """The signals that are handled here for the time being."""

    def __init__(self):
        self._before: dict[int, object] = {}
        self._ending: BaseException | None = None
        self._passed = 0
        self._open = True
        self._closing = threading.Lock()
        self._reminder: threading.Timer | None = None
        self._is_reminder = False

    def take(self) -> None:
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is None:
                continue
            unplanned = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            if signal.getsignal(number) == unplanned:
                self._before[number] = unplanned
                signal.signal(number, self._obey)

    def give_back(self) -> None:
        try:
            if self._ending is not None:
                time.sleep(_BURST)
        finally:
            with self._closing:
                self._open = False  # from here on a signal is only noted
            if self._reminder is not None:
                self._reminder.cancel()
            for number, handler in self._before.items():
                signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        ending, self._ending = self._ending, None
        if ending is not None and not _is_obeyed(ending):
            raise ending

    def _obey(self, number: int, frame: FrameType | None) -> None:
        is_reminder, self._is_reminder = self._is_reminder, False
        if not self._open:
            self._ending = self._ending or _exception(number)
        elif self._ending is None or not _is_obeyed(self._ending):
            self._ending = _exception(number)
            heard = _is_heard(frame)
            self._remind(number, _AGAIN if heard else _SOON)
            if heard:
                raise self._ending
        elif is_reminder:
            pass
        elif self._passed < _PATIENCE:
            self._passed += 1
        else:
            signal.signal(number, self._before[number])  # pyright: ignore
            os.kill(os.getpid(), number)

    def _remind(self, number: int, seconds: float) -> None:
        """Give the same signal once more, a little later.

        Where Python has no caller to raise an exception to, it prints and drops it. Some
        such places are known (`_is_heard`); a user's callback of a weak reference is one
        that cannot be.
        """

        def again():
            with self._closing:
                if self._open:
                    self._is_reminder = True
                    os.kill(os.getpid(), number)

        self._reminder = threading.Timer(seconds, again)
        self._reminder.daemon = True
        self._reminder.start()


def _exception(number: int) -> BaseException:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return SystemExit(128 + number)


def _is_heard(frame: FrameType | None) -> bool:
    """Whether an exception in this frame has a caller to go to.

    It has none in a finalizer, in what the collections of weak references do when one dies,
    and in callbacks of the garbage collector, of which JAX has one that runs often.
    """
    callbacks = {getattr(called, "__code__", None) for called in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        is_finalizer = code.co_name == "__del__"
        if is_finalizer or code in callbacks or code.co_filename in _OF_WEAK_REFERENCES:
            return False
        frame = frame.f_back
    return True


def _is_obeyed(ending: BaseException) -> bool:
    """Whether Python is on its way out with this exception.

    All that runs then is in `except`, `finally` or the end of a `with`, where the exception
    being handled is this one or came while it was handled.
    """
    handled = sys.exception()
    while handled is not None and handled is not ending:
        handled = handled.__context__
    return handled is ending
