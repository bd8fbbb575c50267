"""Runs inside of JAX's transformations, and under its settings for finding mistakes."""

import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow as jf
from jaxflow._compiled import settings
from jaxflow._rows import map_rows

from .filled import filled

NET = filled(lambda: jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5, 2), key=jax.random.key(0)))
X = np.random.default_rng(0).normal(size=(4, 2))
TASK = jf.Task(X, X[:, 0])
QUIET = {"progress": False}

RUNS = {
    "gradient_flow": lambda net, **more: jf.gradient_flow(
        net, TASK, **{"stop": jf.Time(1.0), **more}, **QUIET
    ),
    "ncf_flow": lambda net, **more: jf.ncf_flow(net, TASK, **more, **QUIET),
    "gradient_descent": lambda net, **more: jf.gradient_descent(
        net, TASK, optimizer=optax.sgd(0.1), num_steps=2, **more, **QUIET
    ),
    "langevin_flow": lambda net, **more: jf.langevin_flow(
        net, TASK, temperature=0.1, step=0.1, time=1.0, key=jax.random.key(0), **more,
        **QUIET,
    ),
    "find_kkt": lambda net, **more: jf.find_kkt(net, TASK, **more, **QUIET),
    "verify_early_convergence": lambda net, **more: jf.verify_early_convergence(
        net, TASK, [0.1, 0.01], **more, **QUIET
    ),
    "saddle_to_saddle": lambda net, **more: jf.saddle_to_saddle(
        net, TASK, **{"scale": 0.1, **more}, **QUIET
    ),
    "Simulation": lambda net, **more: jf.Simulation(jf.GradientFlow(), net, TASK, **more),
}  # fmt: skip

TRACED = {
    "networks": lambda run, value: run(
        eqx.tree_at(lambda net: net.weights[0], NET, NET.weights[0] * value)
    ),
    "scale": lambda run, value: run(NET, scale=value),
    "stop": lambda run, value: run(NET, stop=jf.Time(value)),
    "rtol": lambda run, value: run(NET, rtol=value),
    "record_at": lambda run, value: run(NET, record={"n": jf.norm}, record_at=value[None]),
    "targets": lambda run, value: run(NET) and jf.Task(X, value * X[:, 0]),
}
TRANSFORMED = {"jit": jax.jit, "grad": jax.grad, "vmap": jax.vmap}
SENTENCE = "runs are not traced.*ensemble.*jaxflow.loss"


@pytest.mark.parametrize("name", RUNS)
def test_runs_inside_of_a_trace_are_refused_in_one_sentence(name):
    def value_of(value):
        RUNS[name](eqx.tree_at(lambda net: net.weights[0], NET, NET.weights[0] * value))
        return value

    for transform in (jax.jit, jax.grad):
        with pytest.raises(jf.InputError, match=rf"networks.*\n*.*{SENTENCE}"):
            transform(value_of)(1.0)


@pytest.mark.parametrize("transform", TRANSFORMED)
@pytest.mark.parametrize("argument", [name for name in TRACED if name != "targets"])
def test_a_traced_value_is_named(argument, transform):
    def value_of(value):
        TRACED[argument](RUNS["gradient_flow"], value)
        return value

    given = jnp.ones(2) if transform == "vmap" else 1.0
    with pytest.raises(jf.InputError, match=rf"^{argument}.*traced value.*{SENTENCE}"):
        TRANSFORMED[transform](value_of)(given)


def test_tasks_are_not_traced():
    with pytest.raises(jf.InputError, match=rf"^targets: found a traced.*{SENTENCE}"):
        jax.grad(lambda v: jf.loss(NET, jf.Task(X, v * X[:, 0])))(1.0)


def test_a_run_of_constants_inside_of_jit_is_refused():
    """Nothing that it is given is traced, and yet all that it would compute is."""

    def constant(value):
        RUNS["gradient_flow"](NET)
        return value

    with pytest.raises(jf.InputError, match=rf"^gradient_flow: .*jax\.jit.*{SENTENCE}"):
        jax.jit(constant)(1.0)


def test_double_precision_is_refused_where_jax_has_none():
    """JAX would compute with single precision, and say nothing."""
    with jax.enable_x64(False):
        for run in RUNS.values():
            with pytest.raises(jf.InputError, match=r"^networks?: .*float64 where.*x64"):
                run(NET)
        with pytest.raises(jf.InputError, match=r"^network: .*float64 where.*x64"):
            jf.loss(NET, TASK)
        with pytest.raises(jf.InputError, match=r"float64 where.*x64"):
            jf.sample_ensemble(NET, 2, key=jax.random.key(0))


def test_settings_of_a_context_hold_in_all_threads():
    """JAX has them in the thread of the context alone."""
    seen = []

    def doubled(row):
        seen.append(settings())
        return row + np.ones((), np.int32) * row  # refused where promotion is strict

    rows = np.linspace(0, 1, 100, dtype=np.float32)  # for several threads
    with (
        jax.enable_x64(False),
        jax.default_matmul_precision("highest"),
        jax.numpy_dtype_promotion("standard"),
    ):
        here = settings()
        values = map_rows(doubled, rows)
    assert seen == [here] and here != settings()  # one program, for all threads
    assert values.dtype == np.float32


SCRIPT = """
import jax
jax.config.update("jax_debug_nans", True)
jax.config.update("jax_debug_infs", True)
import numpy as np, optax, jaxflow as jf
key = jax.random.key(0)
net = jf.FeedForward((2, 3, 1), jf.LeakyReLU(0.5, 2), key=key)
ensemble = jf.sample_ensemble(net, 2, key=key)
x = np.random.default_rng(0).normal(size=(4, 2))
task = jf.Task(x, x[:, 0])
jax.config.update("jax_transfer_guard", "disallow")
quiet = {"progress": False}
record = {"record": {"norm": jf.norm}}
common = {"stop": jf.Time(0.1), "scale": 0.5, **quiet}
found = jf.gradient_flow(ensemble, task, **record, record_at=[0.01, 50.0], **common)
assert np.isfinite(found.records.values["norm"]).tolist() == [[True, False]] * 2
assert set(found.status) == {"Time"}
found.networks, found.dataset
found = jf.gradient_flow(ensemble, task, coordinates="cartesian", **common)
assert set(found.status) == {"Time"}
limit = jf.ncf_flow(ensemble, task, stop=jf.RescaledTime(1e-3), **quiet)
assert np.isnan(limit.blow_up_time).all()  # not known so early
descent = {"optimizer": optax.sgd(1e-2), "num_steps": 2, **record, "record_at": [1.0, 9.0]}
found = jf.gradient_descent(ensemble, task, **descent, **quiet)
assert np.isfinite(found.records.values["norm"]).tolist() == [[True, False]] * 2
noise = {"temperature": 0.1, "step": 0.05, "time": 0.1, "key": key}
assert set(jf.langevin_flow(ensemble, task, **noise, **quiet).status) == {"Time"}
assert len(jf.find_kkt(ensemble, task, spectrum=False, **quiet))
jax.config.update("jax_transfer_guard", "allow")
nowhere = jf.FeedForward((2, 2, 1), lambda x: jax.numpy.log(-1 - x**2), key=key)
try:
    jf.gradient_flow(nowhere, task, stop=jf.Time(1.0), coordinates="cartesian", **quiet)
except FloatingPointError as error:
    print(error)
"""


def test_runs_pass_where_jax_looks_for_nans_infinities_and_transfers():
    """And a NaN that is none of jaxflow's own is still found."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "NaN, for which jax_debug_nans lets JAX look" in done.stdout
