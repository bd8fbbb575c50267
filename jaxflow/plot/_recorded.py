"""A recorded quantity of all members."""

import numpy as np
import xarray
from matplotlib.axes import Axes

from .._checks import check_numbers, shown
from ..errors import InputError
from ..results import Solution
from ._axes import dataset_of, draw_members, median, new_if_none

_BAND = (0.1, 0.9)


def recorded(
    results: Solution | xarray.Dataset,
    name: str,
    *,
    against: xarray.DataArray | np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a recorded quantity of all members against its grid.

    Each member is a thin line; the median is thick. A quantity with a further axis (such
    as one value for each layer) is drawn as one median for each entry, with the band that
    holds 80% of the members.

    **Arguments:**

    - `results`: a `Solution`, or its dataset.
    - `name`: of the recorded function.
    - `against`: what to draw it against, (points,) or (init, points); the grid if not
      given.
    - `ax`: matplotlib axes; new ones if not given.

    **Returns:** the axes.

    **Raises:** `InputError` if nothing was recorded under that name.

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
    >>> ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
    >>> solution = jf.gradient_flow(
    ...     ensemble,
    ...     jf.Task(jax.numpy.eye(2), jax.numpy.ones(2)),
    ...     scale=0.1,
    ...     stop=[jf.RescaledTime(1.0)],
    ...     record={"norm": jf.norm},
    ...     record_at=[0.0, 0.5, 1.0],
    ... )
    >>> recorded(solution, "norm").get_ylabel()
    'norm'
    """
    dataset = dataset_of("results", results, "a Solution, or its dataset")
    grid = _grid_name(dataset)
    known = isinstance(name, str) and name in dataset and dataset[name].ndim >= 2
    if not known or grid is None:
        raise InputError("name", shown(name), f"a recorded function of {list(dataset)}")
    values = dataset[name].values
    x = np.asarray(dataset[grid])
    if against is not None:
        x = check_numbers("against", against, "numbers", lambda x: np.full(x.shape, True))
    if x.shape not in (values.shape[1:2], values.shape[:2]):
        found, expected = f"shape {x.shape}", f"(points,) or {values.shape[:2]}"
        raise InputError("against", found, expected)
    x = np.broadcast_to(x, values.shape[:2])
    ax = new_if_none(ax)
    if values.ndim == 2:
        draw_members(ax, x, values, (median(x), median(values)))
    else:
        entries = values.reshape(*values.shape[:2], -1)
        for entry in range(entries.shape[-1]):
            low, high = np.nanquantile(entries[..., entry], _BAND, axis=0)
            label = f"{dataset[name].dims[-1]} {entry + 1}"
            color = f"C{entry}"
            ax.fill_between(median(x), low, high, color=color, alpha=0.2, linewidth=0)
            ax.plot(median(x), median(entries[..., entry]), color=color, label=label)
        ax.legend(frameon=False)
    ax.set_xlabel(grid)
    ax.set_ylabel(name)
    return ax


def _grid_name(dataset) -> str | None:
    others = [str(name) for name in dataset.coords if name != "init"]
    return others[0] if others else None
