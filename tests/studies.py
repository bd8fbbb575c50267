"""Small studies for tests."""

import copy

from jaxflow.studies._study import Study

TABLES = {
    "title": "a small one",
    "network": {"kind": "DiagonalLinear", "depth": 3, "in_size": 2},
    "data": {"kind": "values", "inputs": [[1, 0], [0, 1]], "targets": [1.0, 0.5]},
    "initialization": {"num": 4, "scale": 0.1},
    "equation": {"kind": "gradient_flow"},
    "stop": {"rescaled_time": 0.5},
    "stepping": {"solver": "Tsit5"},
    "record": {"functions": ["loss", "norm"], "at": 4},
}
"""What a study says, tables by name; compiled in seconds."""


def tables(**changes):
    """The tables above with others in their places, `None` for none."""
    changed = copy.deepcopy(TABLES) | changes
    return {name: table for name, table in changed.items() if table is not None}


def study(**changes):
    """The study of these tables."""
    return Study(tables(**changes))
