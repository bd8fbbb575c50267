"""Solvers that split a field into an explicit and an implicit part, for one that is whole.

An implicit-explicit method treats `f` in `dy/dt = f(y) + g(y)` explicitly, `g` implicitly.
Nothing in a gradient says which part of it is stiff, so that `g` is all of it and `f` is
zero: what is left is the implicit method, with its order, error estimate and dense output.
"""

from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp

_TWO = diffrax.MultiTerm[tuple[diffrax.AbstractTerm, diffrax.AbstractTerm]]


def innermost(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver inside of those that wrap others, such as `diffrax.HalfSolver`."""
    inner: Any = getattr(solver, "solver", None)
    return innermost(inner) if isinstance(inner, diffrax.AbstractSolver) else solver


def solves_any(solver: diffrax.AbstractSolver) -> bool:
    """Whether a solver takes an ordinary differential equation as it is."""
    return solver.term_structure is diffrax.AbstractTerm


def splits(solver: diffrax.AbstractSolver) -> bool:
    """Whether a solver takes an explicit and an implicit part, as KenCarp's do."""
    is_implicit = isinstance(innermost(solver), diffrax.AbstractImplicitSolver)
    return is_implicit and solver.term_structure == _TWO


class Unsplit(diffrax.AbstractAdaptiveSolver):
    """An implicit-explicit solver that is given the whole field as its implicit part.

    Arguments:
        method: such as `diffrax.KenCarp4`.
    """

    method: Any
    term_structure: ClassVar = diffrax.AbstractTerm

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.method.interpolation_cls

    def order(self, terms):
        return self.method.order(_with_nothing(terms))

    def init(self, terms, t0, t1, y0, args):
        return self.method.init(_with_nothing(terms), t0, t1, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        both = _with_nothing(terms)
        return self.method.step(both, t0, t1, y0, args, solver_state, made_jump)

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


def _with_nothing(terms: diffrax.AbstractTerm) -> diffrax.MultiTerm:
    return diffrax.MultiTerm(diffrax.ODETerm(_nothing), terms)


def _nothing(t, y, args):
    return jax.tree_util.tree_map(jnp.zeros_like, y)
