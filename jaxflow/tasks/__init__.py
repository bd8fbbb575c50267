"""What a network is trained on: inputs, targets and a loss."""

from . import data as data
from .losses import (
    AbstractLoss as AbstractLoss,
    CrossEntropyLoss as CrossEntropyLoss,
    ExponentialLoss as ExponentialLoss,
    LogisticLoss as LogisticLoss,
    SquareLoss as SquareLoss,
)
from .task import Task as Task
