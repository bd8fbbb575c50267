"""An optax optimizer as a diffrax solver: one update is one step of the clock."""

from typing import cast, ClassVar

import diffrax
import equinox as eqx
import jax
import optax

from ..networks import flatten, unflattener


class OptimizerSteps(diffrax.AbstractSolver):
    """Moves the parameters by `optimizer.update`, with the vector field as `-gradient`.

    `optax.sgd(η)` on gradient flow is Euler's method with step `η`. The state of the
    optimizer is the state of the solver.

    **Arguments:**

    - `optimizer`: any `optax.GradientTransformation`.
    - `network`: any member; the optimizer sees parameters in its structure.
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    network: eqx.Module
    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def init(self, terms, t0, t1, y0, args):
        return self.optimizer.init(self._parameters(y0))

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        del made_jump
        gradient = -terms.vf(t0, y0, args)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and integers
            updates, solver_state = self.optimizer.update(
                self._parameters(gradient), solver_state, self._parameters(y0)
            )
        y1 = y0 + flatten(cast(eqx.Module, updates)).astype(y0.dtype)
        dense_info = {"y0": y0, "y1": y1}
        return y1, None, dense_info, solver_state, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

    def _parameters(self, vector):
        return eqx.filter(unflattener(self.network)(vector), eqx.is_inexact_array)
