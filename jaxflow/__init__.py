"""jaxflow: gradient flow of neural networks, for thousands of initializations at once."""

from .engine import Schedule as Schedule
from .errors import (
    InputError as InputError,
    JaxflowError as JaxflowError,
    NotHomogeneousError as NotHomogeneousError,
    StoreError as StoreError,
)
from .kkt import KKTPoints as KKTPoints, ncf as ncf
from .margins import (
    margin as margin,
    margin_kkt_residual as margin_kkt_residual,
    normalized_margin as normalized_margin,
    smoothed_normalized_margin as smoothed_normalized_margin,
)
from .networks import (
    ConvNet as ConvNet,
    DiagonalLinear as DiagonalLinear,
    FeedForward as FeedForward,
    Initializations as Initializations,
    LeakyReLU as LeakyReLU,
    order as order,
    sample_ensemble as sample_ensemble,
    slice_ensemble as slice_ensemble,
)
from .observables import (
    cosine as cosine,
    CosineTo as CosineTo,
    kkt_residual as kkt_residual,
    layer_norms as layer_norms,
    loss as loss,
    norm as norm,
    singular_values as singular_values,
    stable_rank as stable_rank,
)
from .results import load as load, Solution as Solution
from .saddles import SaddleToSaddle as SaddleToSaddle
from .simulation import (
    EarlyConvergence as EarlyConvergence,
    find_kkt as find_kkt,
    gradient_descent as gradient_descent,
    gradient_flow as gradient_flow,
    langevin_flow as langevin_flow,
    ncf_flow as ncf_flow,
    saddle_to_saddle as saddle_to_saddle,
    sliding_solver as sliding_solver,
    verify_early_convergence as verify_early_convergence,
)
from .stopping import (
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
    CrossEntropyLoss as CrossEntropyLoss,
    data as data,
    ExponentialLoss as ExponentialLoss,
    LogisticLoss as LogisticLoss,
    SquareLoss as SquareLoss,
    Task as Task,
)
