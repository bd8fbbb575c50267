"""The vocabulary of what a flow can show of a member: scalar quantities, by name.

A flow says which quantities it shows and whose clock it knows beforehand; a stop condition
says which it needs; a grid of records runs over one; a result has columns of them. Flows
of one's own may show others under names of their own.
"""

from typing import NamedTuple


class Quantity(NamedTuple):
    """A scalar that changes along the path of a member."""

    name: str
    meaning: str
    units: str = "1"


_KNOWN = {
    quantity.name: quantity
    for quantity in (
        Quantity("rescaled_time", "s = δ^(L-2) t", "rescaled time"),
        Quantity("time", "physical time t", "time"),
        Quantity("log_time", "natural logarithm of the physical time t"),
        Quantity("clock", "steps of the optimizer", "steps"),
        Quantity("log_norm", "natural logarithm of the norm"),
        Quantity("loss", "loss, a sum over samples"),
        Quantity("gradient_norm", "norm of the gradient that drives the flow"),
        Quantity("turning_rate", "norm of its part that turns the direction"),
        Quantity("growth_rate", "its part along the direction"),
        Quantity("margin_residual", "distance from a KKT point of the margin problem"),
        Quantity("log_gradient", "natural logarithm of the norm of ∇𝓛(w)"),
        Quantity("gradient_rate", "rate at which that logarithm changes"),
    )
}

CLOCKS = ("rescaled_time", "time", "log_time", "clock", "log_norm")
"""What the grids of records usually run over. No record has one of these names."""

KNOWN = tuple(_KNOWN)
"""The names that flows of jaxflow use."""


def quantity(name: str) -> Quantity:
    """What is known of a quantity; of a name that only its flow knows, that name."""
    return _KNOWN.get(name, Quantity(name, name.replace("_", " ")))
