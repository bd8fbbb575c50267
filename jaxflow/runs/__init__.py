"""A run as a value, the equations, and the everyday calls that make and run them."""

from ._accepted import as_networks as as_networks
from ._correlation_limit import (
    CorrelationLimit as CorrelationLimit,
    ncf_flow as ncf_flow,
)
from ._equation import AbstractEquation as AbstractEquation, Defaults as Defaults
from ._execution import run as run
from ._gradient_descent import (
    gradient_descent as gradient_descent,
    GradientDescent as GradientDescent,
)
from ._gradient_flow import (
    gradient_flow as gradient_flow,
    GradientFlow as GradientFlow,
    order_of as order_of,
)
from ._langevin import Langevin as Langevin, langevin_flow as langevin_flow
from ._networks import (
    AbstractNetworks as AbstractNetworks,
    check_alike as check_alike,
    check_directions as check_directions,
    RepeatedNetworks as RepeatedNetworks,
)
from ._record import Record as Record
from ._scale import as_scale as as_scale, Scale as Scale
from ._simulation import Simulation as Simulation
from ._sliding import sliding_solver as sliding_solver
from ._stepping import (
    default_stepping as default_stepping,
    problem_of as problem_of,
    Stepping as Stepping,
)
