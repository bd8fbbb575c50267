"""Rosenbrock methods: implicit steps that need linear systems only."""

import functools

import numpy as np

from ._stage_table import stage_table, StageTable

# All numbers are those of the program RODAS (see `rodasp_table`): γ, and a_il and c_il of
# the six stages. The sixth has the a_il of the fifth and its slope added.
_GAMMA = 0.25
_A = [
    [],
    [3.0],
    [1.831036793486759, 0.4955183967433795],
    [2.304376582692669, -0.05249275245743001, -1.176798761832782],
    [-7.170454962423024, -4.741636671481785, -16.31002631330971, -1.062004044111401],
]
_C = [
    [],
    [-12.0],
    [-8.791795173947035, -2.207865586973518],
    [10.81793056857153, 6.780270611428266, 19.53485944642410],
    [34.19095006749676, 15.49671153725963, 54.74760875964130, 14.16005392148534],
    [
        34.62605830930532,
        15.30084976114473,
        56.99955578662667,
        18.40807009793095,
        -5.714285714285717,
    ],
]


@functools.cache
def rodasp_table() -> StageTable:
    """RODASP: of order four, with an error estimate of order three, stiffly accurate.

    Source:
        E. Hairer and G. Wanner, Solving Ordinary Differential Equations II, section IV.7,
        and its program RODAS.
    """
    num = 7
    a, c = np.zeros((num, num)), np.zeros((num, num))
    for i, row in enumerate(_A):
        a[i, : len(row)] = row
    a[5] = a[4] + np.eye(num)[4]
    a[6] = a[5] + np.eye(num)[5]  # the end of the step
    for i, row in enumerate(_C):
        c[i, : len(row)] = row
    return stage_table(
        interval=np.array([np.inf]),
        error_order=4,
        tableau=a[None],
        error=np.eye(num)[None, 5],
        gamma=np.array([_GAMMA]),
        coupling=c[None],
    )
