"""What a run does, seen from a stop condition and from JAX."""

import contextlib
import itertools
import signal
import threading

import jax
import numpy as np
import pytest

import jaxflow as jf
from jaxflow.runs._storing import StoreSink


def watched_loss_below(see):
    """A class like `LossBelow`, which calls `see` with the width of the pool at every look.

    A class of its own every time, so that nothing compiled before serves it.
    """

    def look(loss):
        see(np.size(loss))
        return np.asarray(loss)

    class LossBelow(jf.LossBelow):
        def gap(self, snapshot):
            shape = jax.ShapeDtypeStruct((), snapshot.loss.dtype)
            loss = jax.pure_callback(
                look, shape, snapshot.loss, vmap_method="broadcast_all"
            )
            return self.value - loss

        def known_by(self):
            """Who watches changes no number."""
            return {"value": self.value}

    return LossBelow


def ctrl_c_at(look):
    """To watch with: Ctrl-C is pressed at this look, counted from one."""
    looks = itertools.count(1)

    def see(width):
        if next(looks) == look:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    return see


@contextlib.contextmanager
def ctrl_c_when_done(after):
    """A run inside has Ctrl-C pressed when so many members have gone to its store."""
    add, seen = StoreSink.add, []

    def interrupting(sink, indices, outcome):
        add(sink, indices, outcome)
        before = len(seen)
        seen.extend(np.asarray(indices).tolist())
        if before < after <= len(seen):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StoreSink, "add", interrupting)
        yield


@contextlib.contextmanager
def lanes_all_together():
    """What is compiled inside treats lanes as on an accelerator: none waits for another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args)
        )
        yield
