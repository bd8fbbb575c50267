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
        self._waiting: list[tuple[np.ndarray, Outcome]] = []

    def is_done(self, index: int) -> bool:
        return index < len(self._begun_with) and bool(self._begun_with[index])

    def add(self, indices: np.ndarray, outcome: Outcome) -> None:
        # Both at once, as Ctrl-C may come between two lines.
        self._waiting.append((indices, outcome))
        num = sum(len(part) for part, _ in self._waiting)
        each = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(outcome)) / len(
            indices
        )
        if num >= _BUFFER_MEMBERS or num * each >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the members that wait."""
        if self._waiting:
            indices = np.concatenate([indices for indices, _ in self._waiting])
            self.write(indices, join([outcome for _, outcome in self._waiting]))
            self._waiting = []

    def write(self, indices: np.ndarray, outcome: Outcome) -> None:
        """Write these members."""
        solution = self._outcomes.solution(indices, outcome)
        dataset = to_dataset(solution, self._outcomes.statuses)
        self._store.write(indices, dataset, solution.directions, outcome.kept)

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
