"""Explicit Runge–Kutta steps with their stages written out one after another.

With slopes `k_i = f(t + c_i h, y + h Σ_{j<i} a_ij k_j)`:

    y' = y + h Σ_i b_i k_i,    error = h Σ_i e_i k_i.

diffrax's own explicit solvers loop over their stages, so that a vector field is compiled
once, and multiply a whole buffer of slopes by a row of the tableau in every stage. Written
out, XLA fuses each sum with what comes before and after it, zeros in the tableau cost
nothing, and the last slope is kept as the next step's first without a flag that says
whether it is there: in a batch such a flag costs every member an evaluation whenever one
of them is at its first step.
"""

from typing import Any, cast, ClassVar

import diffrax
import jax
import jax.numpy as jnp

_MOST_STAGES = 8
"""Longer methods compile slowly when written out: each stage is a copy of the field. Eight
takes in diffrax's methods of up to order five (seven stages) and leaves out Dopri8
(fourteen)."""


def write_out(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The same method with its stages written out, where that is known to be faster.

    Steps of the two agree to rounding. Solvers that are not explicit Runge–Kutta methods,
    and long ones, are given back as they are, those that loop with the cheapest loop.
    """
    if not isinstance(solver, diffrax.AbstractERK):
        return solver
    tableau: Any = getattr(solver, "tableau", None)  # those that wrap one have none
    if not isinstance(tableau, diffrax.ButcherTableau):
        return solver
    if tableau.num_stages <= _MOST_STAGES:
        return WrittenOut(solver)  # pyright: ignore[reportCallIssue]
    if solver.scan_kind is None:
        return type(solver)(scan_kind="lax")  # no backpropagation through the steps
    return solver


class WrittenOut(diffrax.AbstractAdaptiveSolver):
    """The method of an explicit diffrax solver; its state is the slope at the start.

    Arguments:
        method: a `diffrax.AbstractERK`.
    """

    method: diffrax.AbstractERK
    term_structure: ClassVar = diffrax.AbstractTerm

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.method.interpolation_cls

    @property
    def tableau(self) -> diffrax.ButcherTableau:
        """The coefficients of the method."""
        return cast(diffrax.ButcherTableau, self.method.tableau)

    def order(self, terms):
        return self.method.order(terms)

    def init(self, terms, t0, t1, y0, args):
        return terms.vf(t0, y0, args) if self.tableau.fsal else None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        del made_jump
        tableau = self.tableau
        step = t1 - t0
        # A function of its own is traced once and not for every stage; XLA inlines it.
        field = jax.jit(lambda t, y: terms.vf(t, y, args))
        slope = field(t0, y0) if solver_state is None else solver_state
        increments = [_times(step, slope)]
        stage = y0
        for c, row in zip(tableau.c, tableau.a_lower):
            stage = _plus(y0, _combine(row, increments))
            slope = field(t0 + float(c) * step, stage)
            increments.append(_times(step, slope))
        end = stage if tableau.ssal else _plus(y0, _combine(tableau.b_sol, increments))
        error = _combine(tableau.b_error, increments)
        stacked = jax.tree_util.tree_map(lambda *k: jnp.stack(k), *increments)
        dense_info = {"y0": y0, "y1": end, "k": stacked}
        state = slope if tableau.fsal else None
        return end, error, dense_info, state, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


def _times(number, tree):
    return jax.tree_util.tree_map(lambda leaf: number * leaf, tree)


def _plus(first, second):
    return jax.tree_util.tree_map(jnp.add, first, second)


def _combine(coefficients, trees):
    """`Σ_i c_i x_i` over the coefficients that are not zero."""

    def leaves(*xs):
        terms = [float(c) * x for c, x in zip(coefficients, xs) if c != 0]
        return sum(terms[1:], start=terms[0])

    return jax.tree_util.tree_map(leaves, *trees)
