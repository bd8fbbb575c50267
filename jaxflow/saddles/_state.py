"""Where all members are between two legs of their way."""

import dataclasses

import numpy as np

from ..errors import InputError
from ..networks import flatten_rows
from ..runs import AbstractNetworks, Scale
from ._views import Visit

_SHRUNK = 7.0
"""How far `log ‖w‖` must fall for weights to be on their way to zero: by a factor of a
thousand. Chosen."""

LEAVING, FALLING, RESTING, DONE = range(4)


@dataclasses.dataclass
class State:
    """All members between two legs, arrays with a leading axis of members."""

    mode: np.ndarray
    rows: np.ndarray  # directions
    log_norm: np.ndarray
    log_time: np.ndarray
    loss: np.ndarray
    status: np.ndarray
    num_steps: np.ndarray
    num_vjps: np.ndarray
    log_floor: np.ndarray  # of the polar gradient
    log_shrunk: np.ndarray  # the log-norm of weights on their way to zero
    departure_loss: np.ndarray
    arrival: np.ndarray  # log t of the visit that has begun
    log_above: np.ndarray  # log ‖∇𝓛‖ at that arrival
    log_usual: np.ndarray  # the root mean square before it
    log_least: np.ndarray  # and where it is least
    visits: "list[list[Visit]]"

    @property
    def num_visits(self) -> np.ndarray:
        return np.array([len(visits) for visits in self.visits])


def first_state(members: AbstractNetworks, scales: Scale) -> State:
    num = members.num
    assert num is not None
    rows = flatten_rows(members.stacked(np.arange(num)))
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not np.all(norms > 0):
        raise InputError("networks", "a member whose weights are all zero", "a direction")
    log_norm = np.broadcast_to(np.log(scales.values), num) + np.log(norms)
    return State(
        mode=np.full(num, DONE),
        rows=rows / norms[:, None].astype(rows.dtype),
        log_norm=log_norm,
        log_time=np.full(num, -np.inf),
        loss=np.zeros(num),
        status=np.full(num, "", dtype=object),
        num_steps=np.zeros(num, np.int64),
        num_vjps=np.zeros(num, np.int64),
        log_floor=np.full(num, -np.inf),
        log_shrunk=log_norm - _SHRUNK,
        departure_loss=np.zeros(num),
        arrival=np.full(num, -np.inf),
        log_above=np.full(num, np.inf),
        log_usual=np.zeros(num),
        log_least=np.full(num, -np.inf),
        visits=[[] for _ in range(num)],
    )
