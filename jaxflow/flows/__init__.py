"""What is integrated: vector fields with a way in and a way out."""

from .abstract import (
    AbstractFlow as AbstractFlow,
    AbstractNetworkFlow as AbstractNetworkFlow,
    Snapshot as Snapshot,
)
from .block_polar import (
    block_polar_flow as block_polar_flow,
    BlockPolarFlow as BlockPolarFlow,
    BlockPolarState as BlockPolarState,
)
from .cartesian import CartesianFlow as CartesianFlow
from .correlation import blow_up_time as blow_up_time, CorrelationFlow as CorrelationFlow
from .descent import DescentFlow as DescentFlow
from .langevin import LangevinFlow as LangevinFlow
from .polar import PolarFlow as PolarFlow, PolarState as PolarState
from .randomized import (
    AbstractRandomizedFlow as AbstractRandomizedFlow,
    Randomized as Randomized,
)
from .residual import ResidualFlow as ResidualFlow
from .sides import Sides as Sides
from .stochastic_descent import StochasticDescentFlow as StochasticDescentFlow
from .watched import WatchedFlow as WatchedFlow
