"""How a flow is integrated: solver, tolerances or controller, and when to give up."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp

from .._arrays import by_precision
from .._checks import check_not_negative, check_positive, check_whole, shown
from ..engine import Problem
from ..errors import InputError
from ..flows import AbstractNetworkFlow
from ..solvers import (
    AbstractStepper,
    as_stepper,
    Automatic,
    FlowController,
    innermost,
    is_solver,
    PredictiveController,
    solves_any,
    splits,
)

MAX_STEPS = 10_000


class Stepping(eqx.Module):
    """How steps are made. What is not given is what the equation's default says.

    Arguments:
        solver: any diffrax solver of ordinary differential equations, or a
            `jaxflow.solvers.AbstractStepper`. `"auto"` is Tsit5 while accuracy limits the
            steps, and stabilized or implicit steps where stability does: on plateaus.
        rtol: the relative tolerance of a step, as for `jaxflow.gradient_flow`.
        atol: the absolute one.
        controller: a diffrax step size controller in place of the tolerances.
        dt0: the first step, in the clock of the coordinates.
        max_steps: attempted steps after which a member gives up; every 20 gradients of a
            stabilized solver, or of `"auto"`, use up a step at least.

    Raises:
        InputError: for values that cannot be used, at once or where it is used.

    Examples:
        >>> import diffrax, jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> constant = jf.Stepping(
        ...     diffrax.Heun(), controller=diffrax.ConstantStepSize(), dt0=0.25
        ... )
        >>> flow = jf.gradient_flow(
        ...     network,
        ...     task,
        ...     stop=jf.RescaledTime(1.0),
        ...     stepping=constant,
        ...     coordinates="cartesian",
        ... )
        >>> flow.stats.num_steps.item()
        4
    """

    solver: diffrax.AbstractSolver | AbstractStepper | str | None = None
    rtol: Any = None
    atol: Any = None
    controller: diffrax.AbstractStepSizeController | None = None
    dt0: Any = None
    max_steps: Any = None

    def __check_init__(self):
        if self.solver is not None:
            _check_solver(self.solver)
        for name, check in _CHECKS.items():
            if getattr(self, name) is not None:
                check(name, getattr(self, name))

    def settled(self, default: "Stepping", dtype: Any) -> "Stepping":
        """With the default for what is open, and checked."""
        named = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        open_ = {name for name, value in named.items() if value is None}
        chosen = Stepping(
            **{n: getattr(default, n) if n in open_ else v for n, v in named.items()}
        )
        solver = _check_fits(_check_solver(chosen.solver))
        return Stepping(
            solver=solver,
            rtol=_check_rtol(chosen.rtol, dtype),
            atol=check_not_negative("atol", chosen.atol),
            controller=_check_controller(chosen.controller, solver, chosen.dt0),
            dt0=None if chosen.dt0 is None else check_positive("dt0", chosen.dt0),
            max_steps=check_whole("max_steps", chosen.max_steps),
        )

    def describe(self) -> dict[str, Any]:
        """What a result says of it."""
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        decides = {"controller": type(self.controller).__name__, "dt0": self.dt0}
        return {
            "solver": type(self.solver).__name__,
            **(tolerances if self.controller is None else decides),
            "max_steps": self.max_steps,
        }


def default_stepping(dtype: Any, *, has_kinks: bool = False) -> Stepping:
    """`"auto"`, with the tolerances that a precision can meet with ease.

    Where the gradient jumps, which `has_kinks` says, steps are of low order: the tolerances
    are those that docs/guides/solvers.md (Kinks) finds best.
    """
    rtol = by_precision(dtype, double=1e-6, single=1e-5)
    atol = by_precision(dtype, double=1e-9, single=1e-7)
    if has_kinks:
        rtol = by_precision(dtype, double=3e-5, single=1e-4)
        atol = 1e-3 * rtol
    return Stepping(solver=Automatic(), rtol=rtol, atol=atol, max_steps=MAX_STEPS)


def _check_rtol(rtol: Any, dtype: Any) -> float:
    rtol, least = check_not_negative("rtol", rtol), 4 * float(jnp.finfo(dtype).eps)
    if not rtol >= least:
        raise InputError(
            "rtol", f"{rtol:g}", f"at least {least:.1e}, which {dtype} can meet"
        )
    return rtol


def _check_solver(solver: Any) -> Any:
    """The solver, also where it has a name."""
    if isinstance(solver, str) and solver == "auto":
        return Automatic()
    if not is_solver(solver):
        expected = 'a diffrax solver, such as Tsit5(), or "auto"'
        raise InputError("solver", shown(solver), expected)
    return solver


def _check_fits(solver: Any) -> Any:
    """Whether it solves ordinary differential equations of any state, forward in time."""
    if not isinstance(solver, diffrax.AbstractSolver) or hasattr(solver, "stepper"):
        return solver
    found = type(solver).__name__
    if isinstance(innermost(solver), diffrax.LeapfrogMidpoint):
        found += ", which is unstable wherever a flow comes to rest"
        raise InputError("solver", found, _SOLVERS)
    if not (solves_any(solver) or splits(solver)):
        is_noisy = isinstance(solver, _OF_NOISE)
        found += ", for equations with noise" if is_noisy else ", for states of two halves"
        raise InputError("solver", found, _SOLVERS)
    return solver


_SOLVERS = (
    "a diffrax solver of ordinary differential equations, such as Tsit5() or Kvaerno5() "
    "(jaxflow.langevin_flow takes those with noise)"
)
_OF_NOISE = (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)


def _check_is_controller(argument: str, controller: Any) -> None:
    if not isinstance(controller, diffrax.AbstractStepSizeController):
        raise InputError(argument, shown(controller), "a diffrax step size controller")


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "rtol": check_not_negative,
    "atol": check_not_negative,
    "controller": _check_is_controller,
    "dt0": check_positive,
    "max_steps": check_whole,
}


def _check_controller(controller: Any, solver: Any, dt0: Any) -> Any:
    """The controller, or `None` where the tolerances are to be made into one."""
    estimates = _estimates_error(solver)
    if controller is None and not estimates:
        controller = diffrax.ConstantStepSize()
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    if not estimates and adaptive:
        raise InputError(
            "controller",
            f"an adaptive one with {type(solver).__name__}, which estimates no error",
            "diffrax.ConstantStepSize(), or another solver",
        )
    if isinstance(controller, diffrax.ConstantStepSize) and dt0 is None:
        expected = "the size of a step, in stepping=Stepping(dt0=…)"
        raise InputError("dt0", "none with steps of constant size", expected)
    if isinstance(controller, (diffrax.ClipStepSizeController, diffrax.StepTo)):
        found = f"a {type(controller).__name__}"
        raise InputError("controller", found, "one without jumps or fixed times")
    return controller


def _estimates_error(solver: Any) -> bool:
    known = getattr(solver, "estimates_error", None)
    return isinstance(solver, diffrax.AbstractAdaptiveSolver) if known is None else known


def problem_of(flow: AbstractNetworkFlow, stepping: Stepping, dtype: Any) -> Problem:
    """What the engine's lanes share, for a flow and a settled `Stepping`."""
    controller = stepping.controller
    # Numbers go in as arrays: Python floats would be constants of the compiled program.
    number = lambda value: jnp.asarray(value, dtype)
    if controller is None:
        # pyright takes the abstract attributes for arguments.
        decides = PredictiveController(  # pyright: ignore
            rtol=number(stepping.rtol), atol=number(stepping.atol), norm=flow.error_norm
        )
        controller = FlowController(decides, flow.view_error)  # pyright: ignore
    solver: Any = stepping.solver
    if isinstance(solver, diffrax.AbstractSolver):
        own = _Tolerances(number(stepping.rtol), number(stepping.atol), flow.error_norm)
        solver = _with_root_tolerances(solver, controller, own)
    return Problem(
        flow=flow,
        stepper=as_stepper(solver, flow),
        controller=controller,
        max_steps=jnp.asarray(stepping.max_steps, jnp.int32),
        first_step=None if stepping.dt0 is None else number(stepping.dt0),
    )


class _Tolerances(NamedTuple):
    rtol: Any
    atol: Any
    norm: Callable


def _with_root_tolerances(solver: Any, controller: Any, own: _Tolerances) -> Any:
    """Implicit solvers whose root finder has no tolerances of its own use the step's, or
    those of the call where steps are of constant size."""
    if isinstance(solver, diffrax.AbstractWrappedSolver):
        inner = _with_root_tolerances(solver.solver, controller, own)
        return eqx.tree_at(lambda s: s.solver, solver, inner)
    if not isinstance(solver, diffrax.AbstractImplicitSolver):
        return solver
    if not isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        controller = own
    finder = solver.root_finder
    unset = [
        name
        for name in ("rtol", "atol", "norm")
        if not (callable(getattr(finder, name)) or eqx.is_array_like(getattr(finder, name)))
    ]
    return eqx.tree_at(
        lambda s: [getattr(s.root_finder, name) for name in unset],
        solver,
        [getattr(controller, name) for name in unset],
    )
