"""How one step is made: what diffrax's solvers and controllers lack for these flows."""

from ._error_control import (
    ErrorView as ErrorView,
    FlowController as FlowController,
    Tolerances as Tolerances,
)
from ._evaluations import count_evaluations as count_evaluations, Evaluations as Evaluations
from ._implicit import kvaerno5 as kvaerno5
from ._optimizer_steps import OptimizerSteps as OptimizerSteps
from ._predictive import PredictiveController as PredictiveController
from ._sliding import SlidingSteps as SlidingSteps
from ._work import Work as Work
from ._written_out import write_out as write_out, WrittenOut as WrittenOut
from .staged._automatic import Automatic as Automatic
from .staged._rkc import RKC2 as RKC2
from .staged._rock import ROCK4 as ROCK4
from .staged._solver import AbstractStagedSolver as AbstractStagedSolver
