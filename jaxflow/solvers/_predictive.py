"""A step-size controller that expects steps to go on changing as they did.

Next to a blow-up or an escape the largest admissible step falls by a constant factor from
step to step. diffrax's `PIDController` shrinks a step only when it has been rejected: there
it rejects every other step. The predictive controller carries on the last change of the
step instead. With steps `h_n`, scaled errors `e_n` and an error of order `k`:

    h_{n+1} = (h_n / h_{n-1}) (θᵏ / e_n)^(k_E/k) (e_{n-1} / e_n)^(k_R/k) h_n,

`θ` the safety factor, and `k_E = 0.4, k_R = 0.7`, known as PC47.

Source:
    K. Gustafsson, Control-theoretic techniques for stepsize selection in implicit
    Runge–Kutta methods, ACM TOMS 20 (1994) 496–517; G. Söderlind and L. Wang, Adaptive
    time-stepping and computational stability, J. Comput. Appl. Math. 185 (2006) 225–243.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_ERROR_GAIN, _RATE_GAIN = 0.4, 0.7
"""`k_E` and `k_R` of PC47, as in the papers named above. On the way to an escape a tenth of
the attempts is rejected with them (docs/theory.md, Error control)."""

_SAFETY, _LEAST_FACTOR, _GREATEST_FACTOR = 0.9, 0.2, 10.0
"""`θ`, and by what a step may shrink or grow at once: those of `diffrax.PIDController`."""


class PredictiveState(NamedTuple):
    step: Float[Array, ""]  # the last accepted; zero if none was
    error: Float[Array, ""]  # of that step
    rejections: Int[Array, ""]  # since then


class PredictiveController(diffrax.AbstractAdaptiveStepSizeController):
    """Predictive step-size control, for use wherever a `diffrax.PIDController` is.

    A step is accepted if `norm(error / (atol + rtol |y|)) < 1`.

    Arguments:
        rtol: the relative tolerance.
        atol: the absolute one.
        norm: the size of a scaled error, a function of a pytree.
    """

    rtol: Any
    atol: Any
    norm: Callable = eqx.field(static=True)

    def wrap(self, direction):
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        pid = diffrax.PIDController(rtol=self.rtol, atol=self.atol, norm=self.norm)
        t1, _ = pid.init(terms, t0, t1, y0, dt0, args, func, error_order)
        one = jnp.ones((), jnp.result_type(t1))
        return t1, PredictiveState(0 * one, one, jnp.zeros((), jnp.int32))

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        del args
        if y_error is None:
            raise ValueError("a step-size controller needs a solver that estimates errors")
        last: PredictiveState = controller_state
        step = jnp.asarray(t1 - t0)
        error = jnp.asarray(self._scaled_error(y0, y1_candidate, y_error))
        error = error.astype(step.dtype)
        kept = error < 1
        # An error so small that the step may grow by the greatest factor may be rounding.
        # It is replaced by the largest such error, or else runs that should take the same
        # steps would differ.
        error = jnp.maximum(error, (_SAFETY / _GREATEST_FACTOR) ** error_order)
        standard = _SAFETY * error ** (-1 / error_order)
        predicted = (
            (step / jnp.where(last.step > 0, last.step, step))
            * standard**_ERROR_GAIN
            * (last.error / error) ** (_RATE_GAIN / error_order)
        )
        # After one rejection the prediction was a little too long: the next step is
        # predicted from the shorter one, since growing at once would be rejected again.
        # Two in a row mean an obstacle, such as a kink of the vector field, which the
        # accepted step has passed: nothing is predicted from it.
        predicts = (last.step > 0) & (last.rejections < 2)
        factor = jnp.where(
            kept,
            jnp.clip(
                jnp.where(predicts, predicted, standard), _LEAST_FACTOR, _GREATEST_FACTOR
            ),
            jnp.clip(standard, _LEAST_FACTOR, _SAFETY),
        )
        start = jnp.where(kept, t1, t0)
        state = PredictiveState(
            step=jnp.where(kept, step, last.step),
            error=jnp.where(kept, error, last.error),
            rejections=jnp.where(kept, 0, last.rejections + 1),
        )
        end = start + factor * step
        return kept, start, end, False, state, diffrax.RESULTS.successful

    def _scaled_error(self, before, after, error):
        def scaled(y0, y1, e):
            # Where a step ends in NaN or infinity only its start is used.
            y1 = jnp.where(jnp.isfinite(y1).all(), y1, y0)
            return e / (self.atol + self.rtol * jnp.maximum(jnp.abs(y0), jnp.abs(y1)))

        size = self.norm(jax.tree_util.tree_map(scaled, before, after, error))
        # NaN counts as an infinite error, or else the next step would be NaN as well.
        return jnp.where(jnp.isnan(size), jnp.inf, size)
