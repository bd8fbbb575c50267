"""A source and a sink that hold all their members in memory."""

import jax
import numpy as np

from ._pool import join, Members, Outcome, take


class Given:
    """Members that are all there: arrays with a leading axis."""

    def __init__(self, members: Members):
        self._members = jax.device_get(members)

    @property
    def total(self) -> int | None:
        return len(jax.tree_util.tree_leaves(self._members)[0])

    def has(self, index: int) -> bool:
        return index < len(jax.tree_util.tree_leaves(self._members)[0])

    def draw(self, indices: np.ndarray) -> Members:
        return take(self._members, indices)


class InMemory:
    """Where members go when nothing is stored."""

    def __init__(self):
        self._indices: list[np.ndarray] = []
        self._outcomes: list[Outcome] = []

    def is_done(self, index: int) -> bool:
        return False

    def add(self, indices: np.ndarray, outcome: Outcome) -> None:
        self._indices.append(indices)
        self._outcomes.append(outcome)

    def save(self, in_flight: bytes) -> None:
        """Does nothing: memory does not outlive the process."""

    def saved(self) -> bytes | None:
        return None

    def outcome(self) -> Outcome | None:
        """All members in the order of their numbers; `None` if there are none."""
        if not self._outcomes:
            return None
        order = np.argsort(np.concatenate(self._indices))
        return take(join(self._outcomes), order)
