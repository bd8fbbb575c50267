"""Every solver and every controller of diffrax: right to its tolerance, or refused."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow as jf

ONE = jf.FeedForward((1, 1, 1), jf.LeakyReLU(1.0), key=jax.random.key(0))
NET = eqx.tree_at(lambda net: net.weights, ONE, (jnp.full((1, 1), 0.3),) * 2)
TASK = jf.Task(np.ones((1, 1)), np.ones(1))
END, STEP = 1.0, 0.05


def exact(time=END):
    """`s = w₁ w₂` with equal weights follows `ds/dt = 2 s (1 - s)`, a logistic curve."""
    return 1 / (1 + (1 / 0.3**2 - 1) * np.exp(-2 * time))


def ends_at(stepping, coordinates="cartesian"):
    found = jf.gradient_flow(
        NET,
        TASK,
        stop=jf.Time(END),
        stepping=stepping,
        coordinates=coordinates,
        progress=False,
    )
    assert found.status == "Time"
    return float(found.networks(jnp.ones(1))[0])


def every(base):
    """The public classes of diffrax that have a base and are not abstract."""
    found = [getattr(diffrax, name) for name in dir(diffrax)]
    return {
        each.__name__: each
        for each in found
        if isinstance(each, type)
        and issubclass(each, base)
        and not each.__name__.startswith("Abstract")
    }


SOLVERS = {
    **every(diffrax.AbstractSolver),
    "HalfSolver": lambda: diffrax.HalfSolver(diffrax.Heun()),
    "HalfSolver of an implicit one": lambda: diffrax.HalfSolver(diffrax.ImplicitEuler()),
    "HalfSolver of noise": lambda: diffrax.HalfSolver(diffrax.ShARK()),
    "ALIGN": lambda: diffrax.ALIGN(0.1),
    "QUICSORT": lambda: diffrax.QUICSORT(0.1),
    "ShOULD": lambda: diffrax.ShOULD(0.1),
}
REFUSED = {
    "with noise": "ALIGN EulerHeun GeneralShARK ItoMilstein QUICSORT SEA SPaRK SRA1 ShARK "
    "ShOULD SlowRK StratonovichMilstein",
    "unstable": "LeapfrogMidpoint",
    "of two halves": "SemiImplicitEuler",
}
WHY = {name: why for why, names in REFUSED.items() for name in names.split()}
WHY["HalfSolver of noise"] = "with noise"
FIXED = {"Euler": 1}  # solvers without an error estimate, and their orders


@pytest.mark.parametrize("name", WHY)
def test_solvers_of_other_equations_are_refused_in_one_sentence(name):
    with pytest.raises(
        jf.InputError, match=rf"^solver: found .*{WHY[name]}.*langevin_flow"
    ):
        ends_at(jf.Stepping(SOLVERS[name](), dt0=STEP))


@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in WHY])
def test_a_solver_is_right_to_its_tolerance(name):
    solver = SOLVERS[name]()
    if name in FIXED:
        assert abs(ends_at(jf.Stepping(solver, dt0=STEP)) - exact()) < STEP ** FIXED[name]
        return
    tolerance = 1e-4 if solver.order(diffrax.ODETerm(lambda t, y, args: y)) == 1 else 1e-6
    found = ends_at(jf.Stepping(solver, rtol=tolerance, atol=tolerance))
    assert abs(found - exact()) < 30 * tolerance


@pytest.mark.parametrize(
    ("name", "coordinates"), [("ImplicitEuler", "polar"), ("Kvaerno3", "cartesian")]
)
def test_implicit_steps_of_constant_size_take_the_tolerances_of_the_call(name, coordinates):
    solver, order = SOLVERS[name](), {"ImplicitEuler": 1}.get(name, 3)
    constant = jf.Stepping(
        solver, controller=diffrax.ConstantStepSize(), dt0=STEP, rtol=1e-6, atol=1e-6
    )
    assert abs(ends_at(constant, coordinates) - exact()) < STEP**order


CONTROLLERS = {
    "PIDController": diffrax.PIDController(rtol=1e-6, atol=1e-9),
    "ConstantStepSize": diffrax.ConstantStepSize(),
    "StepTo": diffrax.StepTo(jnp.linspace(0, END, 20)),
    "ClipStepSizeController": diffrax.ClipStepSizeController(
        diffrax.PIDController(rtol=1e-6, atol=1e-9), step_ts=jnp.array([0.5])
    ),
}


def test_no_controller_is_left_out():
    assert set(CONTROLLERS) == set(every(diffrax.AbstractStepSizeController))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_is_right_to_its_tolerance_or_refused(name):
    stepping = jf.Stepping(diffrax.Tsit5(), controller=CONTROLLERS[name], dt0=STEP)
    if name in ("StepTo", "ClipStepSizeController"):
        with pytest.raises(jf.InputError, match=f"^controller: found a {name}"):
            ends_at(stepping)
    else:
        assert abs(ends_at(stepping) - exact()) < 1e-5
