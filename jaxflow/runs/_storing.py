"""A run that is stored while it goes on: the engine's sink."""

import jax
import numpy as np

from ..engine import join, Outcome
from ..results import RunStore, to_dataset
from ._outcomes import Outcomes

_BUFFER_BYTES = 2**25
_BUFFER_MEMBERS = 4096


class StoreSink:
    """A sink that writes members into a `RunStore`, some thousands at a time."""

    def __init__(self, store: RunStore, outcomes: Outcomes):
        self._store = store
        self._outcomes = outcomes
        self._begun_with = store.done.copy()
        self._indices: list[np.ndarray] = []
        self._finished: list[Outcome] = []

    def is_done(self, index: int) -> bool:
        return index < len(self._begun_with) and bool(self._begun_with[index])

    def add(self, indices: np.ndarray, outcome: Outcome) -> None:
        self._indices.append(indices)
        self._finished.append(outcome)
        num = sum(len(part) for part in self._indices)
        each = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(outcome)) / len(
            indices
        )
        if num >= _BUFFER_MEMBERS or num * each >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the members that wait."""
        if self._indices:
            indices = np.concatenate(self._indices)
            self.write(indices, join(self._finished))
            self._indices, self._finished = [], []

    def write(self, indices: np.ndarray, outcome: Outcome) -> None:
        """Write these members."""
        solution = self._outcomes.solution(indices, outcome)
        dataset = to_dataset(solution, self._outcomes.statuses)
        self._store.write(indices, dataset, solution.directions)

    def save(self, in_flight: bytes) -> None:
        self.flush()
        self._store.save_in_flight(in_flight)

    def saved(self) -> bytes | None:
        return self._store.in_flight()


def interrupted_message(store: RunStore, total: int | None) -> str:
    """What to tell somebody who pressed Ctrl-C, or asked the process to end."""
    of_all = "" if total is None else f" of {total:,}"
    return (
        f"Interrupted: {store.num_done:,}{of_all} members are done; they and those in "
        f"flight are safe in {store.path}. The same call goes on from there."
    )
