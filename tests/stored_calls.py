"""A small call of every public function that takes `store=`, each with its own dangers."""

import contextlib
import functools

import jax
import numpy as np
import optax
import pytest

import jaxflow as jf
from jaxflow.results import _run_store
from jaxflow.runs import _storing

from .problems import TSIT5

NUM = 24
SGD, ADAM = optax.sgd(0.05), optax.adam(0.01)  # the same objects, or programs compile again


@contextlib.contextmanager
def chunks_of(members):
    """Stores that are written inside have chunks of so many members."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_run_store, "_CHUNK_ROWS", (members, members))
        yield


@contextlib.contextmanager
def written_one_by_one():
    """Runs inside write every member when it is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_storing, "_BUFFER_MEMBERS", 1)
        yield


@functools.cache
def problem():
    key = jax.random.key(0)
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(0.5, 2), key=key)
    inputs = jf.data.sphere_points(10, 3, key=key)
    return network, jf.data.teacher_student(network, inputs, target_norm=1.0)


def _common(num, settings):
    """What every call takes; every fourth member goes on until it gives up."""
    network, task = problem()
    start = settings.pop("start", 0)
    drawn = jf.Initializations(network, start + num, key=jax.random.key(3))[start:]
    common = {
        "record": {"norm": jf.norm},
        "schedule": jf.Schedule(width=8, steps_per_call=8, checkpoint_seconds=1e-3),
        "progress": False,
        "stop": [jf.LossBelow(np.where(np.arange(num) % 4 == 1, 1e-12, 0.3))],
    }
    return drawn, task, common | settings


def _flow(store=None, num=NUM, **settings):
    # The last record is never reached.
    given = {"record_at": [0.0, 1.0, 3.0, 1e9], "scale": 1e-2, "max_steps": 150}
    given |= {**TSIT5, **settings}
    drawn, task, given = _common(num, given)
    return jf.gradient_flow(drawn, task, store=store, **given)


def _ncf(store=None, num=NUM, **settings):
    # Stopped early: nobody knows when these would blow up.
    given = {"stop": [jf.RescaledTime(0.5)], "record_at": [0.0, 0.3, 0.7], **settings}
    drawn, task, given = _common(num, given)
    return jf.ncf_flow(drawn, task, store=store, **given)


def _descent(store=None, num=NUM, **settings):
    given = {"num_steps": 80, "record_at": [0.0, 9.0, 70.0], "scale": 0.5, **settings}
    drawn, task, given = _common(num, given)
    return jf.gradient_descent(drawn, task, store=store, **given)


def _stochastic(store=None, num=NUM, seed=5, **settings):
    return _descent(store, num, batch_size=4, key=jax.random.key(seed), **settings)


def _langevin(store=None, num=NUM, seed=5, **settings):
    given = {"temperature": 0.01, "time": 3.0, "step": 0.05, "scale": 0.5, **settings}
    drawn, task, given = _common(num, {"record_at": [0.0, 1.0, 2.9], **given})
    return jf.langevin_flow(drawn, task, store=store, key=jax.random.key(seed), **given)


def _simulation(store=None, num=NUM, key=3, **execution):
    # Members of the middle of an ensemble, whose numbers begin at 7.
    network, task = problem()
    simulation = jf.Simulation(
        jf.GradientFlow("cartesian"),
        jf.Initializations(network, 7 + num, key=jax.random.key(key)),
        task,
        scale=0.1,
        stop=[jf.RescaledTime(np.where(np.arange(7 + num) % 4 == 1, 20.0, 5.0))],
    )
    schedule = jf.Schedule(width=8, steps_per_call=8, checkpoint_seconds=1e-3)
    execution = {"schedule": schedule, "progress": False, **execution}
    return jf.run(simulation[7:], store=store, **execution)


def _iterator(store=None, num=NUM, scale=0.1, **execution):
    network, task = problem()
    ensemble = jf.sample_ensemble(network, num, key=jax.random.key(3))
    given = _common(
        num, {"stop": [jf.LossBelow(0.3)], "max_steps": 150, **TSIT5, **execution}
    )[2]
    members = (jf.networks.member(ensemble, index) for index in range(num))
    given["record_at"] = [0.0, 1.0, 3.0, 1e9]
    return jf.gradient_flow(members, task, store=store, scale=scale, **given)


CALLS = {
    "polar": functools.partial(_flow, coordinates="polar"),
    "cartesian": functools.partial(_flow, coordinates="cartesian", scale=0.1),
    "automatic": functools.partial(_flow, solver="auto"),
    "correlation": _ncf,
    "descent": functools.partial(_descent, optimizer=SGD),
    "adam": functools.partial(_stochastic, optimizer=ADAM),
    "langevin": _langevin,
    "simulation": _simulation,
    "iterator": _iterator,
}
"""By name, functions of `store`, `num` and settings."""

CHANGES = {
    "polar": {"rtol": 1e-5},
    "cartesian": {"scale": 0.2},
    "automatic": {"atol": 1e-8},
    "correlation": {"rtol": 1e-5},
    "descent": {"optimizer": optax.sgd(0.06)},
    "adam": {"seed": 6},
    "langevin": {"temperature": 0.02},
    "simulation": {"key": 4},
    "iterator": {"scale": 0.2},
}
"""For each of them, a number that makes it another run."""
