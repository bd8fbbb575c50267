"""How one step is made: steppers, and what diffrax lacks for these flows."""

from ._choice import as_stepper as as_stepper, is_solver as is_solver
from ._error_control import (
    ErrorView as ErrorView,
    FlowController as FlowController,
    Tolerances as Tolerances,
)
from ._implicit import kvaerno5 as kvaerno5
from ._predictive import PredictiveController as PredictiveController
from ._rates import form_of as form_of, Optimizer as Optimizer
from ._sliding import SlidingSteps as SlidingSteps
from ._stepper import (
    AbstractStepper as AbstractStepper,
    is_scratch as is_scratch,
    select_state as select_state,
    Step as Step,
    Work as Work,
)
from ._unsplit import (
    innermost as innermost,
    solves_any as solves_any,
    splits as splits,
)
from ._updates import Updates as Updates
from ._whole_steps import (
    count_evaluations as count_evaluations,
    Evaluations as Evaluations,
    EVALUATIONS_OF_CHOICE as EVALUATIONS_OF_CHOICE,
    WholeSteps as WholeSteps,
)
from ._written_out import write_out as write_out, WrittenOut as WrittenOut
from .staged import (
    AbstractStagedSolver as AbstractStagedSolver,
    Automatic as Automatic,
    RKC2 as RKC2,
    ROCK4 as ROCK4,
    StagedSteps as StagedSteps,
)
