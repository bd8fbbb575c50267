"""How a run is spread over a machine changes nothing but its speed."""

import json
import os
import subprocess
import sys
import threading

import diffrax
import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf
from jaxflow import solvers
from jaxflow.engine import _calibration

from . import schedules
from .problems import teacher_task, TSIT5
from .schedules import flow, NUM, numbers
from .watching import lanes_all_together, watched_loss_below


@pytest.fixture(scope="module")
def problem():
    return schedules.problem()


@pytest.fixture(scope="module")
def reference(problem):
    solution = flow(*problem, schedule=jf.Schedule(width=8, pools_per_device=1))
    assert set(solution.status) == {"LossBelow", "max_steps"}
    assert solution.stats.num_steps.min() == 0
    return numbers(solution)


def assert_equal(found, reference):
    """To the last bit, which is more than is promised: kernels for whole vectors of lanes
    treat all lanes alike."""
    for one, other in zip(found, reference, strict=True):
        np.testing.assert_array_equal(one, other)


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(
    width=st.sampled_from([1, 8, 9, 16, 40]),
    steps_per_call=st.one_of(st.none(), st.integers(1, 300)),
    pools=st.integers(1, 4),
    order=st.permutations(range(NUM)),
)
def test_results_do_not_depend_on_the_schedule(
    problem, reference, width, steps_per_call, pools, order
):
    found = flow(
        *problem,
        np.array(order),
        schedule=jf.Schedule(
            width=width, steps_per_call=steps_per_call, pools_per_device=pools
        ),
    )
    assert_equal(numbers(found, np.array(order)), reference)


def test_nor_do_those_of_the_default_solver(problem):
    """Whose members are at different stages of different methods at one moment."""
    order = np.arange(NUM)[::-1]
    one_by_one = jf.Schedule(width=8, pools_per_device=1, steps_per_call=1)
    found = flow(*problem, solver="auto", schedule=one_by_one)
    assert np.any(found.stats.num_stabilized > 0)
    wide = jf.Schedule(width=40, pools_per_device=2)
    other = flow(*problem, order, solver="auto", schedule=wide)
    assert_equal(numbers(other, order), numbers(found))


@pytest.mark.parametrize(("width", "num_samples"), [(90, 8), (4, 22_000)])
def test_large_lanes_go_one_by_one_and_nothing_else_changes(width, num_samples):
    """Wide networks and much data: one lane after another, whatever the pool."""
    network, task = teacher_task((3, width, width, 1), num_samples=num_samples)
    ensemble = jf.sample_ensemble(network, 5, key=jax.random.key(5))

    def run(stop, **schedule):
        return jf.gradient_flow(
            ensemble,
            task,
            scale=0.1,
            stop=stop(np.array([1.0, 0.499, 0.49, 0.4, 0.0])),
            max_steps=60,
            record={"norm": jf.norm},
            record_at=[0.0, 1.0, 30.0],
            progress=False,
            schedule=jf.Schedule(**schedule),
            **TSIT5,
        )

    one_by_one, at_once = set(), set()
    stop = watched_loss_below(one_by_one.add)
    found = run(stop, width=8, pools_per_device=1)
    assert set(found.status) == {"LossBelow", "max_steps"}
    other = run(stop, width=16, pools_per_device=2, steps_per_call=7)
    assert_equal(numbers(found), numbers(other))
    with lanes_all_together():
        stop = watched_loss_below(at_once.add)
        together = run(stop, width=8, pools_per_device=1)
    assert 1 in one_by_one and at_once == {8}
    np.testing.assert_array_equal(found.status, together.status)
    np.testing.assert_array_equal(found.stats.num_steps, together.stats.num_steps)
    # Who gives up does so at a time that is the sum of its steps, whose lengths come from
    # errors: small differences, which rounding shows in.
    ended = found.status == "LossBelow"
    np.testing.assert_allclose(found.loss[ended], together.loss[ended], rtol=1e-8)
    np.testing.assert_allclose(found.loss, together.loss, rtol=1e-5)
    np.testing.assert_allclose(
        found.records.values["norm"], together.records.values["norm"], rtol=1e-8
    )


