"""The result of a run."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray

from ..errors import StoreError
from . import store, summary, tables
from .parts import Records, Stats


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
    directions: eqx.Module
    """The final directions `w/‖w‖`, as (stacked) networks of unit norm."""
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
        values are named `final_…`. Units and descriptions are in the attributes.
        """
        return tables.to_dataset(self)

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
    dataset, directions = store.read(pathlib.Path(path), network)
    try:
        fields = tables.from_dataset(dataset)
    except KeyError as error:
        raise StoreError(f"{path} is not a whole solution: {error}") from error
    return Solution(directions=directions, **fields)
