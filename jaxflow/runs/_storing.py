"""A run that is stored while it goes on: the engine's sink, and what tells runs apart."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..engine import join, Outcome
from ..results import RunStore, to_dataset, UNFINISHED
from ._outcomes import Outcomes

_BUFFER_BYTES = 2**25
_BUFFER_MEMBERS = 4096


class Stored:
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
        meanings = (UNFINISHED, *self._outcomes.statuses)
        self._store.write(indices, to_dataset(solution, meanings), solution.directions)

    def save(self, in_flight: bytes) -> None:
        self.flush()
        self._store.save_in_flight(in_flight)

    def saved(self) -> bytes | None:
        return self._store.in_flight()


def interrupted_message(store: RunStore, total: int | None) -> str:
    """What to tell somebody who pressed Ctrl-C."""
    of_all = "" if total is None else f" of {total:,}"
    return (
        f"Interrupted: {store.num_done:,}{of_all} members are done; they and those in "
        f"flight are safe in {store.path}. The same call goes on from there."
    )


def identify(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run what it is, by name: settings as they are, arrays by a digest."""
    return {name: _identify(part) for name, part in parts.items()}


def _identify(part: Any) -> Any:
    if isinstance(part, float) and not math.isfinite(part):
        return str(part)  # NaN is not equal to itself
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    if isinstance(part, np.ndarray) and part.ndim == 0:
        return part.item()
    if type(part) in (tuple, list):
        return [_identify(item) for item in part]
    leaves, structure = jax.tree_util.tree_flatten(part)
    if leaves and all(_is_number(leaf) for leaf in leaves):
        numbers = ", ".join(f"{float(leaf):.17g}" for leaf in leaves)
        return f"{type(part).__name__}({numbers})"
    digest = hashlib.sha256(_text(structure).encode())
    for leaf in leaves:
        if eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if eqx.is_array(leaf):
            array = np.asarray(leaf)
            digest.update(json.dumps([str(array.dtype), array.shape]).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        else:
            digest.update(_text(leaf).encode())
    shapes = [tuple(leaf.shape) for leaf in leaves if eqx.is_array(leaf)]
    shown = f" of shape {shapes[0]}" if len(shapes) == 1 else ""
    return f"{type(part).__name__}{shown}, sha256 {digest.hexdigest()[:16]}"


def _is_number(leaf: Any) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.ndim == 0 and leaf.dtype.kind in "iuf"
    return isinstance(leaf, (int, float))


def _text(thing: Any) -> str:
    """A description without addresses, which differ from process to process."""
    if callable(thing) and hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", str(thing))