def test_results_do_not_depend_on_the_number_of_devices(problem, reference, tmp_path):
    script = f"""
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)
import jaxflow as jf
from tests.schedules import flow, numbers, problem
assert len(jax.devices()) == 2
solution = flow(*problem(), schedule=jf.Schedule(width=8))
one = flow(*problem(), schedule=jf.Schedule(width=8, devices=jax.devices()[1:]))
for a, b in zip(numbers(solution), numbers(one)):
    np.testing.assert_array_equal(a, b)
np.savez({str(tmp_path / "found.npz")!r}, *numbers(solution))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    with np.load(tmp_path / "found.npz") as found:
        for name, other in zip(found.files, reference, strict=True):
            if found[name].dtype.kind in "fi":
                np.testing.assert_allclose(found[name], other, rtol=1e-12, atol=1e-12)
            else:
                assert found[name].tolist() == other.tolist()


def test_a_run_goes_on_in_narrower_pools(problem, reference):
    """The last members move to a pool of 8 lanes, once its programs are there."""
    seen = set()
    stop = watched_loss_below(seen.add)
    flow(*problem, stop=stop, schedule=jf.Schedule(width=8))  # compiled now
    assert seen == {8}
    wide = jf.Schedule(width=40, pools_per_device=1, steps_per_call=5)
    found = flow(*problem, stop=stop, schedule=wide)
    assert seen == {40, 8}
    assert_equal(numbers(found), reference)


def test_members_may_be_drawn_when_they_are_needed():
    network, task = teacher_task(sizes=(3, 4, 1))
    key = jax.random.key(3)
    settings = {"stop": jf.RescaledTime(1.0), "schedule": jf.Schedule(width=8)}
    drawn = jf.Initializations(network, 300, key=key)
    ensemble = jf.sample_ensemble(network, 300, key=key)
    several = jf.gradient_flow(drawn, task, **settings, **TSIT5)
    at_once = jf.gradient_flow(ensemble, task, **settings, **TSIT5)

    def networks():
        for i in range(300):
            yield jax.tree_util.tree_map(lambda leaf, i=i: leaf[i], ensemble)

    iterated = jf.gradient_flow(networks(), task, **settings, **TSIT5)
    for found in (several, iterated):
        np.testing.assert_array_equal(found.log_norm, at_once.log_norm)
        np.testing.assert_array_equal(found.stats.num_steps, at_once.stats.num_steps)


def test_members_do_not_depend_on_how_many_are_drawn():
    network, _ = teacher_task(sizes=(3, 4, 1))
    few, many = (jf.sample_ensemble(network, num, key=jax.random.key(3)) for num in (3, 20))
    for one, other in zip(few.weights, many.weights):
        np.testing.assert_array_equal(one, other[:3])


def test_no_members_at_all():
    network, task = teacher_task(sizes=(3, 4, 1))
    nobody = jf.Initializations(network, 0, key=jax.random.key(0))
    solution = jf.gradient_flow(nobody, task, stop=jf.RescaledTime(1.0), **TSIT5)
    assert solution.loss.shape == solution.status.shape == (0,)
    assert solution.directions.weights[0].shape == (0, 4, 3)
    assert solution.dataset.sizes["init"] == 0
    assert "no initializations" in repr(solution)
    assert jf.ncf_flow(nobody, task).blow_up_time.shape == (0,)


def test_settings_of_the_calling_thread_hold():
    """Workers are threads, and JAX's double precision can belong to a thread."""
    network, task = teacher_task(sizes=(3, 4, 1), dtype=jnp.float32)
    jax.config.update("jax_enable_x64", False)
    try:
        ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(0))
        stop = jf.RescaledTime(1.0)
        assert jf.gradient_flow(ensemble, task, stop=stop, **TSIT5).loss.dtype == np.float32
        with jax.enable_x64(True):
            in_double = jax.tree_util.tree_map(
                lambda leaf: jnp.asarray(leaf, jnp.float64), ensemble
            )
            double = jf.gradient_flow(in_double, task, stop=stop, **TSIT5)
        assert double.loss.dtype == np.float64
    finally:
        jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("width", 0),
        ("steps_per_call", 1.5),
        ("pools_per_device", "two"),
        ("checkpoint_seconds", 0),
        ("devices", []),
        ("devices", ["cpu"]),
    ],
)
@pytest.mark.usefixtures("as_users_have_it")
def test_schedules_that_cannot_be(setting, value):
    with pytest.raises(jf.InputError, match=setting):
        jf.Schedule(**{setting: value})


@pytest.mark.parametrize(
    ("num", "known", "schedule", "widths", "workers"),
    [
        (20, False, {"width": 500, "pools_per_device": 1}, {504}, 1),
        (20, True, {"width": 500, "pools_per_device": 2}, {16}, 2),
        (1, True, {"width": 500, "pools_per_device": 3}, {8}, 1),
    ],
    ids=["unknown number", "few members", "one member"],
)
def test_no_wider_than_members_need(
    problem, monkeypatch, num, known, schedule, widths, workers
):
    """Whole vector registers of lanes, and no worker without a member."""
    seen, started, start = set(), [], threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: (started.append(thread), start(thread))
    )
    ensemble, task = problem
    members = jax.tree_util.tree_map(lambda leaf: leaf[:num], ensemble)
    one_by_one = (jax.tree_util.tree_map(lambda a, i=i: a[i], ensemble) for i in range(num))
    jf.gradient_flow(
        members if known else one_by_one,
        task,
        scale=0.1,
        stop=watched_loss_below(seen.add)(0.0),
        max_steps=5,
        schedule=jf.Schedule(**schedule),
        progress=False,
        **TSIT5,
    )
    assert seen == widths
    assert len(started) == workers


