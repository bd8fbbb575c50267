"""A flow, a stepper and a stop of a user's own need no other file of jaxflow."""

import contextlib
import inspect
import subprocess
import sys
import time

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import zarr

import jaxflow as jf
from jaxflow import networks

from . import extending
from .comparing import assert_same


def by_scipy(sim, member, times):
    """The same equation by DOP853: weights at these times."""
    task, friction = sim.task, sim.equation.friction
    one = networks.member(sim.networks.stacked(np.array([member])), 0)
    rebuild = networks.unflattener(one)
    pull = jax.jit(jax.grad(lambda w: -task.total_loss(task.outputs(rebuild(w)))))
    start = np.asarray(networks.flatten(one))

    def field(t, y):
        w, v = np.split(y, 2)
        return np.concatenate([v, np.asarray(pull(jnp.asarray(w))) - friction * v])

    y0 = np.concatenate([start, 0 * start])
    solved = scipy.integrate.solve_ivp(
        field, (0, times[-1]), y0, "DOP853", times, rtol=1e-11, atol=1e-12
    )
    return solved.y[: len(start)].T


def test_a_flow_is_one_class_and_less_than_sixty_lines():
    lines = inspect.getsource(extending.MomentumFlow) + inspect.getsource(
        extending.Momentum
    )
    assert len(lines.splitlines()) < 60


def test_the_flow_is_solved():
    record = jf.Record(
        {"weights": lambda n, t: networks.flatten(n)}, [0.0, 1.0, 4.0], "time"
    )
    sim = extending.simulation(record=record, stepping=jf.Stepping(rtol=1e-9, atol=1e-11))
    solution = jf.run(sim, progress=False)
    assert set(solution.status) == {"Time"}
    assert solution.kind == "momentum gradient flow"
    assert solution.settings["friction"] == 0.5
    for member in (0, 5):
        expected = by_scipy(sim, member, [0.0, 1.0, 4.0])
        found = solution.records.values["weights"][member]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(solution.log_time, np.log(4.0))


@pytest.mark.parametrize("solver", [diffrax.Dopri5(), "auto"])
def test_other_solvers_serve_the_flow(solver):
    exact = jf.run(extending.simulation(stepping=jf.Stepping(rtol=1e-9, atol=1e-11)))
    found = jf.run(extending.simulation(stepping=jf.Stepping(solver)))
    np.testing.assert_allclose(found.loss, exact.loss, rtol=1e-3)


def test_stops_of_both_kinds_end_it():
    norms = np.array([1e3, 1e3, 1e3, 1.02, 1.02, 1.02])
    stop = [extending.SpeedBelow(0.02), jf.NormAbove(norms), jf.Time(100.0)]
    solution = jf.run(extending.simulation(stop=stop), progress=False)
    assert solution.status.tolist() == ["SpeedBelow"] * 3 + ["NormAbove"] * 3
    grown = solution.status == "NormAbove"
    np.testing.assert_allclose(solution.log_norm[grown], np.log(1.02), rtol=1e-10)


def test_what_the_flow_does_not_show_is_refused():
    with pytest.raises(
        jf.InputError, match=r"Stationary.*gradient_norm.*MomentumFlow shows"
    ):
        extending.simulation(stop=[jf.Stationary(1e-8)])
    with pytest.raises(jf.InputError, match="record_over: found 'rescaled_time'"):
        extending.simulation(record=jf.Record({"norm": jf.norm}, [0.0, 1.0]))

    class Undeclared(jf.AbstractCondition):
        def gap(self, shown):
            return shown.temperature

    with pytest.raises(jf.InputError, match="Undeclared, which looks at temperature"):
        extending.simulation(stop=[Undeclared()])


CHILD = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import jaxflow as jf
from tests import extending
sys.stdin.readline()
often = jf.Schedule(width=8, steps_per_call=1, checkpoint_seconds=0.1)
jf.run(extending.many(), store=sys.argv[1], schedule=often, progress=False)
"""


def num_done(path):
    with contextlib.suppress(Exception):  # nothing is there yet
        return int(np.count_nonzero(zarr.open_array(path / "status", mode="r")[:]))
    return 0


def test_a_killed_run_goes_on(tmp_path):
    """SIGKILL, and the same call: the run that nothing happened to, to the last bit."""
    path, few = tmp_path / "run.zarr", jf.Schedule(width=8)
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as child:
        child.stdin.write("go\n")
        child.stdin.flush()
        while not num_done(path) and child.poll() is None:
            time.sleep(0.02)
        child.kill()
    sim = extending.many()
    assert 0 < num_done(path) < len(sim)
    expected = jf.run(sim, schedule=few, progress=False)
    assert_same(expected, jf.run(sim, store=path, schedule=few, progress=False))
    assert_same(expected, jf.load(path))


@pytest.mark.parametrize("num_steps", [64])
def test_a_stepper_of_ones_own(num_steps):
    exact = jf.run(extending.simulation(stepping=jf.Stepping(rtol=1e-10, atol=1e-12)))
    errors = []
    for halvings in (1, 2):
        dt0 = 4.0 / num_steps / halvings
        stepping = jf.Stepping(extending.Midpoint(), dt0=dt0)
        solution = jf.run(extending.simulation(stepping=stepping), progress=False)
        assert set(solution.status) == {"Time"}
        np.testing.assert_array_equal(solution.stats.num_steps, num_steps * halvings)
        np.testing.assert_array_equal(solution.stats.num_vjps, 2 * solution.stats.num_steps)
        errors.append(np.abs(solution.loss - exact.loss).max())
    assert 3.5 < errors[0] / errors[1] < 4.5  # of order two


def test_a_stepper_without_errors_needs_a_step():
    with pytest.raises(jf.InputError, match="dt0"):
        extending.simulation(stepping=jf.Stepping(extending.Midpoint()))
