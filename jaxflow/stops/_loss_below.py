"""A loss that is small enough."""

from ._abstract import AbstractCondition, check_threshold, not_negative, Threshold


class LossBelow(AbstractCondition):
    """Ends a member at the first step after which `𝓛(w) <= value`.

    **Arguments:** `value`, a loss (a sum over samples), not negative, scalar or (num,).

    **Raises:** `InputError` for other values.

    >>> LossBelow(1e-3)
    LossBelow(value=0.001)
    """

    value: Threshold
    needs = ("loss",)

    def __check_init__(self):
        check_threshold("value", self.value, "a loss, a number >= 0", not_negative)

    def gap(self, shown):
        return self.value - shown.loss