def test_wide_pools_narrow_in_steps(problem):
    """From 504 lanes to 64 and on to 8, as members end."""
    seen = set()
    stop = watched_loss_below(seen.add)
    ensemble, task = problem

    def one_by_one(num):
        for i in range(num):
            yield jax.tree_util.tree_map(lambda leaf, i=i: leaf[i], ensemble)

    for width in (8, 64, 504):
        seen.clear()
        jf.gradient_flow(
            one_by_one(20),
            task,
            scale=0.1,
            stop=stop(0.4) if width < 504 else stop(0.45),
            max_steps=60,
            schedule=jf.Schedule(width=width, pools_per_device=1, steps_per_call=1),
            progress=False,
            **TSIT5,
        )
    assert seen == {504, 64, 8}


def test_the_best_width_is_measured_once(monkeypatch, tmp_path):
    """And remembered: by the process, and in a file for others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network, task = teacher_task(sizes=(3, 5, 1))  # of no other test
    many = jf.Initializations(network, 600, key=jax.random.key(0))
    stored = lambda: json.loads(file.read_text())["width"]

    def width_of(see, stop):
        see.clear()
        jf.gradient_flow(
            many,
            task,
            scale=0.1,
            stop=stop(0.0),
            max_steps=3,
            schedule=jf.Schedule(pools_per_device=1),
            progress=False,
            **TSIT5,
        )
        return max(see)

    def process():
        """Conditions that nobody has seen are to the engine as another process."""
        seen = set()
        stop = watched_loss_below(seen.add)
        return lambda: width_of(seen, stop)

    first, second, third = process(), process(), process()
    width = first()
    (file,) = tmp_path.glob("jaxflow/widths/*.json")
    assert 8 <= width <= 128 and stored() == width
    file.write_text('{"width": 24}')  # what nobody would measure
    assert first() == width
    assert second() == 24 and stored() == 24
    file.write_text("damaged")
    assert third() == stored() != 24
    file.unlink()
    os.mkfifo(file)  # which would wait for somebody to write
    assert 8 <= process()() == stored() <= 128


def test_no_width_is_read_from_a_file_that_holds_none(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "jaxflow" / "widths" / "key.json"
    file.parent.mkdir(parents=True)
    for content in (b'{"width": 1048575}', b"[" * 990, b"\xff", b"[]", b'{"width": true}'):
        file.write_bytes(content)
        assert _calibration._read("key", (8, 128)) is None
    file.write_bytes(b'{"width": 24}')
    assert _calibration._read("key", (8, 128)) == 24


class _Oscillator(eqx.Module):
    """`y' = A(t) y`, where every stage of a step matters."""

    def __call__(self, t, y, args):
        return jnp.stack([y[1], -y[0] * (1 + t)]) - 0.1 * y**3


EXPLICIT = [
    diffrax.Tsit5(),
    diffrax.Dopri5(),
    diffrax.Bosh3(),
    diffrax.Heun(),
    diffrax.Midpoint(),
    diffrax.Ralston(),
]


@pytest.mark.parametrize("method", EXPLICIT, ids=lambda m: type(m).__name__)
def test_steps_written_out_are_the_steps_of_the_method(method):
    written = solvers.write_out(method)
    assert isinstance(written, solvers.WrittenOut)
    term = diffrax.ODETerm(_Oscillator())

    def steps(solver):
        t, y = jnp.asarray(0.3), jnp.array([1.0, -0.5])
        state = solver.init(term, t, t + 0.1, y, None)
        for step in (0.1, 0.25):
            y, error, dense, state, _ = solver.step(
                term, t, t + step, y, None, state, False
            )
            inside = solver.interpolation_cls(t0=t, t1=t + step, **dense)
            middle = inside.evaluate(t + 0.4 * step)
            t = t + step
        return y, error, middle

    for ours, theirs in zip(steps(written), steps(method)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-16)
    assert written.order(term) == method.order(term)
    counted = [
        solvers.count_evaluations(s, chooses_first_step=True) for s in (method, written)
    ]
    assert counted[0] == counted[1]


def test_other_methods_are_left_as_they_are():
    for method in (diffrax.Kvaerno3(), diffrax.Euler()):
        assert solvers.write_out(method) is method
    # Too long to write out, but without bookkeeping for backpropagation.
    assert solvers.write_out(diffrax.Dopri8()).scan_kind == "lax"


def test_an_error_in_a_worker_reaches_the_caller(problem):
    def fails(width):
        raise RuntimeError("lightning")

    stop = watched_loss_below(fails)
    with pytest.raises(RuntimeError, match="lightning"):
        flow(*problem, stop=stop, schedule=jf.Schedule(width=8))
