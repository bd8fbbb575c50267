"""What a stop condition is: a level of one quantity, a crossing, or a condition.

It looks at a member through what the member's flow shows, a `jaxflow.flows.Snapshot`, and
gives a gap, negative while the member goes on.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from .._checks import check_numbers, is_traced
from ..errors import InputError
from ..flows import AbstractFlow, Snapshot

# A number, or one for each member: as the caller gave it outside, an array inside a run.
Threshold = Any


def check_threshold(
    argument: str, value: Any, expected: str, fits: Callable[[Any], Any] = np.isfinite
) -> None:
    """One finite number or several for which `fits` holds; their shape is seen in a run.

    Raises:
        InputError: if it does not fit.
    """
    # Inside of a run thresholds are arrays under a trace, and checked already.
    if any(map(is_traced, jax.tree_util.tree_leaves(value))):
        return
    found = check_numbers(argument, value, expected, lambda x: np.isfinite(x) & fits(x))
    if found.ndim > 1:
        raise InputError(
            argument, f"shape {found.shape}", "a number, or one for each member"
        )


def positive(numbers: Any) -> Any:
    return numbers > 0


def not_negative(numbers: Any) -> Any:
    return numbers >= 0


class AbstractStop(eqx.Module):
    """A stop condition. Thresholds are numbers, or arrays with one number a member.

    Subclass one of `AbstractLevel`, `AbstractCrossing` and `AbstractCondition`, which say
    when a member is looked at.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """The quantities that the gap is made of (`jaxflow.quantities`)."""
    at_rest: ClassVar[bool] = False
    """Whether a member that it ends has come to rest, so that nothing comes after."""

    exact: ClassVar[bool]
    """Whether the member ends where the gap is zero, inside a step.

    If not, it ends at the first step that meets the condition."""

    @abc.abstractmethod
    def gap(self, shown: Snapshot) -> Float[Array, ""]:
        """Negative while the member goes on, zero or positive once it is done."""

    def clock(self, flow: AbstractFlow, args: Any) -> Float[Array, ""] | None:
        """The flow's clock at the end where that is known beforehand, else `None`."""
        return None

    def closeness(self) -> Float[Array, ""] | None:
        """How small the gap has to be where a member ends, for a condition whose steps are
        made to end close to it; `None` if the first step after it will do."""
        return None

    def begin(self, shown: Snapshot) -> "AbstractStop":
        """The condition as it is for a member that starts there."""
        return self

    @property
    def name(self) -> str:
        """What a member that it ends has in its `status`."""
        return type(self).__name__


class AbstractLevel(AbstractStop):
    """Ends a member where one quantity has risen to a level, exactly.

    A subclass names the `quantity` and gives its `level`. Where the flow knows its clock at
    that level beforehand, the last step is made to end there; else it is found inside a
    step.
    """

    exact = True

    quantity: ClassVar[str]
    """The name of the quantity."""

    @abc.abstractmethod
    def level(self) -> Float[Array, ""]:
        """The value of the quantity at which the member ends."""

    @property
    def needs(self) -> tuple[str, ...]:  # pyright: ignore
        return (self.quantity,)

    def gap(self, shown: Snapshot) -> Float[Array, ""]:
        return shown[self.quantity] - self.level()

    def clock(self, flow: AbstractFlow, args: Any) -> Float[Array, ""] | None:
        return flow.clock_at(self.quantity, self.level(), args)


class AbstractCrossing(AbstractStop):
    """Ends a member where its gap crosses zero, found inside the last step.

    A subclass gives the gap, a continuous function of what the flow shows, made of the
    quantities that it `needs`. `gradient_norm` and other quantities that need the vector
    field are known at the end of a step only.
    """

    exact = True


class AbstractCondition(AbstractStop):
    """Ends a member at the first step after which its gap is not negative.

    A subclass gives the gap, made of the quantities that it `needs`.
    """

    exact = False
