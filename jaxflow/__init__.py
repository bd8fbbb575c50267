"""jaxflow: gradient flow of neural networks, for thousands of initializations at once."""

from typing import Any, TYPE_CHECKING

from ._versions import version as _version
from .early_phase import (
    EarlyConvergence as EarlyConvergence,
    EarlyPhase as EarlyPhase,
    follow_early_phase as follow_early_phase,
    verify_early_convergence as verify_early_convergence,
)
from .engine import Schedule as Schedule
from .errors import (
    InputError as InputError,
    JaxflowError as JaxflowError,
    NotHomogeneousError as NotHomogeneousError,
    RunError as RunError,
    RunWarning as RunWarning,
    StoreError as StoreError,
    StudyError as StudyError,
)
from .flows import ncf as ncf
from .kkt import find_kkt as find_kkt, KKTPoints as KKTPoints
from .networks import (
    AbstractDistribution as AbstractDistribution,
    all_but as all_but,
    ByLayer as ByLayer,
    ConvNet as ConvNet,
    DiagonalLinear as DiagonalLinear,
    FeedForward as FeedForward,
    Gaussian as Gaussian,
    GRU as GRU,
    Initializations as Initializations,
    LeakyReLU as LeakyReLU,
    order as order,
    sample_ensemble as sample_ensemble,
    Signs as Signs,
    slice_ensemble as slice_ensemble,
    SmoothLeakyReLU as SmoothLeakyReLU,
    Symmetric as Symmetric,
    Uniform as Uniform,
)
from .observables import (
    block_singular_values as block_singular_values,
    block_stable_ranks as block_stable_ranks,
    cosine as cosine,
    CosineTo as CosineTo,
    distinct_knots as distinct_knots,
    kkt_residual as kkt_residual,
    knots as knots,
    layer_norms as layer_norms,
    loss as loss,
    margin as margin,
    margin_kkt_residual as margin_kkt_residual,
    margins as margins,
    norm as norm,
    normalized_margin as normalized_margin,
    normalized_margins as normalized_margins,
    singular_values as singular_values,
    smoothed_normalized_margin as smoothed_normalized_margin,
    stable_rank as stable_rank,
    weights as weights,
)
from .results import concat as concat, load as load, Solution as Solution
from .runs import (
    AbstractEquation as AbstractEquation,
    CorrelationLimit as CorrelationLimit,
    gradient_descent as gradient_descent,
    gradient_flow as gradient_flow,
    GradientDescent as GradientDescent,
    GradientFlow as GradientFlow,
    Langevin as Langevin,
    langevin_flow as langevin_flow,
    ncf_flow as ncf_flow,
    Record as Record,
    run as run,
    Simulation as Simulation,
    sliding_solver as sliding_solver,
    Stepping as Stepping,
)
from .saddles import (
    limiting_path as limiting_path,
    LimitingPath as LimitingPath,
    saddle_to_saddle as saddle_to_saddle,
    SaddleToSaddle as SaddleToSaddle,
    starts_near_saddle as starts_near_saddle,
)
from .stops import (
    AbstractCondition as AbstractCondition,
    AbstractCrossing as AbstractCrossing,
    AbstractLevel as AbstractLevel,
    AbstractStop as AbstractStop,
    LogTime as LogTime,
    LossBelow as LossBelow,
    MarginConverged as MarginConverged,
    NormAbove as NormAbove,
    RescaledTime as RescaledTime,
    Stationary as Stationary,
    Time as Time,
)
from .tasks import (
    AbstractLoss as AbstractLoss,
    AbstractMarginLoss as AbstractMarginLoss,
    AbstractRegularizer as AbstractRegularizer,
    AbstractTask as AbstractTask,
    CrossEntropyLoss as CrossEntropyLoss,
    data as data,
    ExponentialLoss as ExponentialLoss,
    L2 as L2,
    LogisticLoss as LogisticLoss,
    SquareLoss as SquareLoss,
    Task as Task,
    TaskPerMember as TaskPerMember,
)

if TYPE_CHECKING:
    from . import plot as plot
    from .studies import Study as Study, StudyResult as StudyResult

__version__ = _version("jaxflow")


_LATER = {"plot": ".plot", "Study": ".studies", "StudyResult": ".studies"}
"""Where names are that are imported when they are asked for."""


def __getattr__(name: str) -> Any:
    """`jaxflow.plot` and `Study`: matplotlib and pydantic take their time."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = importlib.import_module(_LATER[name], __name__)
    return found if name == "plot" else getattr(found, name)
