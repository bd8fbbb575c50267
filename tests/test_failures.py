"""The caller's own code that fails: named before a run, and wrapped within it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

from .problems import teacher_task, TSIT5

OPTIONS = {"stop": jf.RescaledTime(0.1), "scale": 0.1, "record_at": [0.05], **TSIT5}


@pytest.fixture
def problem():
    network, task = teacher_task(sizes=(3, 4, 1))
    return jf.sample_ensemble(network, 3, key=jax.random.key(0)), task


def _raises_in_the_program(value):
    raise ValueError("no such layer")


def _called_back(network, task):
    shape = jax.ShapeDtypeStruct((), jnp.float64)
    norm = jf.norm(network)
    return jax.pure_callback(_raises_in_the_program, shape, norm, vmap_method="sequential")


@pytest.mark.parametrize("stored", [False, True])
def test_error_of_a_callback_comes_with_the_name_of_the_run(problem, stored, tmp_path):
    store = tmp_path / "run.zarr" if stored else None
    record = {"f": _called_back}
    with pytest.raises(jf.RunError, match=r"Gradient flow.*no such layer") as caught:
        jf.gradient_flow(*problem, record=record, store=store, **OPTIONS)
    assert isinstance(caught.value, (jf.JaxflowError, RuntimeError))
    assert isinstance(caught.value.__cause__, jax.errors.JaxRuntimeError)


def test_recorder_that_fails_only_later_is_named(problem):
    calls = []

    def fails_at_its_second_call(network, task):
        calls.append(network)
        if len(calls) > 1:
            raise RuntimeError("once was enough")
        return jf.norm(network)

    with pytest.raises(jf.InputError, match="once was enough") as caught:
        jf.gradient_flow(*problem, record={"f": fails_at_its_second_call}, **OPTIONS)
    assert caught.value.argument == "record['f']"
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_threshold_may_become_infinite_in_the_type_of_the_weights(dtype):
    network = jf.FeedForward((3, 4, 1), jf.LeakyReLU(), key=jax.random.key(0), dtype=dtype)
    task = jf.Task(np.eye(3, dtype=dtype), np.ones(3, dtype))
    make = lambda: jf.Simulation(jf.GradientFlow(), network, task, stop=jf.NormAbove(1e300))
    if dtype is np.float64:
        make()
        return
    with pytest.raises(jf.InputError, match=r"1e\+300.*float32"):
        make()
