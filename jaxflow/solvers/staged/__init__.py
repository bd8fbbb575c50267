"""Methods whose steps are made one evaluation of the vector field at a time."""

from ._automatic import Automatic as Automatic
from ._rkc import RKC2 as RKC2
from ._rock import ROCK4 as ROCK4
from ._solver import AbstractStagedSolver as AbstractStagedSolver
from ._steps import StagedSteps as StagedSteps
