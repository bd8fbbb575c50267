"""How members come to the engine: networks from anywhere, entered into their flow.

Nothing here holds all members at once, unless the caller does.
"""

import abc
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ..engine import empty_recordings, Members, Recording, Start
from ..flows import AbstractNetworkFlow, Randomized
from ..networks import Initializations, members
from ..stopping import AbstractStop, Stationary


class Networks(abc.ABC):
    """Networks by number, however many there are."""

    @property
    @abc.abstractmethod
    def total(self) -> int | None:
        """How many there are; `None` if only the end of an iterator will tell."""

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells these networks from others, by name: arrays, or what draws them."""

    @abc.abstractmethod
    def has(self, index: int) -> bool:
        """Whether there is a network of this number."""

    @abc.abstractmethod
    def stacked(self, indices: np.ndarray) -> eqx.Module:
        """These networks with a leading axis."""


class StackedNetworks(Networks):
    """An ensemble that the caller holds."""

    def __init__(self, ensemble: eqx.Module, num: int):
        # As NumPy sees it: rows of a JAX array would compile a program.
        self.ensemble = ensemble
        self._num = num

    @property
    def total(self):
        return self._num

    @property
    def identity(self):
        return {"networks": self.ensemble, "number of members": self._num}

    def has(self, index):
        return index < self._num

    def stacked(self, indices):
        return members(self.ensemble, indices)


class DrawnNetworks(Networks):
    """Members that are drawn when they are needed."""

    def __init__(self, initializations: Initializations):
        self.initializations = initializations

    @property
    def total(self):
        return int(self.initializations.num)

    @property
    def identity(self):
        drawn = self.initializations
        return {
            "networks": "drawn",
            "number of members": int(drawn.num),
            "network drawn": drawn.network,
            "key": drawn.key,
        }

    def has(self, index):
        return index < self.initializations.num

    def stacked(self, indices):
        return self.initializations.members(indices)


class IteratedNetworks(Networks):
    """Networks that an iterator gives one after another, each looked at by `check`."""

    def __init__(self, networks: Iterator[Any], first: eqx.Module, check):
        self._networks = networks
        self._first = first
        self._check = check
        self._held: dict[int, eqx.Module] = {0: first}
        self._pulled = 1
        self._total: int | None = None

    @property
    def total(self):
        return self._total

    @property
    def identity(self):
        return {"networks": "from an iterator", "first network": self._first}

    def has(self, index):
        while self._pulled <= index and self._total is None:
            try:
                network = next(self._networks)
            except StopIteration:
                self._total = self._pulled
                break
            self._held[self._pulled] = self._check(self._pulled, network)
            self._pulled += 1
        return index < self._pulled

    def stacked(self, indices):
        if not self.has(int(indices[-1])):
            raise IndexError(indices[-1])
        networks = [self._held[int(index)] for index in indices]
        # Numbers only increase: what lies behind is not asked for again.
        for index in [i for i in self._held if i < indices[0]]:
            del self._held[index]
        return jax.tree_util.tree_map(
            lambda *leaves: (
                jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves]))
                if eqx.is_array(leaves[0])
                else leaves[0]
            ),
            *networks,
        )


class Source:
    """Members for the engine: states, scales, thresholds and empty recordings.

    **Arguments:**

    - `flow`: what the networks enter.
    - `networks`: where they come from.
    - `log_scales`: `log δ`, one number or one for each member.
    - `stops`: with thresholds likewise.
    - `recording`: what is recorded, or `None`.
    - `key`: for flows that draw random numbers; every member gets a key of its own.
    """

    def __init__(
        self,
        flow: AbstractNetworkFlow,
        networks: Networks,
        log_scales: np.ndarray,
        stops: tuple[AbstractStop, ...],
        recording: "RecordingOf | None",
        key: PRNGKeyArray | None = None,
    ):
        self._flow = flow
        self._networks = networks
        self._log_scales = log_scales
        self._stops = stops
        self._recording = recording
        self._key = key

    @property
    def total(self) -> int | None:
        return self._networks.total

    def has(self, index: int) -> bool:
        return self._networks.has(index)

    def draw(self, indices: np.ndarray) -> Members:
        networks = self._networks.stacked(indices)
        log_scales = jnp.asarray(rows_of(self._log_scales, indices))
        stops = jax.tree_util.tree_map(
            lambda leaf: jnp.asarray(rows_of(leaf, indices)), self._stops
        )
        args = log_scales
        if self._key is not None:
            args = Randomized(log_scales, _key_data(self._key, jnp.asarray(indices)))
        starts = _start(self._flow, networks, args, stops)
        recording = self._recording
        return Members(starts, None if recording is None else recording.draw(indices))


class RecordingOf:
    """Empty recordings of members: a grid, and the part of the observer that is theirs."""

    def __init__(self, grid: np.ndarray, own: PyTree, example: PyTree):
        self._grid = grid  # (points,) or (num, points)
        self._own = own
        self._example = example

    def draw(self, indices: np.ndarray) -> Recording:
        shared = self._grid.ndim == 1
        shape = (len(indices), self._grid.shape[-1])
        grids = np.broadcast_to(self._grid, shape) if shared else self._grid[indices]
        own = jax.tree_util.tree_map(lambda leaf: np.asarray(leaf)[indices], self._own)
        return empty_recordings(grids, own, self._example)


def rows_of(values: Any, indices: np.ndarray) -> np.ndarray:
    """The values of these members, of one number for all or one number for each."""
    values = np.asarray(values)
    return values[indices] if values.ndim else np.full(len(indices), values)


@jax.jit
def _key_data(key: PRNGKeyArray, indices: Int[Array, " members"]) -> Array:
    """Of a key for each member, whatever else is in the ensemble."""
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
    return jax.random.key_data(keys)


@eqx.filter_jit
def _start(
    flow: AbstractNetworkFlow,
    networks: eqx.Module,
    args: PyTree,
    stops: tuple[AbstractStop, ...],
) -> Start:
    arrays, rest = eqx.partition(networks, eqx.is_array)

    def one(member):
        network, args, stops = member
        state = flow.enter(eqx.combine(network, rest), args)
        return state, tuple(
            _with_vanishing_gradient(stop, flow, state, args) for stop in stops
        )

    # In pieces: all members at once would need all their activations at once.
    states, filled = jax.lax.map(one, (arrays, args, stops), batch_size=64)
    return Start(states, args, filled)


def _with_vanishing_gradient(stop: AbstractStop, flow, state, args) -> AbstractStop:
    """`Stationary` without a gradient of its own: a billionth of that at the start."""
    if not isinstance(stop, Stationary) or stop.gradient is not None:
        return stop
    clock = jnp.zeros((), jnp.result_type(*jax.tree_util.tree_leaves(state)))
    velocity = flow.vector_field(clock, state, args)
    snapshot = flow.snapshot(clock, state, velocity, args)
    return Stationary(stop.tolerance, 1e-9 * snapshot.gradient_norm)
