"""A direction that has come close to a KKT point of the margin problem."""

from ._abstract import AbstractCondition, check_threshold, positive, Threshold


class MarginConverged(AbstractCondition):
    """Ends a member whose direction has come close to a KKT point of the margin problem.

    At the first step after which the loss separates the data (`𝓛 < 𝓛(0)/n`, all margins
    positive) and `jaxflow.margin_kkt_residual` is at most `tolerance`. For losses with an
    exponential tail (logistic, exponential, cross-entropy), in polar coordinates.

    The residual falls like `1/log t` at best, and like `(log t)^(-1/L)` while weights that
    stand still, such as those of neurons that no sample activates, are a part of `‖w‖`.
    From a small scale 1e-2 to 1e-1 are reached by `t = 1e100`.

    Arguments:
        tolerance: positive, scalar or (num,).

    Raises:
        InputError: for other values.

    Source:
        Lyu and Li (2020), arXiv:1906.05890, section 4, and appendix C.

    Examples:
        >>> import jaxflow as jf
        >>> jf.MarginConverged(1e-2)
        MarginConverged(tolerance=0.01)
    """

    tolerance: Threshold
    needs = ("margin_residual",)

    def __check_init__(self):
        check_threshold("tolerance", self.tolerance, "a positive number", positive)

    def gap(self, shown):
        return self.tolerance - shown.margin_residual
