"""Functions of (network, task) that can be recorded along a flow."""

from ..networks import layer_matrices as layer_matrices
from ._kkt import kkt_residual as kkt_residual
from ._knots import (
    distinct_knots as distinct_knots,
    DistinctKnots as DistinctKnots,
    Knots as Knots,
    knots as knots,
)
from ._loss import loss as loss
from ._margins import (
    margin as margin,
    margin_kkt_residual as margin_kkt_residual,
    normalized_margin as normalized_margin,
    smoothed_normalized_margin as smoothed_normalized_margin,
)
from ._weights import (
    cosine as cosine,
    CosineTo as CosineTo,
    dimensions as dimensions,
    layer_norms as layer_norms,
    norm as norm,
    singular_values as singular_values,
    stable_rank as stable_rank,
    weights as weights,
)
