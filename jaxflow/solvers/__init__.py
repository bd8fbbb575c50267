"""How one step is made: what diffrax's solvers and controllers lack for these flows."""

from .automatic import Automatic as Automatic
from .error_control import (
    ErrorView as ErrorView,
    FlowController as FlowController,
    Tolerances as Tolerances,
)
from .evaluations import count_evaluations as count_evaluations, Evaluations as Evaluations
from .implicit import kvaerno5 as kvaerno5
from .optimizer_steps import OptimizerSteps as OptimizerSteps
from .predictive import PredictiveController as PredictiveController
from .rkc import RKC2 as RKC2
from .rock import ROCK4 as ROCK4
from .sliding import SlidingSteps as SlidingSteps
from .staged import AbstractStagedSolver as AbstractStagedSolver
from .work import Work as Work
from .written_out import write_out as write_out, WrittenOut as WrittenOut
