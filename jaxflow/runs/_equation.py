"""What an equation is: which flow its members follow, and what just works for it."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx

from ..flows import AbstractNetworkFlow, sides_of_loss
from ..stops import AbstractStop
from ..tasks import AbstractTask
from ._networks import AbstractNetworks
from ._stepping import default_stepping, Stepping


class Defaults(NamedTuple):
    """What holds where the caller says nothing, and what always holds."""

    stepping: Stepping
    stops: tuple[AbstractStop, ...] = ()  # where none are given
    ends: tuple[AbstractStop, ...] = ()  # beside those that are given
    record_over: str = "rescaled_time"
    steps_are_given: bool = False  # the equation makes its own steps


class AbstractEquation(eqx.Module):
    """What members follow. A new flow is one class, and nothing else changes.

    Subclass it, give `kind` and `flow`, and pass an instance to `jaxflow.Simulation`: stop
    conditions, records, stores, several devices and results come with it.
    """

    has_scale: ClassVar[bool] = True
    """Whether members start at an initialization scale δ."""

    kind: ClassVar[str]
    """What the result is called."""

    lasts: ClassVar[tuple[str, ...]] = ()
    """Fields that say how long members go on, and change nothing before."""

    hints: ClassVar[Mapping[str, str]] = {}
    """What to try where members ended with a status, by its name, in a sentence; by
    `loss_rose` where they ended with a larger loss than they began with, for an equation
    along which it should fall."""

    @abc.abstractmethod
    def flow(self, network: eqx.Module, task: AbstractTask) -> AbstractNetworkFlow:
        """The flow of networks like this one (any member), of one floating type."""

    def resolve(self, networks: AbstractNetworks, task: AbstractTask) -> "AbstractEquation":
        """The equation with everything settled that depends on networks and task.

        Raises:
            InputError: for networks that it cannot be solved for.
        """
        return self

    def defaults(self, network: eqx.Module, task: AbstractTask, dtype: Any) -> Defaults:
        """Stop conditions and stepping that just work."""
        has_kinks = sides_of_loss(network, task.shaped_for(network)) is not None
        return Defaults(default_stepping(dtype, has_kinks=has_kinks))

    def checked_length(self, name: str, value: Any) -> Any:
        """A new value for a field that says how long members go on.

        Raises:
            InputError: where it does not fit.
        """
        return value

    def describe(self) -> dict[str, Any]:
        """What a result says of it, in numbers and strings."""
        return {}
