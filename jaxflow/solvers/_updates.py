"""The updates of an optax optimizer: one update is one step of the clock."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .._arrays import select
from ._stepper import AbstractStepper, Step, Work


class Updates(AbstractStepper):
    """Moves a vector of parameters by `optimizer.update`, with the field as `-gradient`.

    `optax.sgd(η)` on gradient flow is Euler's method with step `η`. The state of the
    optimizer is the state of the stepper.

    **Arguments:**

    - `optimizer`: any `optax.GradientTransformation`.
    - `parameters`: puts a vector into the pytree of parameters that the optimizer sees.
    """

    optimizer: optax.GradientTransformation = eqx.field(static=True)
    parameters: Callable[[jax.Array], PyTree]
    divisible = False  # an update is made or not made
    estimates_error = False
    evaluations_per_attempt = 1
    is_light = False

    def init(self, terms, t0, t1, y0, args):
        return self.optimizer.init(self.parameters(y0))

    def attempt(self, terms, t0, t1, y0, args, state):
        gradient = -terms.vf(t0, y0, args)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and integers
            updates, following = self.optimizer.update(
                self.parameters(gradient), state, self.parameters(y0)
            )
        y1 = y0 + ravel_pytree(updates)[0].astype(y0.dtype)
        return Step(
            candidate=y1,
            error=None,
            error_order=1,
            dense_info={"y0": y0, "y1": y1},
            result=diffrax.RESULTS.successful,
            ready=jnp.asarray(True),
            settle=lambda accepted: select(accepted, following, state),
        )

    def interpolation(self, t0, t1, dense_info):
        return diffrax.LocalLinearInterpolation(t0=t0, t1=t1, **dense_info)

    def longest_step(self, state):
        return None

    def cost(self, state, num_attempts):
        return Work(num_attempts)

    def error_order(self, terms):
        return 1
