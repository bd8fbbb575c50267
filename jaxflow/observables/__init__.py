"""Functions of (network, task) that can be recorded along a flow."""

from ..networks import layer_matrices as layer_matrices
from ._dimensions import dimensions as dimensions
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
    margins as margins,
    normalized_margin as normalized_margin,
    normalized_margins as normalized_margins,
    smoothed_normalized_margin as smoothed_normalized_margin,
)
from ._signs import (
    block_singular_values as block_singular_values,
    block_stable_ranks as block_stable_ranks,
)
from ._weights import (
    cosine as cosine,
    CosineTo as CosineTo,
    layer_norms as layer_norms,
    norm as norm,
    singular_values as singular_values,
    stable_rank as stable_rank,
    weights as weights,
)
