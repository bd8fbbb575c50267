"""Results from disk."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import equinox as eqx

from ..errors import InputError, StoreError
from ..stores import as_path
from . import _store as store
from ._result import AbstractResult, kinds_of_results, read_result
from ._structure import as_trust, Trust


def load(
    path: str | os.PathLike,
    network: Any = None,
    *,
    trust: Iterable[str | ModuleType] = (),
) -> Any:
    """Read a result that `save` or a run with `store=` wrote, networks included.

    A file is data, and reading it runs nothing that it names: its networks are made of
    modules of jaxflow and Equinox, and of functions such as `jax.nn.relu`. For networks of
    your own classes pass `network` or `trust`. Every byte is compared with what was
    written.

    Arguments:
        path: the folder of the store.
        network: any network of the same structure. Its arrays are not read.
        trust: modules of yours, or their names, whose classes and functions the file may
            name; they are imported.

    Returns:
        The `Solution`, `KKTPoints`, `EarlyConvergence` or `SaddleToSaddle`.

    Raises:
        StoreError: if there is no whole result at the path, or if its network cannot be
            rebuilt.

    Examples:
        >>> import jax, jaxflow as jf, tempfile
        >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> solution = jf.gradient_flow(network, task, stop=[jf.RescaledTime(0.1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     solution.save(f"{folder}/run.zarr")
        ...     again = jf.load(f"{folder}/run.zarr")
        >>> bool(again.loss == solution.loss)
        True
    """
    folder, trusted = as_path(path, "path"), as_trust(trust)
    if network is not None and not isinstance(network, eqx.Module):
        found = type(network).__name__
        raise InputError("network", found, "an equinox.Module like the saved ones")
    return _from_store(folder, network, trusted, lazily=False)


def open_stored(path: pathlib.Path, network: Any) -> Any:
    """The result in a store, whose weights and records are read when they are used."""
    return _from_store(path, network, (), lazily=True)


def _from_store(
    path: pathlib.Path, network: Any, trust: Trust, *, lazily: bool
) -> AbstractResult:
    group = store.read(path, network, trust, lazily=lazily)
    with store.damage(path):
        name = group.about["result"]
        if name not in kinds_of_results():
            raise StoreError(f"{path} holds a result of the kind {name!r}, not known here.")
        return read_result(kinds_of_results()[name], group)
