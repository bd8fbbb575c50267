"""What a network is trained on: inputs, targets and a loss."""

from . import data as data
from ._abstract import AbstractTask as AbstractTask, check_task as check_task
from ._losses import (
    AbstractLoss as AbstractLoss,
    AbstractMarginLoss as AbstractMarginLoss,
    CrossEntropyLoss as CrossEntropyLoss,
    ExponentialLoss as ExponentialLoss,
    LogisticLoss as LogisticLoss,
    SquareLoss as SquareLoss,
)
from ._margins import (
    is_separated as is_separated,
    log_loss_at_origin as log_loss_at_origin,
    margin_residual as margin_residual,
)
from ._per_member import TaskPerMember as TaskPerMember
from ._regularizers import AbstractRegularizer as AbstractRegularizer, L2 as L2
from ._task import Task as Task
