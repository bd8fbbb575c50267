"""Stop conditions: what ends a member."""

from ._abstract import (
    AbstractCondition as AbstractCondition,
    AbstractCrossing as AbstractCrossing,
    AbstractLevel as AbstractLevel,
    AbstractStop as AbstractStop,
    Threshold as Threshold,
)
from ._loss_below import LossBelow as LossBelow
from ._margin_converged import MarginConverged as MarginConverged
from ._norm_above import NormAbove as NormAbove
from ._stationary import Stationary as Stationary
from ._times import (
    LogTime as LogTime,
    NumSteps as NumSteps,
    RescaledTime as RescaledTime,
    Time as Time,
)
