"""What is integrated: vector fields with a way in and a way out."""

from ._abstract import (
    AbstractFlow as AbstractFlow,
    AbstractNetworkFlow as AbstractNetworkFlow,
    Snapshot as Snapshot,
)
from ._block_polar import (
    block_polar_flow as block_polar_flow,
    BlockPolarFlow as BlockPolarFlow,
    BlockPolarState as BlockPolarState,
)
from ._cartesian import CartesianFlow as CartesianFlow
from ._correlation import ncf as ncf, ncf_gradient as ncf_gradient
from ._descent import DescentFlow as DescentFlow
from ._langevin import LangevinFlow as LangevinFlow
from ._limit import blow_up_time as blow_up_time, CorrelationFlow as CorrelationFlow
from ._polar import PolarFlow as PolarFlow, PolarState as PolarState
from ._randomized import (
    AbstractRandomizedFlow as AbstractRandomizedFlow,
    Randomized as Randomized,
)
from ._residual import ResidualFlow as ResidualFlow
from ._sides import Sides as Sides
from ._stochastic_descent import StochasticDescentFlow as StochasticDescentFlow
from ._watched import WatchedFlow as WatchedFlow
