"""The updates of an optax optimizer: one update is one step of the clock."""

import inspect
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .._arrays import is_key, select
from ._rates import Optimizer
from ._stepper import AbstractStepper, Step, Work


class Updates(AbstractStepper):
    """Moves a vector of parameters by `optimizer.update`, with the field as `-gradient`.

    `optax.sgd(η)` on gradient flow is Euler's method with step `η`. The state of the
    optimizer is the state of the stepper. An optimizer that takes `value`, `grad` or
    `value_fn` gets them from terms that have a `loss`.

    Arguments:
        optimizer: any `optax.GradientTransformation`.
        parameters: puts a vector into the pytree of parameters that the optimizer sees.
    """

    optimizer: Optimizer
    parameters: Callable[[jax.Array], PyTree]
    divisible = False  # an update is made or not made
    estimates_error = False
    evaluations_per_attempt = 1
    is_light = False

    def __init__(
        self,
        optimizer: optax.GradientTransformation,
        parameters: Callable[[jax.Array], PyTree],
    ):
        self.optimizer = Optimizer(optimizer)
        self.parameters = parameters

    def init(self, terms, t0, t1, y0, args):
        return jax.tree_util.tree_map(_as_numbers, self._begun(y0, _own(args)))

    def _begun(self, vector, own):
        with jax.numpy_dtype_promotion("standard"):
            return self.optimizer.whole(vector.dtype, own).init(self.parameters(vector))

    def _kinds(self, vector, own):
        """What makes keys of numbers again, leaf by leaf of the optimizer's state."""
        found = []

        def look(vector, own):
            found.append(jax.tree_util.tree_map(_kind, self._begun(vector, own)))

        eqx.filter_eval_shape(look, vector, own)
        return found[0]

    def attempt(self, terms, t0, t1, y0, args, state):
        gradient = -terms.vf(t0, y0, args)
        gradients = self.parameters(gradient)
        optimizer = optax.with_extra_args_support(
            self.optimizer.whole(y0.dtype, _own(args))
        )
        kinds = self._kinds(y0, _own(args))
        known = _taken_by(optimizer.update, _of_loss(terms, t0, y0, args, gradients))
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and integers
            updates, following = optimizer.update(
                gradients,
                jax.tree_util.tree_map(_as_it_was, state, kinds),
                self.parameters(y0),
                **known,
            )
        following = jax.tree_util.tree_map(
            lambda new, old: _as_numbers(new).astype(old.dtype), following, state
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


def _of_loss(terms, clock, vector, args, gradients) -> dict[str, Any]:
    """What optimizers may ask for beside gradients, by the names that optax has for it.

    What an optimizer does not read is not computed.
    """
    loss = getattr(terms, "loss", None)
    if loss is None:
        return {}

    def value_of(parameters, obj_fn=None, grad_fn=None):
        # Line searches hand on to it what they do not know themselves.
        return loss(clock, ravel_pytree(parameters)[0], args)

    def gradient_of(parameters, *step):
        return jax.grad(value_of)(parameters)

    return {
        "value": loss(clock, vector, args),
        "grad": gradients,
        "value_fn": value_of,
        "obj_fn": value_of,  # for estimates of the Hessian
        "grad_fn": gradient_of,  # for steps within an update
    }


def _own(args) -> tuple[Any, ...]:
    """The rates that a member brings along, where each has its own."""
    return getattr(args, "rates", ())


def _taken_by(update: Callable, known: dict[str, Any]) -> dict[str, Any]:
    """Those arguments that a function takes."""
    parameters = inspect.signature(update).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return known
    return {name: value for name, value in known.items() if name in parameters}


def _as_numbers(leaf):
    """An array that a lane can carry and a store can hold; random keys are neither."""
    return jax.random.key_data(leaf) if is_key(leaf) else jnp.asarray(leaf)


def _kind(leaf) -> str:
    """How the numbers of a random key are made into one; no word for other arrays."""
    return str(jax.random.key_impl(leaf)) if is_key(leaf) else ""


def _as_it_was(leaf, kind: str):
    """A leaf of an optimizer's state again, of the kind that the optimizer made it."""
    return jax.random.wrap_key_data(leaf, impl=kind) if kind else leaf
