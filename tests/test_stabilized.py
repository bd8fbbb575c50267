"""Stabilized, Rosenbrock and automatic solvers: orders, stability, and what they cost."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zarr
from scipy.integrate import solve_ivp

import jaxflow as jf
from jaxflow import solvers
from jaxflow.solvers.staged._quartic import QuarticInterpolation
from jaxflow.solvers.staged._rkc import rkc2_table
from jaxflow.solvers.staged._rock import rock4_table
from jaxflow.solvers.staged._rosenbrock import rodasp_table
from jaxflow.solvers.staged._stage_table import join
from jaxflow.solvers.staged._turns import Turns

from .problems import modes_task
from .watching import ctrl_c_at, watched_loss_below

KEY = jax.random.key(0)
START = jnp.array([1.0, 0.5, -0.3])
HORIZON = 2.0


def field(t, y, args):
    return jnp.array(
        [-y[0] * y[1] + 0.1 * y[2], y[0] ** 2 - y[1], jnp.sin(y[0]) - y[2] * y[1]]
    )


@pytest.fixture(scope="module")
def reference():
    numpy_field = lambda t, y: np.array(
        [-y[0] * y[1] + 0.1 * y[2], y[0] ** 2 - y[1], np.sin(y[0]) - y[2] * y[1]]
    )
    solved = solve_ivp(
        numpy_field, (0, HORIZON), np.array(START), "DOP853", rtol=1e-13, atol=1e-14
    )
    return solved.y[:, -1]


class RosenbrockOnly(solvers.AbstractStagedSolver):
    """RODASP in every step, however short."""

    drives: Callable | None = eqx.field(static=True, default=None)

    @property
    def table(self):
        return join([rkc2_table(), rodasp_table()])

    def order(self, terms):
        return 4

    def init(self, terms, t0, t1, y0, args):
        return self._cheap(super().init(terms, t0, t1, y0, args))

    def settle(self, t0, t1, y0, state, accepted):
        return self._cheap(super().settle(t0, t1, y0, state, accepted))

    def _cheap(self, state):
        return state._replace(rosenbrock_cost=jnp.asarray(-1.0, state.slope.dtype))


def _solve(solver, num_steps):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        HORIZON,
        HORIZON / num_steps,
        START,
        stepsize_controller=diffrax.ConstantStepSize(),
        saveat=diffrax.SaveAt(t1=True, solver_state=True),
        max_steps=1000,
    )


@pytest.mark.parametrize(
    ("solver", "order", "steps"),
    [
        (solvers.RKC2(), 2, (40, 160)),
        (solvers.ROCK4(), 4, (20, 80)),
        (RosenbrockOnly(), 4, (10, 40)),
    ],
    ids=["RKC2", "ROCK4", "RODASP"],
)
def test_order_of_convergence(solver, order, steps, reference):
    errors = [
        np.linalg.norm(np.asarray(_solve(solver, num).ys[-1]) - reference) for num in steps
    ]
    slope = np.log(errors[0] / errors[1]) / np.log(steps[1] / steps[0])
    assert slope == pytest.approx(order, abs=0.25)
    assert errors[1] < 1e-4


def _growth(table, row, z):
    """`y_1/y_0` of one step for `y' = λ y`, `z = h λ`, and the error, from the table."""
    recurrence = table.recurrence[table.first[row] :][: table.length[row]]
    points = [np.ones_like(z)]
    for j, (alpha, mu, nu, kappa, gamma) in enumerate(recurrence):
        older = points[-2] if j else 0.0
        rest = alpha + mu * points[-1] + nu * older if j else points[0]
        points.append(rest + z * (kappa * points[-1] + gamma))
    slopes = []
    for i in range(table.last[row] + 1):
        stage = points[-1] + sum(
            (table.tableau[row, i, l] * k for l, k in enumerate(slopes)), np.zeros_like(z)
        )
        slopes.append(z * stage)
    return stage


@pytest.mark.parametrize("make", [rkc2_table, rock4_table])
def test_stable_on_the_whole_interval(make):
    table = make()
    rows = range(len(table.interval)) if make is rock4_table else range(0, 100, 7)
    for row in rows:
        assert table.interval[row] > 0
        z = -np.linspace(0, table.interval[row], 5000)
        growth = _growth(table, row, z)
        assert np.abs(growth).max() <= 1 + 1e-9
        # Damped wherever something is stiff, and consistent where nothing is.
        assert np.abs(growth[np.abs(z) > 6]).max(initial=0.0) < 0.97
        small = np.array([-1e-3])
        assert _growth(table, row, small)[0] == pytest.approx(np.exp(-1e-3), abs=1e-9)
    assert np.all(np.diff(table.interval) > 0)


def test_interval_of_rkc_is_that_of_the_theory():
    table = rkc2_table()
    stages = table.length  # as many evaluations: the last gives the slope at the end
    np.testing.assert_allclose(
        table.interval, 2 / 3 * (stages**2 - 1) * (1 - 2 / 15 * 2 / 13), rtol=1e-12
    )
    # One percent beyond it the method is not stable any more.
    long = 60
    beyond = -np.linspace(1.0, 1.03, 200) * table.interval[long]
    assert np.abs(_growth(table, long, beyond)).max() > 1


def test_spectral_radius_of_a_symmetric_field():
    matrix = np.random.default_rng(0).standard_normal((30, 30))
    matrix = jnp.asarray(-(matrix @ matrix.T))
    exact = float(np.linalg.eigvalsh(matrix)[0])
    solver = solvers.RKC2()
    solved = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: matrix @ y),
        solver,
        0.0,
        1.0,
        None,
        jnp.ones(30),
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
        saveat=diffrax.SaveAt(t1=True, solver_state=True),
    )
    state = solved.solver_state
    assert 1.0 <= -state.radius / exact <= 1.2
    work = state.work
    assert 0 < int(work.num_power_iterations) < 0.5 * int(work.num_evaluations)
    expected = jax.scipy.linalg.expm(matrix) @ jnp.ones(30)
    np.testing.assert_allclose(solved.ys[-1], expected, atol=3e-4)


def test_dense_output_contains_that_of_tsit5():
    solver, term = diffrax.Tsit5(), diffrax.ODETerm(field)
    step = 0.3
    end, _, dense, _, _ = solver.step(
        term, 0.0, step, START, None, solver.init(term, 0.0, step, START, None), False
    )
    theirs = solver.interpolation_cls(t0=0.0, t1=step, **dense)
    automatic = solvers.Automatic()
    state = automatic.init(term, 0.0, step, START, None)
    ours_end, _, info, _, _ = automatic.step(term, 0.0, step, START, None, state, False)
    ours = QuarticInterpolation(t0=0.0, t1=step, **info)
    np.testing.assert_allclose(ours_end, end, rtol=1e-13)
    for share in (0.0, 0.2, 0.55, 0.9, 1.0):
        # Their polynomial has coefficients of 1e-16 accuracy and meets the end to 1e-12.
        np.testing.assert_allclose(
            ours.evaluate(share * step), theirs.evaluate(share * step), rtol=1e-10
        )
        np.testing.assert_allclose(
            ours.derivative(share * step), theirs.derivative(share * step), rtol=1e-9
        )


LINEAR = jf.FeedForward((6, 6, 6, 6), jf.LeakyReLU(1.0), key=KEY)
UNTIL_TWO_MODES = jf.LossBelow(0.6)


def _plateau(scale, stop=UNTIL_TWO_MODES, **settings):
    ensemble = jf.sample_ensemble(LINEAR, 4, key=jax.random.key(1))
    return jf.gradient_flow(ensemble, modes_task(), scale=scale, stop=stop, **settings)


@pytest.fixture(scope="module")
def plateaus():
    settings = {"rtol": 1e-7, "atol": 1e-10, "solver": "auto"}
    return {scale: _plateau(scale, **settings) for scale in (1e-2, 1e-4, 1e-6)}


def test_a_plateau_costs_little_whatever_its_length(plateaus):
    for solution in plateaus.values():
        assert set(solution.status.tolist()) == {"LossBelow"}
        assert np.all(solution.stats.num_stabilized > 0)
        assert np.all(solution.stats.num_power_iterations < 0.05 * solution.stats.num_vjps)
    cost = {scale: solution.stats.num_vjps for scale, solution in plateaus.items()}
    tsit5 = _plateau(1e-2, rtol=1e-7, atol=1e-10).stats.num_vjps
    # Tsit5's cost grows like 1/δ: 1.9e5 to 5.8e5 at 1e-4, as measured.
    assert np.all(cost[1e-4] < 0.1 * 100 * tsit5)
    assert np.all(cost[1e-6] < 3 * cost[1e-4])


def test_a_plateau_ends_when_it_should(plateaus):
    exact = _plateau(
        1e-2, rtol=1e-11, atol=1e-14, solver=diffrax.Dopri8(), max_steps=50_000
    )
    # Rounding decides how many steps a plateau takes: 1.1e-4 has been seen.
    np.testing.assert_allclose(plateaus[1e-2].rescaled_time, exact.rescaled_time, rtol=2e-4)
    # In the rescaled time the end depends on δ by a share of order δ alone.
    np.testing.assert_allclose(plateaus[1e-6].rescaled_time, exact.rescaled_time, rtol=2e-2)


def test_the_balance_of_layers_survives_a_plateau(plateaus):
    ensemble = jf.sample_ensemble(LINEAR, 4, key=jax.random.key(1))
    solution = plateaus[1e-4]
    for first, second in ((0, 1), (1, 2)):

        def balance(weights, scale, first=first, second=second):
            a, b = weights[first], weights[second]
            rows = jnp.einsum("mij,mkj->mik", a, a)
            columns = jnp.einsum("mji,mjk->mik", b, b)
            return scale**2 * np.asarray(rows - columns)

        before = balance(ensemble.weights, 1e-4)
        after = balance(solution.networks.weights, 1.0)
        assert np.abs(after - before).max() < 1e-5


def test_automatic_takes_the_steps_of_tsit5_where_nothing_is_stiff():
    network = jf.FeedForward((4, 8, 8, 1), jf.LeakyReLU(0.5, 2), key=KEY)
    x = jf.data.sphere_points(10, 4, key=KEY)
    task = jf.data.teacher_student(network, x, target_norm=1.0)
    ensemble = jf.sample_ensemble(network, 8, key=jax.random.key(1))
    runs = [
        jf.gradient_flow(
            ensemble, task, scale=1e-6, stop=[jf.LossBelow(0.4)], solver=solver
        )
        for solver in (diffrax.Tsit5(), "auto")
    ]
    plain, automatic = runs
    explicit = automatic.stats.num_stabilized == 0
    assert np.sum(explicit) >= 5
    for name in ("num_steps", "num_vjps"):
        ours, theirs = getattr(automatic.stats, name), getattr(plain.stats, name)
        np.testing.assert_array_equal(ours[explicit], theirs[explicit])
        assert np.all(ours[~explicit] < 1.1 * theirs[~explicit])
    np.testing.assert_allclose(automatic.log_time, plain.log_time, rtol=1e-6)
    assert plain.stats.num_stabilized is None


def test_members_that_want_different_stages_do_not_disturb_each_other(plateaus):
    scales = np.array([1e-2, 1e-4, 1e-6, 1e-4])
    together = _plateau(scales, rtol=1e-7, atol=1e-10, solver="auto")
    for i, scale in enumerate(scales):
        alone = plateaus[scale]
        assert together.stats.num_vjps[i] == pytest.approx(
            alone.stats.num_vjps[i], rel=0.02
        )
        assert together.rescaled_time[i] == pytest.approx(alone.rescaled_time[i], rel=1e-5)


@pytest.mark.parametrize(("num_stiff", "first"), [(0, None), (1, 8), (5, 8), (6, 0)])
def test_lanes_wait_for_others_of_their_kind_and_not_for_long(num_stiff, first):
    """Two of 18 lanes are done, and do not count."""
    lanes = jnp.arange(18)
    live = (lanes > 0) & (lanes < 17)
    wants = (lanes >= 17 - num_stiff) | (lanes == 0)

    def turn(waited):
        one = lambda live, *given: Turns(live, "lanes").enough_want(*given)
        return jax.vmap(one, axis_name="lanes")(live, wants, waited)

    made = []
    for attempt in range(12):
        turns = turn(jnp.full(18, attempt))
        assert len(set(turns.tolist())) == 1
        made.append(bool(turns[0]))
    assert made == [first is not None and attempt >= first for attempt in range(12)]
    assert bool(Turns(None, None).enough_want(jnp.asarray(True), jnp.asarray(0)))


def test_stored_and_resumed_within_a_step(tmp_path):
    """A run that breaks off within a step ends with the same numbers."""
    settings = {"rtol": 1e-7, "atol": 1e-10, "solver": "auto"}
    settings["stop"] = watched_loss_below(ctrl_c_at(look=60))(UNTIL_TWO_MODES.value)
    store = tmp_path / "run.zarr"
    short_calls = jf.Schedule(width=8, steps_per_call=5)
    with pytest.raises(KeyboardInterrupt):
        _plateau(1e-3, **settings, schedule=short_calls, store=store)
    status = zarr.open_array(store / "status", mode="r")
    assert np.all(status[:] == 0)  # nobody is done
    schedule = jf.Schedule(width=8, steps_per_call=5, checkpoint_seconds=1e-3)
    whole = _plateau(1e-3, **settings, schedule=schedule)
    resumed = _plateau(1e-3, **settings, schedule=schedule, store=store)
    for name in ("num_steps", "num_vjps", "num_stabilized", "num_power_iterations"):
        np.testing.assert_array_equal(
            getattr(resumed.stats, name), getattr(whole.stats, name)
        )
    np.testing.assert_allclose(resumed.log_time, whole.log_time, rtol=1e-12)
    assert "stabilized in all" in repr(resumed)
    assert "num_stabilized" in resumed.dataset


def test_single_precision():
    network = jf.FeedForward((6, 6, 6, 6), jf.LeakyReLU(1.0), key=KEY, dtype=jnp.float32)
    ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(1))
    solution = jf.gradient_flow(
        ensemble,
        modes_task(),
        scale=1e-3,
        stop=UNTIL_TWO_MODES,
        solver="auto",
        rtol=1e-4,
        atol=1e-6,
    )
    assert solution.log_norm.dtype == np.float32
    assert set(solution.status.tolist()) == {"LossBelow"}
    assert np.all(solution.stats.num_stabilized > 0)


@pytest.mark.parametrize("solver", [solvers.RKC2(), solvers.ROCK4()])
def test_other_coordinates_and_solvers_of_ones_own_choice(solver):
    ensemble = jf.sample_ensemble(LINEAR, 2, key=jax.random.key(1))
    runs = [
        jf.gradient_flow(
            ensemble,
            modes_task(),
            scale=0.1,
            stop=jf.RescaledTime(20.0),
            coordinates="cartesian",
            rtol=1e-6,
            atol=1e-8,
            solver=chosen,
        )
        for chosen in (diffrax.Dopri8(), solver)
    ]
    np.testing.assert_allclose(runs[1].loss, runs[0].loss, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        runs[1].networks.weights[0], runs[0].networks.weights[0], atol=1e-4
    )


def test_implicit_steps_with_a_symmetric_jacobian():
    network = jf.FeedForward((3, 3, 3), jf.LeakyReLU(1.0), key=KEY)
    ensemble = jf.sample_ensemble(network, 2, key=jax.random.key(1))
    task = modes_task((2.0, 0.5), 3)
    runs = [
        jf.gradient_flow(
            ensemble,
            task,
            scale=1e-2,
            stop=jf.RescaledTime(20.0),
            solver=solver,
            coordinates="cartesian",
            rtol=1e-6,
            atol=1e-9,
        )
        for solver in (diffrax.Kvaerno5(), solvers.kvaerno5())
    ]
    general, symmetric = runs
    np.testing.assert_array_equal(symmetric.stats.num_steps, general.stats.num_steps)
    np.testing.assert_allclose(symmetric.loss, general.loss, rtol=1e-6, atol=1e-12)
    tsit5 = jf.gradient_flow(
        ensemble, task, scale=1e-2, stop=jf.RescaledTime(20.0), coordinates="cartesian"
    )
    np.testing.assert_allclose(
        symmetric.networks.weights[0], tsit5.networks.weights[0], atol=1e-4
    )


def test_a_member_that_sits_at_a_saddle_for_ever_is_told():
    """Weights of rank one stay so: the second mode is never learned."""
    network = jf.FeedForward((3, 3, 3), jf.LeakyReLU(1.0), key=KEY)
    top = jnp.zeros((3, 3)).at[0, 0].set(0.5)
    ensemble = eqx.tree_at(lambda n: n.weights, network, (top[None], top[None]))
    task = jf.Task(np.eye(3), np.diag([2.0, 1.0, 0.0]))
    with pytest.warns(jf.RunWarning, match="A step of many gradients"):
        solution = jf.gradient_flow(
            ensemble, task, stop=jf.LossBelow(0.1), max_steps=500, ensemble=True
        )
    assert solution.status.tolist() == ["max_steps"]
    assert solution.loss[0] == pytest.approx(0.5, abs=1e-8)
    # It has long steps there, each of which costs a hundred gradients and more.
    assert solution.stats.num_steps[0] < 500
    assert 20 * 500 <= solution.stats.num_vjps[0] < 20 * 500 + 3000


@pytest.mark.parametrize("bad", ["Tsit5", "automatic", 5])
def test_names_that_are_no_solver(bad, as_users_have_it):
    ensemble = jf.sample_ensemble(LINEAR, 2, key=KEY)
    with pytest.raises(jf.InputError, match="auto") as caught:
        jf.gradient_flow(ensemble, modes_task(), stop=UNTIL_TWO_MODES, solver=bad)
    assert caught.value.argument == "solver"
