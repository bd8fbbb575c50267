"""The result of a run."""

import dataclasses
import functools
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray

from ..errors import StoreError
from . import _store as store, _summary as summary, _tables as tables
from ._records import Records, Stats


class _OnDemand:
    """A field that may be given as a function, which is called when it is first read."""

    def __init__(self, name: str):
        self._name = name

    def __get__(self, solution, owner=None) -> Any:
        if solution is None:
            return self
        value = vars(solution)[self._name]
        if isinstance(value, types.FunctionType):
            value = vars(solution)[self._name] = value()
        return value

    def __set__(self, solution, value):
        vars(solution)[self._name] = value


@dataclasses.dataclass(frozen=True, repr=False)
class Solution:
    """Where every initialization ended, and what was recorded on the way.

    Arrays have a leading axis of members, `(num,)`, and are scalars for a single network.
    Printing a solution shows a summary.

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
    >>> ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
    >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
    >>> solution = jf.gradient_flow(ensemble, task, stop=[jf.RescaledTime(0.1)])
    >>> solution.status.tolist()
    ['RescaledTime', 'RescaledTime', 'RescaledTime', 'RescaledTime']
    >>> solution.dataset.sizes["init"]
    4
    """

    kind: str
    """`"gradient flow"`, `"neural correlation flow"` or `"gradient descent"`."""
    directions: Any
    """The final directions `w/‖w‖`, as (stacked) networks of unit norm. A run with
    `store=` reads them from its store when they are asked for."""
    log_norm: np.ndarray
    """`log ‖w‖`; `log ‖u‖ = log(‖w‖/δ)` in the limit δ → 0."""
    scale: np.ndarray
    """The initialization scale δ."""
    rescaled_time: np.ndarray
    """`s = δ^(L-2) t`."""
    log_time: np.ndarray
    """`log t`, natural logarithm."""
    loss: np.ndarray
    """`𝓛(w)`, a sum over samples."""
    status: np.ndarray
    """The name of the stop condition that ended each member, or of what made it fail:
    `"max_steps"`, `"non_finite"`, `"step_too_small"`, `"solver_failed"`."""
    stats: Stats
    records: Records | None
    blow_up_time: np.ndarray | None
    """`T*` of the limit flow: infinity if none, NaN if not known yet; `None` otherwise."""
    attrs: Mapping[str, Any]
    """Settings, versions and whatever the caller added."""
    opened: xarray.Dataset | None = None
    """The dataset of a run with `store=`, whose arrays are read when they are used."""

    @property
    def is_ensemble(self) -> bool:
        """Whether there is a leading axis of members."""
        return np.ndim(self.log_norm) == 1

    @functools.cached_property
    def networks(self) -> eqx.Module:
        """The final weights `w = e^ρ v`, as (stacked) networks."""
        factor = jnp.exp(jnp.asarray(self.log_norm))

        def scaled(leaf):
            if not eqx.is_inexact_array(leaf):
                return leaf
            return factor.reshape(factor.shape + (1,) * (leaf.ndim - factor.ndim)) * leaf

        return jax.tree_util.tree_map(scaled, self.directions)

    @functools.cached_property
    def dataset(self) -> xarray.Dataset:
        """Everything but the weights as an `xarray.Dataset`.

        Dimensions `init` and, for records, the quantity that the grid runs over; final
        values are named `final_…`. Units and descriptions are in the attributes. After a
        run with `store=` it is opened lazily.
        """
        return self.opened if self.opened is not None else tables.to_dataset(self)

    def save(self, path: str | pathlib.Path, *, overwrite: bool = False) -> None:
        """Write the solution to a Zarr store that `jaxflow.load` reads back.

        The store appears under its name only when it is whole. Its root group is
        `dataset`, which opens with `xarray.open_zarr` and without jaxflow.

        **Arguments:** the `path` of a folder; `overwrite` replaces an existing one.

        **Raises:** `StoreError` if the path exists, or if a part of the network (a lambda,
        say) cannot be described in a file.
        """
        store.write(pathlib.Path(path), self.dataset, self.directions, overwrite=overwrite)

    def __repr__(self) -> str:
        return summary.summarize(self)


# Not in the class, where a dataclass would take it for a default.
Solution.directions = _OnDemand("directions")


def load(path: str | pathlib.Path, network: eqx.Module | None = None) -> Solution:
    """Read a solution that `Solution.save` wrote, network included.

    **Arguments:**

    - `path`: the folder of the store.
    - `network`: any network of the same structure; needed only where the class of the
      saved one cannot be imported any more. Its arrays are not read.

    **Returns:** the `Solution`.

    **Raises:** `StoreError` if there is no whole solution at the path, or if its network
    cannot be rebuilt.

    >>> import jax, jaxflow as jf, tempfile
    >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
    >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
    >>> solution = jf.gradient_flow(network, task, stop=[jf.RescaledTime(0.1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     solution.save(f"{folder}/run.zarr")
    ...     again = load(f"{folder}/run.zarr")
    >>> bool(again.loss == solution.loss)
    True
    """
    return _from_store(pathlib.Path(path), network, lazily=False)


def open_stored(path: pathlib.Path, network: eqx.Module) -> Solution:
    """The solution in a store, whose weights and records are read when they are used."""
    return _from_store(path, network, lazily=True)


def _from_store(path, network, *, lazily) -> Solution:
    stored = store.read(path, network, lazily=lazily)
    try:
        fields = tables.from_dataset(stored.dataset)
    except KeyError as error:
        raise StoreError(f"{path} is not a whole solution: {error}") from error
    opened = stored.dataset if lazily else None
    return Solution(directions=stored.directions, opened=opened, **fields)  # pyright: ignore
