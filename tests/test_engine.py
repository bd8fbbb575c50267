"""The engine: diffrax's steps, exact stops, records, statuses, and flows of any kind."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

import jaxflow as jf
from jaxflow import engine, flows, solvers

from .problems import teacher_task, TSIT5
from .watching import lanes_all_together


def _controller(flow, rtol=1e-6, atol=1e-9):
    decides = solvers.PredictiveController(
        jnp.asarray(rtol), jnp.asarray(atol), flow.error_norm
    )
    return solvers.FlowController(decides, flow.view_error)


def _problem(flow, solver, controller, first_step=None, max_steps=3000):
    first = None if first_step is None else jnp.asarray(first_step)
    stepper = solvers.WholeSteps(solver)
    most = jnp.asarray(max_steps, jnp.int32)
    return engine.Problem(flow, stepper, controller, most, first)


def _start(flow, network, scale, *stops):
    args = jnp.log(jnp.asarray(scale))
    member = engine.Start(flow.enter(network, args), args, stops)
    return jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf)[None], member)


def _member(network, seed=2):
    ensemble = jf.sample_ensemble(network, 1, key=jax.random.key(seed))
    return jax.tree_util.tree_map(lambda x: x[0] if eqx.is_array(x) else x, ensemble)


def _run(problem, starts, **settings):
    sink = engine.InMemory()
    source = engine.Given(engine.Members(starts, None))
    engine.run(problem, source, sink, **settings)
    return sink.outcome()


def _assert_same_steps(outcome, reference, rtol=1e-10):
    assert outcome.num_steps[0] == reference.stats["num_steps"]
    assert outcome.num_accepted[0] == reference.stats["num_accepted_steps"]
    for ours, theirs in zip(
        jax.tree_util.tree_leaves(outcome.state), jax.tree_util.tree_leaves(reference.ys)
    ):
        np.testing.assert_allclose(ours[0], theirs[-1], rtol=rtol, atol=rtol / 100)


class FirstBelow(jf.AbstractCondition):
    """Ends a member at the first step after which its loss is small, wherever that is."""

    needs = ("loss",)

    def gap(self, shown):
        return 0.3 - shown.loss


@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Dopri5()])
def test_same_steps_as_diffeqsolve_until_an_event(solver):
    network, task = teacher_task(power=1, slope=1.0)
    flow = flows.PolarFlow(network, task, 3)
    controller = _controller(flow)
    stop = FirstBelow()
    start = _start(flow, _member(network), 1e-3, stop)
    # The first step is given to both: diffeqsolve hides the term from the choice of one
    # and then starts with 0.01 whatever the problem. Not a tiny one, whose estimated
    # error would be rounding, and the next step's size with it.
    first = 0.3
    outcome = _run(_problem(flow, solver, controller, first), start)

    def done(t, y, args, **kwargs):
        return stop.gap(flow.snapshot(t, y, y, args)) >= 0

    reference = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        solver,
        0.0,
        1e12,
        first,
        jax.tree_util.tree_map(lambda leaf: leaf[0], start.state),
        start.args[0],
        stepsize_controller=controller,
        event=diffrax.Event(done),
        max_steps=3000,
    )
    assert outcome.status[0] == 1
    assert reference.stats["num_steps"] >= 12
    # Where the last step ends is free, and follows the rounding of error estimates.
    _assert_same_steps(outcome, reference, rtol=1e-7)


@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Kvaerno3(), diffrax.Euler()])
def test_same_steps_as_diffeqsolve_to_a_time(solver):
    network, task = teacher_task(power=1, slope=1.0)
    flow = flows.CartesianFlow(network, task, 3)
    euler = isinstance(solver, diffrax.Euler)
    controller = diffrax.ConstantStepSize() if euler else _controller(flow)
    # Constant steps that fill the time: diffeqsolve would make others a little shorter.
    first = 2.0 / 64 if euler else 1e-3
    start = _start(flow, _member(network), 0.1, jf.RescaledTime(jnp.asarray(2.0)))
    if not euler and isinstance(solver, diffrax.AbstractImplicitSolver):
        finder = diffrax.VeryChord(rtol=1e-8, atol=1e-10)
        solver = diffrax.Kvaerno3(root_finder=finder)
    outcome = _run(_problem(flow, solver, controller, first), start)
    reference = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        solver,
        0.0,
        2.0,
        first,
        start.state[0],
        start.args[0],
        stepsize_controller=controller,
        max_steps=3000,
    )
    assert outcome.clock[0] == 2.0
    _assert_same_steps(outcome, reference)


@pytest.mark.parametrize("stop", [jf.RescaledTime, jf.Time, jf.NormAbove])
@pytest.mark.parametrize("kind", [flows.CartesianFlow, flows.PolarFlow])
def test_searches_inside_a_step_only_for_ends_that_are_not_known_beforehand(
    monkeypatch, kind, stop
):
    class Fresh(stop):
        """For which nothing was compiled before."""

    searches, root_find = [], optimistix.root_find

    def spy(function, solver, *args, **kwargs):
        searches.append(solver)
        return root_find(function, solver, *args, **kwargs)

    monkeypatch.setattr(optimistix, "root_find", spy)
    network, task = teacher_task(power=1, slope=1.0)
    flow = kind(network, task, 3)
    problem = _problem(flow, solvers.write_out(diffrax.Tsit5()), _controller(flow))
    start = _start(flow, _member(network), 0.1, Fresh(jnp.asarray(2.0)))
    _run(problem, start)
    assert bool(searches) == (kind is flows.PolarFlow or stop is jf.NormAbove)


class _Decay(flows.AbstractFlow):
    """`y' = -rate y`, with the rate as what differs from member to member."""

    shows = ("height", "time")

    def vector_field(self, clock, state, args):
        return -args * state

    def snapshot(self, clock, state, velocity, args):
        return flows.snapshot(None, height=state, time=clock)

    def clock_at(self, quantity, value, args):
        return value if quantity == "time" else None


class _Below(jf.AbstractCrossing):
    level: float
    needs = ("height",)

    def gap(self, shown):
        return self.level - shown.height


@pytest.mark.parametrize("width", [1, 3, 7])
def test_runs_a_flow_that_is_no_network(width):
    rates = jnp.linspace(0.5, 3.0, 7)
    levels = jnp.linspace(0.1, 0.9, 7)
    controller = diffrax.PIDController(rtol=1e-9, atol=1e-11)
    problem = _problem(_Decay(), diffrax.Tsit5(), controller)
    seen = []
    outcome = _run(
        problem,
        engine.Start(jnp.ones(7), rates, (_Below(levels),)),
        schedule=engine.Schedule(width=width),
        on_progress=seen.append,
    )
    # The stop is landed on: its level and its clock, both to the accuracy of a step.
    np.testing.assert_allclose(outcome.state, levels, rtol=1e-12)
    np.testing.assert_allclose(outcome.clock, -np.log(levels) / rates, rtol=1e-8)
    steps = int(np.sum(outcome.num_steps))
    assert seen[-1] == engine.Progress(7, total=7, failed=0, in_flight=0, steps=steps)
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_stops_are_exact_in_polar_coordinates():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 5, key=jax.random.key(1))
    ends = np.array([0.5, 3.0, 20.0, 100.0, 300.0])
    by_rescaled = jf.gradient_flow(
        ensemble,
        task,
        scale=1e-6,
        stop=jf.RescaledTime(ends),
        coordinates="polar",
        **TSIT5,
    )
    np.testing.assert_allclose(by_rescaled.rescaled_time, ends, rtol=1e-12)
    log_ends = np.log(ends) - 5 * np.log(1e-6)
    by_log = jf.gradient_flow(
        ensemble, task, scale=1e-6, stop=jf.LogTime(log_ends), **TSIT5
    )
    np.testing.assert_allclose(by_log.log_time, log_ends, rtol=1e-13)
    by_time = jf.gradient_flow(
        ensemble, task, scale=1e-6, stop=jf.Time(np.exp(log_ends)), **TSIT5
    )
    np.testing.assert_allclose(by_time.log_norm, by_rescaled.log_norm, rtol=1e-10)
    by_norm = jf.gradient_flow(ensemble, task, scale=1e-6, stop=jf.NormAbove(1e-4), **TSIT5)
    np.testing.assert_allclose(by_norm.log_norm, np.log(1e-4), rtol=1e-13)
    assert set(by_norm.status) == {"NormAbove"}


def test_the_first_of_several_stops_ends_a_member():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(1))
    solution = jf.gradient_flow(
        ensemble,
        task,
        scale=1.0,
        stop=[jf.RescaledTime([1e9, 0.1, 1e9]), jf.NormAbove([1.05, 1.05, 1e9])],
        max_steps=50,
        **TSIT5,
    )
    assert solution.status.tolist() == ["NormAbove", "RescaledTime", "max_steps"]
    assert solution.stats.num_steps[2] == 50


def test_members_that_stop_at_once():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 3, key=jax.random.key(1))
    solution = jf.gradient_flow(
        ensemble,
        task,
        scale=0.1,
        stop=jf.LossBelow([1e9, 0.0, 1e9]),
        record={"norm": jf.norm},
        record_at=[0.0, 0.1],
        max_steps=30,
        **TSIT5,
    )
    assert solution.status.tolist() == ["LossBelow", "max_steps", "LossBelow"]
    assert solution.stats.num_steps.tolist() == [0, 30, 0]
    np.testing.assert_allclose(solution.records.values["norm"][:, 0], 0.1)
    assert np.isnan(solution.records.values["norm"][0, 1])


class _Unbounded(jf.AbstractLoss):
    """A loss without a minimum: the flow reaches infinity in finite time."""

    def __call__(self, prediction, target):
        return -jnp.sum(target * prediction**3)


@pytest.mark.parametrize("coordinates", ["polar", "cartesian"])
def test_a_diverging_member_gets_a_status_and_the_rest_finish(coordinates):
    network = jf.FeedForward((1, 1, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    weights = jnp.array([[1.0, 1.0], [1e-3, 1e-3], [1.0, -1.0]])
    ensemble = eqx.tree_at(
        lambda n: n.weights,
        network,
        (weights[:, :1, None], weights[:, 1:, None]),
    )
    task = jf.Task([[1.0]], [1.0], loss=_Unbounded())
    solution = jf.gradient_flow(
        ensemble,
        task,
        stop=jf.Time(5.0),
        coordinates=coordinates,
        max_steps=5000,
        **TSIT5,
    )
    # The third shrinks: its output is negative and the loss pushes it back to zero.
    assert solution.status[0] in ("non_finite", "step_too_small")
    assert solution.status[1:].tolist() == ["Time", "Time"]
    assert np.all(np.isfinite(solution.log_norm[1:]))


def test_explosion_with_constant_steps_is_non_finite():
    network = jf.FeedForward((1, 1, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
    task = jf.Task([[1.0]], [1.0], loss=_Unbounded())
    solution = jf.gradient_flow(
        network,
        task,
        scale=3.0,
        stop=jf.Time(100.0),
        coordinates="cartesian",
        solver=diffrax.Euler(),
        stepping=jf.Stepping(dt0=1.0),
        progress=False,
    )
    assert solution.status == "non_finite"


def test_members_that_go_to_zero_have_no_blow_up():
    """A ReLU neuron with negative output weight and only positive targets."""
    network = jf.FeedForward((2, 1, 1), jf.LeakyReLU(0.0, 2), key=jax.random.key(0))
    network = eqx.tree_at(
        lambda n: n.weights,
        network,
        (jnp.array([[0.6, 0.0]]), jnp.array([[-0.8]])),
    )
    task = jf.Task(np.eye(2), np.array([1.0, 1.0]))
    limit = jf.ncf_flow(network, task, max_steps=3000)
    assert limit.status == "Stationary"
    assert limit.blow_up_time == np.inf
    assert limit.log_norm < 0


@pytest.mark.parametrize("over", ["rescaled_time", "log_norm", "log_time"])
@pytest.mark.parametrize("coordinates", ["polar", "cartesian"])
def test_records_are_values_of_the_path(over, coordinates):
    """What is recorded at a point is what a run that ends there gives."""
    network, task = teacher_task()
    member = _member(network)
    grid = {
        "rescaled_time": np.array([0.0, 0.7, 40.0, 100.0]),
        "log_norm": np.log([0.1001, 0.101, 0.104]),
        "log_time": np.array([5.0, 12.0, 16.0]),
    }[over]
    stop = {
        "rescaled_time": jf.RescaledTime,
        "log_norm": lambda value: jf.NormAbove(np.exp(value)),
        "log_time": jf.LogTime,
    }[over]
    settings = {"scale": 0.1, "coordinates": coordinates, "rtol": 1e-9, "atol": 1e-12}
    recorded = jf.gradient_flow(
        member,
        task,
        stop=stop(grid[-1]),
        record={"weights": lambda network, task: network.weights[1]},
        record_at=grid,
        record_over=over,
        **settings,
        **TSIT5,
    ).records.values["weights"]
    for value, weights in zip(grid[1:], recorded[1:]):
        ended = jf.gradient_flow(member, task, stop=stop(value), **settings, **TSIT5)
        np.testing.assert_allclose(weights, ended.networks.weights[1], rtol=1e-6, atol=1e-9)
    if over == "rescaled_time":
        np.testing.assert_allclose(recorded[0], 0.1 * member.weights[1], rtol=1e-12)


class After(jf.AbstractCondition):
    """Ends a member after the first step beyond a rescaled time, that no clock tells."""

    end: float
    needs = ("rescaled_time",)

    def gap(self, shown):
        return shown.rescaled_time - self.end


@pytest.mark.parametrize("stop", [jf.LossBelow(0.3), After(12.0)])
def test_times_are_right_where_no_clock_ends_a_member(stop):
    """The clock of a lane then begins again with every step; what is shown does not."""
    network, task = teacher_task()
    settings = {
        "scale": 0.5,
        "coordinates": "cartesian",
        "record": {"loss": jf.loss},
        "record_at": np.linspace(0.0, 10.0, 6),
    }
    member = _member(network)
    found = jf.gradient_flow(member, task, stop=stop, **settings, **TSIT5)
    beside = jf.gradient_flow(
        member, task, stop=[stop, jf.RescaledTime(1e6)], **settings, **TSIT5
    )
    assert found.status == beside.status == type(stop).__name__
    np.testing.assert_allclose(found.rescaled_time, beside.rescaled_time, rtol=1e-6)
    losses = found.records.values["loss"]
    np.testing.assert_allclose(losses, beside.records.values["loss"], rtol=1e-6)
    # The clock of gradient flow in other coordinates is not its time.
    polar = jf.gradient_flow(
        member, task, stop=stop, **settings | {"coordinates": "polar"}, **TSIT5
    )
    np.testing.assert_allclose(losses, polar.records.values["loss"], rtol=1e-4)


def test_recording_one_lane_at_a_time_or_all_together_is_the_same():
    network, task = teacher_task()
    ensemble = jf.sample_ensemble(network, 5, key=jax.random.key(1))

    def run():
        return jf.gradient_flow(
            ensemble,
            task,
            scale=0.3,
            stop=jf.RescaledTime(np.linspace(2.0, 3.0, 5)),
            record={
                # A function of its own every time, for which nothing was compiled before.
                "norm": lambda network, task: jf.norm(network),
                "rank": jf.stable_rank,
            },
            record_at=np.linspace(0, 3, 16),
            **TSIT5,
        ).records.values

    one_lane = run()
    with lanes_all_together():
        together = run()
    for name, values in one_lane.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-13)
    assert np.isnan(one_lane["norm"]).sum() > 0  # members that stopped before the end


@pytest.mark.parametrize(
    "solver",
    [diffrax.Tsit5(), diffrax.Dopri5(), diffrax.Dopri8(), diffrax.Bosh3()],
)
def test_dense_output_ends_with_the_velocity(solver):
    """What `Stationary` relies on: no evaluation of its own."""
    term = diffrax.ODETerm(lambda t, y, args: -jnp.sin(y) * y)
    y0 = jnp.array([1.0, 2.0])
    state = solver.init(term, 0.0, 1e-2, y0, None)
    y1, _, dense, _, _ = solver.step(
        term, jnp.asarray(0.0), jnp.asarray(1e-2), y0, None, state, False
    )
    dense = solver.interpolation_cls(t0=jnp.asarray(0.0), t1=jnp.asarray(1e-2), **dense)
    found = dense.derivative(jnp.asarray(1e-2))
    np.testing.assert_allclose(found, -np.sin(y1) * y1, atol=2e-6)


@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Heun()])
def test_evaluations_are_counted_as_they_are_made(solver):
    count = []

    def vector_field(t, y, args):
        jax.debug.callback(lambda: count.append(1))
        return -jnp.sin(y) * y

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(vector_field),
        solver,
        0.0,
        2.0,
        0.1,
        jnp.array([1.0, 2.0]),
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
    )
    jax.block_until_ready(solution.ys)
    jax.effects_barrier()
    expected = solvers.count_evaluations(solver, chooses_first_step=False)
    steps = int(solution.stats["num_steps"])
    assert len(count) == expected.at_start + expected.per_attempt * steps


def test_lanes_without_a_member_evaluate_nothing():
    """Lanes that take their turns on a CPU: one member costs what one member costs."""
    called = []

    class Counted(eqx.Module):
        w: jax.Array

        def __call__(self, x):
            jax.debug.callback(lambda: called.append(1))
            return jnp.tanh(self.w @ x[:2])

    x = np.zeros((1, 2**17))  # so much data that lanes take their turns
    x[0, :2] = 1.0, 0.5
    task, network = jf.Task(x, np.ones(1)), Counted(jnp.array([0.1, -0.2]))
    flow = jf.gradient_flow(
        network, task, stop=jf.Time(20.0), rtol=1e-8, progress=False, **TSIT5
    )
    jax.effects_barrier()
    # Each evaluation once, one more of outputs for each step, and eight at the start.
    assert flow.stats.num_vjps <= len(called) < 2 * flow.stats.num_vjps
