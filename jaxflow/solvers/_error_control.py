"""Step-size control that lets a flow say how errors in its coordinates are measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx


class ErrorView(NamedTuple):
    """What a controller is shown of a step: states before and after, and the error."""

    before: Any
    after: Any
    error: Any


class Tolerances(NamedTuple):
    """An error of `atol + rtol |y|` is accepted."""

    rtol: Any
    atol: Any


class FlowController(diffrax.AbstractAdaptiveStepSizeController):
    """A step-size controller that sees errors as the flow measures them.

    The inner controller measures an error against `atol + rtol |y|`. That is not always
    what the coordinates mean: the error of a logarithm is a relative error already. The
    flow's `view_error` puts in place of states and error what should be compared.

    Arguments:
        inner: the controller that decides, such as a `PredictiveController`.
        view_error: a function of (`ErrorView`, `Tolerances`) that gives an `ErrorView`.
    """

    inner: diffrax.AbstractAdaptiveStepSizeController
    view_error: Callable[[ErrorView, Tolerances], ErrorView] = eqx.field(static=True)

    @property
    def rtol(self):
        return self.inner.rtol

    @property
    def atol(self):
        return self.inner.atol

    @property
    def norm(self) -> Callable:
        return self.inner.norm

    def wrap(self, direction):
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        return self.inner.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        tolerances = Tolerances(self.rtol, self.atol)
        view = self.view_error(ErrorView(y0, y1_candidate, y_error), tolerances)
        return self.inner.adapt_step_size(
            t0, t1, view.before, view.after, args, view.error, error_order, controller_state
        )
