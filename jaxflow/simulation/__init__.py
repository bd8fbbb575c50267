"""Where networks, tasks, flows, engine and results meet: simulations, KKT points."""

from .functions import (
    gradient_descent as gradient_descent,
    gradient_flow as gradient_flow,
    ncf_flow as ncf_flow,
)
from .kkt_points import find_kkt as find_kkt
