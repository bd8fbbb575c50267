"""The three simulations: where networks, tasks, flows, engine and results meet."""

from .functions import (
    gradient_descent as gradient_descent,
    gradient_flow as gradient_flow,
    ncf_flow as ncf_flow,
)
