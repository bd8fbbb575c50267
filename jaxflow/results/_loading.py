"""Results from disk."""

import pathlib
from typing import Any

from . import _store as store
from ._result import AbstractResult, kinds_of_results, read_result


def load(path: str | pathlib.Path, network: Any = None) -> Any:
    """Read a result that `save` or a run with `store=` wrote, networks included.

    **Arguments:**

    - `path`: the folder of the store.
    - `network`: any network of the same structure; needed only where the class of the
      saved one cannot be imported any more. Its arrays are not read.

    **Returns:** the `Solution`, `KKTPoints`, `EarlyConvergence` or `SaddleToSaddle`.

    **Raises:** `StoreError` if there is no whole result at the path, or if its network
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


def open_stored(path: pathlib.Path, network: Any) -> Any:
    """The result in a store, whose weights and records are read when they are used."""
    return _from_store(path, network, lazily=True)


def _from_store(path: pathlib.Path, network: Any, *, lazily: bool) -> AbstractResult:
    group = store.read(path, network, lazily=lazily)
    with store.damage(path):
        name = group.about["result"]
        if name not in kinds_of_results():
            raise KeyError(f"results of the kind {name!r} are not known")
        return read_result(kinds_of_results()[name], group)
