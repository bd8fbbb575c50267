"""What a network is trained on: inputs, targets and a loss."""

from . import data as data
from ._losses import (
    AbstractLoss as AbstractLoss,
    AbstractMarginLoss as AbstractMarginLoss,
    CrossEntropyLoss as CrossEntropyLoss,
    ExponentialLoss as ExponentialLoss,
    LogisticLoss as LogisticLoss,
    SquareLoss as SquareLoss,
)
from ._margins import margin_residual as margin_residual
from ._task import Task as Task
