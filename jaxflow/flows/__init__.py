"""What is integrated: vector fields with a way in and a way out."""

from ._abstract import (
    AbstractFlow as AbstractFlow,
    AbstractNetworkFlow as AbstractNetworkFlow,
    AbstractPlainFlow as AbstractPlainFlow,
    MemberStart as MemberStart,
    NotShownError as NotShownError,
    Snapshot as Snapshot,
    snapshot as snapshot,
)
from ._block_polar import (
    block_polar_flow as block_polar_flow,
    BlockPolarFlow as BlockPolarFlow,
    BlockPolarState as BlockPolarState,
)
from ._cartesian import CartesianFlow as CartesianFlow, time_on_clock as time_on_clock
from ._correlation import (
    CorrelationFlow as CorrelationFlow,
    ncf as ncf,
    ncf_gradient as ncf_gradient,
    ResidualFlow as ResidualFlow,
)
from ._descent import DescentFlow as DescentFlow
from ._fit import fitted as fitted
from ._geometry import (
    log_norm_and_direction as log_norm_and_direction,
    safe_norm as safe_norm,
    tangent_part as tangent_part,
)
from ._gradients import outputs_at as outputs_at, pull_back as pull_back
from ._langevin import LangevinFlow as LangevinFlow
from ._own import OwnFlow as OwnFlow, places_of as places_of, put as put
from ._polar import PolarFlow as PolarFlow, PolarState as PolarState
from ._randomized import (
    AbstractRandomizedFlow as AbstractRandomizedFlow,
    Randomized as Randomized,
)
from ._sides import (
    Sides as Sides,
    sides_of_flow as sides_of_flow,
    sides_of_loss as sides_of_loss,
    sides_of_outputs as sides_of_outputs,
)
from ._stochastic_descent import StochasticDescentFlow as StochasticDescentFlow
from ._temperature import OverTime as OverTime, Stages as Stages
from ._tuned import TunedFlow as TunedFlow
from ._watched import WatchedFlow as WatchedFlow
