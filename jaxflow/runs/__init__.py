"""Where networks, tasks, flows, engine and results meet: simulations, KKT points."""

from ._functions import (
    gradient_descent as gradient_descent,
    gradient_flow as gradient_flow,
    ncf_flow as ncf_flow,
)
from ._langevin import langevin_flow as langevin_flow
from ._sliding import sliding_solver as sliding_solver
