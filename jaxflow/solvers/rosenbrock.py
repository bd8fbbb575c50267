"""The Rosenbrock method RODAS3."""

import functools

import numpy as np

from .stage_table import StageTable


@functools.cache
def rodas3_table() -> StageTable:
    """RODAS3: of order three, with an error estimate of order two, L-stable.

    **Source:** A. Sandu, J. G. Verwer, J. G. Blom, E. J. Spee, G. R. Carmichael and F. A.
    Potra, Benchmarking stiff ODE solvers for atmospheric chemistry problems II: Rosenbrock
    solvers, Atmospheric Environment 31 (1997) 3459–3472.
    """
    a = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [2, 0, 0, 0, 0], [2, 0, 1, 0, 0], [2, 0, 1, 1, 0]]
    c = [[0, 0, 0, 0, 0], [4, 0, 0, 0, 0], [1, -1, 0, 0, 0], [1, -1, -8 / 3, 0, 0], 5 * [0]]
    return StageTable(
        interval=np.array([np.inf]),
        length=np.zeros(1, int),
        first=np.zeros(1, int),
        recurrence=np.zeros((0, 5)),
        error_order=np.array([3]),
        last=np.array([4]),
        tableau=np.array([a], float),
        error=np.array([[0, 0, 0, 1, 0]], float),
        error_of_ends=np.zeros((1, 2)),
        bulge=np.zeros((1, 5)),
        gamma=np.array([0.5]),
        coupling=np.array([c], float),
    )
