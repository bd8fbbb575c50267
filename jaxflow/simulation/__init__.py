"""Where networks, tasks, flows, engine and results meet: simulations, KKT points."""

from .early_phase import (
    EarlyConvergence as EarlyConvergence,
    verify_early_convergence as verify_early_convergence,
)
from .functions import (
    gradient_descent as gradient_descent,
    gradient_flow as gradient_flow,
    ncf_flow as ncf_flow,
)
from .kinks import sliding_solver as sliding_solver
from .kkt_points import find_kkt as find_kkt
from .langevin import langevin_flow as langevin_flow
from .saddles import saddle_to_saddle as saddle_to_saddle
