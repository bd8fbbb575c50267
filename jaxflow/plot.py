"""Pictures of results. Every function draws into `ax` (or `axes`) and returns it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes

from .errors import InputError
from .results import Solution

_BAND = (0.1, 0.9)
_MOST_LINES = 60


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
    dataset = _dataset(results)
    values, grid = _values_and_grid(dataset, name)
    x = grid if against is None else np.asarray(against)
    x = np.broadcast_to(x, values.shape[:2])
    ax = _axes(ax)
    if values.ndim == 2:
        for member in range(min(len(values), _MOST_LINES)):
            ax.plot(x[member], values[member], color="C0", alpha=0.25, linewidth=0.6)
        ax.plot(_middle(x), _middle(values), color="C0", linewidth=2, label="median")
    else:
        entries = values.reshape(*values.shape[:2], -1)
        for entry in range(entries.shape[-1]):
            low, high = np.nanquantile(entries[..., entry], _BAND, axis=0)
            label = f"{dataset[name].dims[-1]} {entry + 1}"
            color = f"C{entry}"
            ax.fill_between(_middle(x), low, high, color=color, alpha=0.2, linewidth=0)
            ax.plot(_middle(x), _middle(entries[..., entry]), color=color, label=label)
        ax.legend(frameon=False)
    ax.set_xlabel(_grid_name(dataset) or "")
    ax.set_ylabel(name)
    return ax


def early_phase(
    results: Solution | xarray.Dataset, *, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Four panels of the early phase: norm, cosine, loss and stable rank of each layer.

    Against the share of the rescaled time that is left before the escape, `1 - s/T*`,
    which is where everything happens: near `T*` the norm grows like
    `((L-2) L N (T* - s))^(-1/(L-2))`, drawn as a dashed line.

    **Arguments:**

    - `results`: a `Solution` or dataset with the records `norm`, `cosine`, `loss` and
      `stable_rank` over rescaled time, and with `blow_up_time` and `kkt_value`, as the
      demo makes it.
    - `axes`: four matplotlib axes; a new figure if not given.

    **Returns:** the four axes.

    **Raises:** `InputError` if one of these is missing.
    """
    dataset = _dataset(results)
    for name in ("blow_up_time", "kkt_value"):
        if name not in dataset:
            raise InputError("results", f"a dataset without {name}", "one with it")
    axes = four_panels() if axes is None else list(axes)
    end = dataset["blow_up_time"].values[:, None]
    left = 1 - np.asarray(dataset["rescaled_time"]) / end
    norm, cosine, loss, rank = (
        recorded(dataset, name, against=left, ax=ax)
        for name, ax in zip(("norm", "cosine", "loss", "stable_rank"), axes)
    )
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlim(1, np.nanmin(left))
        ax.set_xlabel("rescaled time left before the escape, $1 - s/T^*$")
        ax.grid(alpha=0.25)
    for ax in axes[:2]:
        ax.set_xlabel("")
    order = float(dataset.attrs["order"])
    # What the norm tends to once the direction rests, with dρ/dτ = L N.
    rate = (order - 2) * order * dataset["kkt_value"].values[:, None] * end
    theory = dataset["scale"].values[:, None] * (rate * left) ** (-1 / (order - 2))
    norm.plot(_middle(left), _middle(theory), "k--", linewidth=1.2, label="theory")
    norm.set_ylim(bottom=0.7 * float(dataset["scale"].values[0]))
    norm.set_yscale("log")
    norm.set(title="the weights stay tiny", ylabel=r"$\|w\|$")
    norm.legend(frameon=False)
    cosine.set(title="their direction converges to a KKT point", ylabel="cosine")
    cosine.axhline(1, color="k", linewidth=0.8, linestyle=":")
    loss.set(title="the loss does not move", ylabel=r"$\mathcal{L}(w)$")
    loss.set_ylim(0, 1.15 * np.nanmax(dataset["loss"]))
    rank.set(title="every layer becomes rank one", ylabel="stable rank")
    rank.set_ylim(bottom=0)
    return axes


def four_panels() -> list[Axes]:
    """Axes of a new figure with two rows of two panels over one x axis."""
    _, grid = plt.subplots(2, 2, figsize=(9.5, 6.5), layout="constrained", sharex=True)
    return list(grid.ravel())


def _dataset(results) -> xarray.Dataset:
    dataset = results.dataset if isinstance(results, Solution) else results
    return dataset if "init" in dataset.dims else dataset.expand_dims("init")


def _values_and_grid(dataset, name):
    if name not in dataset or _grid_name(dataset) is None:
        raise InputError("name", repr(name), f"a recorded function of {list(dataset)}")
    return dataset[name].values, dataset[_grid_name(dataset)].values


def _grid_name(dataset) -> str | None:
    others = [str(name) for name in dataset.coords if name != "init"]
    return others[0] if others else None


def _middle(values):
    return np.nanmedian(values, axis=0)


def _axes(ax) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax
