"""The solver that chooses between an explicit and a stabilized method by itself."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ..._checks import shown
from ...errors import InputError
from .._kinks import Sides
from .._stepper import AbstractStepper
from ._automatic_steps import AutomaticSteps
from ._quartic import QuarticInterpolation


class Automatic(diffrax.AbstractAdaptiveSolver):
    """An explicit method, and a stabilized one wherever stability limits the steps.

    The explicit method is Tsit5, or where the vector field has kinks Bosh3, with a looser
    tolerance for steps that slide, as `jaxflow.sliding_solver` makes them. `h ρ` is seen in
    the difference of its last two stages, at no cost. When that stays near the limit of
    stability, RKC2 or a Rosenbrock method takes over, and gives back when `h ρ` has become
    small.

    `gradient_flow` and its siblings use it where no solver is given. What it is told of a
    flow, they find out.

    Arguments:
        drives: which components of a state others depend on; all if `None`.
        sides: a function of (state, args) that tells for everything that switches, such
            as a neuron on a sample, on which side of its kink it is; `None` where nothing
            does.

    Source:
        E. Hairer and G. Wanner, Solving Ordinary Differential Equations II, section IV.2
        (stiffness detection).

    Examples:
        >>> import diffrax, jax.numpy as jnp, jaxflow as jf
        >>> field = diffrax.ODETerm(lambda t, y, rates: -rates * y)
        >>> solution = diffrax.diffeqsolve(
        ...     field,
        ...     jf.solvers.Automatic(),
        ...     0.0,
        ...     1.0,
        ...     None,
        ...     jnp.ones(2),
        ...     jnp.array([1.0, 1e4]),
        ...     stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-7),
        ... )
        >>> bool(abs(solution.ys[-1, 0] - jnp.exp(-1)) < 1e-4)
        True
    """

    drives: Callable[[Any], Any] | None = eqx.field(static=True, default=None)
    sides: Sides | None = None
    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar = QuarticInterpolation

    def __check_init__(self):
        for name in ("drives", "sides"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise InputError(name, shown(value), "a function of a state, or None")

    def stepper(self, flow: Any) -> AbstractStepper:
        """The stepper for a flow, which tells what drives it and where its kinks are."""
        return AutomaticSteps(flow.drives, flow.sides, flow.weights)  # pyright: ignore

    def order(self, terms):
        return self._steps.explicit.order(terms)

    def error_order(self, terms):
        return self._steps.error_order(terms)

    def init(self, terms, t0, t1, y0, args):
        return self._steps.init(terms, jnp.asarray(t0), jnp.asarray(t1), y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        del made_jump
        start, end = jnp.asarray(t0), jnp.asarray(t1)

        def attempt(state):
            made = self._steps.attempt(terms, start, end, y0, args, state)
            result = made.candidate, made.error, made.dense_info
            return made.settle(jnp.asarray(True)), made.ready, result

        def go_on(carry):
            return attempt(carry[0])

        state, _, (candidate, error, dense_info) = jax.lax.while_loop(
            lambda carry: ~carry[1], go_on, attempt(solver_state)
        )
        return candidate, error, dense_info, state, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

    @property
    def _steps(self) -> "AutomaticSteps":
        return AutomaticSteps(self.drives, self.sides)  # pyright: ignore[reportCallIssue]
