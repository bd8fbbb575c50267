"""How one step is made: what diffrax's solvers and controllers lack for these flows."""

from .error_control import (
    ErrorView as ErrorView,
    FlowController as FlowController,
    Tolerances as Tolerances,
)
from .evaluations import count_evaluations as count_evaluations, Evaluations as Evaluations
from .optimizer_steps import OptimizerSteps as OptimizerSteps
from .predictive import PredictiveController as PredictiveController
from .sliding import SlidingSteps as SlidingSteps
from .written_out import write_out as write_out, WrittenOut as WrittenOut
