"""A loss that is small enough."""

from ._abstract import AbstractCondition, Threshold


class LossBelow(AbstractCondition):
    """Ends a member at the first step after which `𝓛(w) <= value`.

    **Arguments:** `value`, a loss (a sum over samples), scalar or (num,).

    >>> LossBelow(1e-3)
    LossBelow(value=0.001)
    """

    value: Threshold
    needs = ("loss",)

    def gap(self, shown):
        return self.value - shown.loss
