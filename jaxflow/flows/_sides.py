"""The sides of the kinks that a state of a flow is on."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool

from ..networks import switches, unflattener
from ..tasks import Task
from ._polar import PolarState, unit


class Sides(eqx.Module):
    """Tells for every sample and neuron the side of its kink, from a state.

    The weights are those at which the flow evaluates its network, so a compiler can share
    the forward pass with the last stage of a step.
    """

    network: eqx.Module  # any member; only its structure is read
    task: Task

    def __call__(self, state: Any) -> Bool[Array, "n neurons"]:
        weights = unit(state) if isinstance(state, PolarState) else state
        return switches(unflattener(self.network)(weights), self.task.inputs)
