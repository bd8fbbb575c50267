"""What of a network has grown and what is still small, at a saddle.

A saddle reached from a small initialization is a network of which some parts, say hidden
neurons, have grown and the others are still tiny. Where the tiny parts form a network of
their own, they follow the flow of the correlation function of the residual. This holds for

- two layers: parts are hidden neurons;
- modules with blocks of their own, of which the output is a sum: parts are these blocks,
  as the coordinates of a diagonal linear network are;
- linear networks of any depth: parts are singular directions, layer by layer.

Everything here is NumPy, with a leading axis of members.
"""

import abc
import itertools
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike

from ..networks import as_feed_forward, FeedForward, is_linear, own_blocks, unflatten_rows


class AbstractParts(abc.ABC):
    """How the parameters of one kind of network fall into parts."""

    separates: bool
    """Whether the small parts are a network of their own."""
    mixes: bool = False
    """Whether weights are sums of what has grown and what is small."""

    @abc.abstractmethod
    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """The size of every unit, (members, units)."""

    @abc.abstractmethod
    def rank(self, rows: np.ndarray, share: float) -> np.ndarray:
        """How many parts have grown, (members,)."""

    @abc.abstractmethod
    def small(self, rows: np.ndarray, share: float, reference: np.ndarray) -> np.ndarray:
        """The rows with all that has grown taken out, (members, parameters).

        What has grown is decided at the rows of the `reference`, of the same members.
        """

    @abc.abstractmethod
    def full(self, rows: np.ndarray, share: float) -> np.ndarray:
        """Whether nothing is left that could grow, (members,)."""

    def active(self, rows: np.ndarray, share: float) -> np.ndarray:
        """Which units are larger than a `share` of the largest, (members, units)."""
        return _large(self.sizes(rows), share)


def parts_of(network: eqx.Module, inputs: ArrayLike | None = None) -> AbstractParts:
    """How this network falls into parts.

    Arguments:
        network: one network.
        inputs: samples to find out its form at, as for `as_feed_forward`.
    """
    own = own_blocks(network)
    if own is not None:
        return OwnBlocks(own)
    chain = as_feed_forward(network, inputs)
    if chain is None:
        return Whole()
    if is_linear(chain.activation) and len(chain.weights) > 1:
        return SingularDirections(chain)
    return HiddenNeurons(chain) if len(chain.weights) == 2 else DeepNeurons(chain)


def _large(sizes: np.ndarray, share: float) -> np.ndarray:
    largest = np.max(sizes, axis=-1, keepdims=True, initial=0.0)
    return (sizes > share * largest) & (largest > 0)


class AbstractUnits(AbstractParts):
    """Parts that are the units themselves."""

    def rank(self, rows, share):
        return np.sum(self.active(rows, share), axis=1)

    def full(self, rows, share):
        return np.all(self.active(rows, share), axis=1)


class DeepNeurons(AbstractUnits):
    """Hidden neurons of a feed-forward network, layer by layer.

    The size of a neuron is the geometric mean of the norms of what makes it and of what
    reads it.
    """

    separates = False

    def __init__(self, network: FeedForward):
        self._network = network

    def sizes(self, rows):
        weights = _layers(self._network, rows)
        norms = [
            np.sqrt(np.linalg.norm(before, axis=2) * np.linalg.norm(after, axis=1))
            for before, after in itertools.pairwise(weights)
        ]
        return np.concatenate(norms, axis=1) if norms else np.zeros((len(rows), 0))

    def small(self, rows, share, reference):
        return np.full_like(rows, np.nan)


class HiddenNeurons(AbstractUnits):
    """The hidden neurons of a network of two layers."""

    separates = True

    def __init__(self, network: FeedForward):
        self._neurons = DeepNeurons(network)
        self._network = network

    def sizes(self, rows):
        return self._neurons.sizes(rows)

    def small(self, rows, share, reference):
        first, second = _layers(self._network, rows)
        kept = ~self.active(reference, share)
        first, second = first * kept[:, :, None], second * kept[:, None, :]
        return _rows((first, second))


class OwnBlocks(AbstractUnits):
    """The blocks that a module says its output is a sum of.

    Arguments:
        block: the number of each parameter's block, (parameters,).
    """

    separates = True

    def __init__(self, block: np.ndarray):
        self._block = block
        self._order = np.argsort(block, kind="stable")
        self._starts = np.flatnonzero(np.diff(block[self._order], prepend=-1))

    def sizes(self, rows):
        # The norm of a block, not the product of its factors: one factor that is large is
        # enough for the coordinate to have grown.
        squares = rows[:, self._order] ** 2
        return np.sqrt(np.add.reduceat(squares, self._starts, axis=1))

    def small(self, rows, share, reference):
        return rows * ~self.active(reference, share)[:, self._block]


class SingularDirections(AbstractParts):
    """The singular directions of every layer of a deep linear network."""

    separates = True
    mixes = True

    def __init__(self, network: FeedForward):
        self._neurons = DeepNeurons(network)
        self._network = network

    def sizes(self, rows):
        return self._neurons.sizes(rows)

    def rank(self, rows, share):
        return np.max([np.sum(g, axis=1) for g in self._grown(rows, share)], axis=0)

    def small(self, rows, share, reference):
        layers, rest = _layers(self._network, rows), []
        for layer, grown in zip(layers, self._grown(reference, share)):
            left, values, right = np.linalg.svd(layer, full_matrices=False)
            # As many leading directions are taken out as had grown at the reference.
            values = np.where(grown, 0.0, values)
            rest.append(np.einsum("mik,mk,mkj->mij", left, values, right))
        return _rows(tuple(rest))

    def full(self, rows, share):
        # The rank of a product is at most that of the factor with the lowest.
        return np.any([np.all(g, axis=1) for g in self._grown(rows, share)], axis=0)

    def _grown(self, rows, share) -> list[np.ndarray]:
        return [
            _large(np.linalg.svd(layer, compute_uv=False), share)
            for layer in _layers(self._network, rows)
        ]


class Whole(AbstractParts):
    """A network of which nothing is known."""

    separates = False

    def sizes(self, rows):
        return np.zeros((len(rows), 0))

    def rank(self, rows, share):
        return np.full(len(rows), -1)

    def small(self, rows, share, reference):
        return np.full_like(rows, np.nan)

    def full(self, rows, share):
        return np.ones(len(rows), bool)


def _layers(network: FeedForward, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    stacked: Any = unflatten_rows(network, rows)
    return stacked.weights


def _rows(layers: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate([layer.reshape(len(layer), -1) for layer in layers], axis=1)
