"""What a lane asks of the object that makes its steps."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .._arrays import select

Count = Int[Array | np.ndarray, "*members"]


class Work(NamedTuple):
    """What the attempts of a member have cost so far; `None` for what is not counted."""

    num_evaluations: Count | None  # of the vector field
    num_power_iterations: Count | None = None  # those that went into spectral radii
    num_stabilized: Count | None = None  # accepted steps of a stabilized method


class Step(NamedTuple):
    """A step that was made, before it is accepted or rejected."""

    candidate: PyTree  # the state at its end
    error: PyTree | None  # an estimate, or None
    error_order: Any
    dense_info: PyTree  # what `interpolation` needs
    result: diffrax.RESULTS
    ready: Bool[Array, ""]  # if not, it goes on in the next attempt, from `settle`
    settle: Callable[[Bool[Array, ""]], PyTree]  # the state, if it was accepted or not


class Scratch(eqx.Module):
    """A part of a stepper's state that is of use only until its step has been made.

    Nobody keeps it between steps, nor for lanes that are not live.
    """

    value: Any


def is_scratch(node: Any) -> bool:
    """Whether a node of a state is a `Scratch`."""
    return type(node) is Scratch


def select_state(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """`new` where the condition holds, else `old`, with a `Scratch` as in `new`."""

    def one(new, old):
        return new if is_scratch(new) else select(condition, new, old)

    return jax.tree_util.tree_map(one, new, old, is_leaf=is_scratch)


class AbstractStepper(eqx.Module):
    """Makes steps. A lane knows no more of its solver than these methods.

    Subclass it to make steps in a way that no diffrax solver does, and pass an instance as
    `solver=`. Everything is about one member, under a trace; `state` is what the stepper
    itself remembers from step to step, a pytree of arrays of fixed shapes.
    """

    divisible: ClassVar[bool]
    """Whether a shorter step leads to a state on the way.

    If not, a stop condition that holds at one moment within a step ends a member after
    that step."""

    estimates_error: ClassVar[bool]
    """Whether steps come with an error estimate, which adaptive controllers need."""

    evaluations_per_attempt: ClassVar[int | None]
    """How often an attempt evaluates the vector field; `None` where that differs."""

    is_light: ClassVar[bool]
    """Whether an attempt is small beside reading and writing the state.

    Lanes with much data are then attempted side by side on CPUs, too."""

    def among(self, live: Bool[Array, ""], lanes: str | None) -> "AbstractStepper":
        """The stepper as one of many lanes has it.

        Arguments:
            live: whether the lane is.
            lanes: the name of the axis along which lanes are attempted together, under
                `jax.vmap`; `None` if it is attempted alone. A stepper that leaves out what
                no live lane needs learns from them who does.
        """
        return self

    @abc.abstractmethod
    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: Real[Array, ""],
        t1: Real[Array, ""],
        y0: PyTree,
        args: PyTree,
    ) -> PyTree:
        """The stepper's own state before the first step."""

    @abc.abstractmethod
    def attempt(
        self,
        terms: diffrax.AbstractTerm,
        t0: Real[Array, ""],
        t1: Real[Array, ""],
        y0: PyTree,
        args: PyTree,
        state: PyTree,
    ) -> Step:
        """Try a step from `t0` to `t1`, or go on with one that is not ready."""

    def again(self, state: PyTree) -> PyTree:
        """The state from which the step in the making, if there is one, is made from its
        beginning, whatever is in its `Scratch`."""
        return state

    def rests(self, state: PyTree) -> Bool[Array, ""] | None:
        """Whether the steps of late have led nowhere, as at a minimum on a kink, where no
        gradient vanishes; `None` if that is not looked for."""
        return None

    def steps_spent(self, state: PyTree, num_steps: Count) -> Count:
        """How much of `max_steps` a member has used up, after so many steps. They may count
        for more than one where they cost that much more."""
        return num_steps

    @abc.abstractmethod
    def interpolation(
        self, t0: Real[Array, ""], t1: Real[Array, ""], dense_info: PyTree
    ) -> diffrax.AbstractLocalInterpolation:
        """The states inside a step: its dense output."""

    @abc.abstractmethod
    def longest_step(self, state: PyTree) -> Float[Array, ""] | None:
        """The longest step that can be made next, or `None` for any."""

    @abc.abstractmethod
    def cost(self, state: PyTree, num_attempts: Count) -> Work:
        """What attempts have cost. The one method that NumPy arrays are passed to, with a
        leading axis of members."""

    @abc.abstractmethod
    def error_order(self, terms: diffrax.AbstractTerm) -> Any:
        """The order of the error estimate, by which a controller chooses the first step."""
