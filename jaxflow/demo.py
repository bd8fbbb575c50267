"""The main job: early directional convergence, seen on handwritten digits.

From a tiny initialization the weights of a deep homogeneous network stay tiny for a time
of order δ^(2-L) and converge in direction to KKT points of the neural correlation
function (arXiv:2403.08121). Two runs from the same starts show it: the δ → 0 limit, whose
rest points are the KKT points, and gradient flow itself at a small δ.
"""

import os
import pathlib
import tempfile
import warnings
from typing import NamedTuple

import jax
import matplotlib.backend_bases
import matplotlib.pyplot as plt
import numpy as np
import rich.box
import rich.table
import xarray

from . import plot
from ._checks import check_positive
from .errors import InputError
from .flows import ncf
from .networks import FeedForward, LeakyReLU, sample_ensemble
from .observables import cosine, CosineTo, kkt_residual, loss, norm, stable_rank
from .results import Solution
from .runs import gradient_flow, ncf_flow
from .stops import NormAbove
from .stores import check_own
from .tasks import data

_SIZES = (64, 16, 16, 1)
_GRID_POINTS = 40


class Demo(NamedTuple):
    """The two runs, and what to show of them."""

    flow: Solution
    limit: Solution
    dataset: xarray.Dataset


def run_demo(
    *,
    members: int = 256,
    images: int = 100,
    scale: float = 1e-8,
    seed: int = 0,
    progress: bool | None = None,
) -> Demo:
    """Digits 3 against 8, logistic loss, D = 3, power 2, from many initializations.

    Every member runs to the end of its early phase, where its norm has grown to √δ, and is
    compared with the KKT point that the δ → 0 limit from the same start reaches.

    Arguments:
        members: initializations.
        images: training samples.
        scale: the initialization scale δ, below 1.
        seed: of the initial directions.
        progress: whether to show progress bars; on a terminal only if `None`.

    Returns:
        A `Demo`; its dataset has `blow_up_time` and the quantities of `table`.
    """
    scale = check_positive("scale", scale)
    task = data.digits((3, 8), images)
    network = FeedForward(_SIZES, LeakyReLU(0.5, 2), key=jax.random.key(seed))
    starts = sample_ensemble(network, members, key=jax.random.key(seed + 1))
    attrs = {"seed": seed, "data": f"digits 3 and 8, {images} images"}
    limit = ncf_flow(starts, task, progress=progress, attrs=attrs)

    def followed(blow_up_time):
        return gradient_flow(
            starts,
            task,
            scale=scale,
            stop=NormAbove(scale**0.5),
            record={
                "norm": norm,
                "cosine": CosineTo(limit.directions, per_member=True),
                "loss": loss,
                "stable_rank": stable_rank,
            },
            record_at=_grid(blow_up_time),
            progress=progress,
            attrs=attrs,
        )

    # The grid comes much closer to T* than the limit flow's tolerance lets anybody know it.
    # What counts is the T* of these very steps: the same program makes them again.
    assert limit.blow_up_time is not None
    escape = followed(limit.blow_up_time)
    escaped = escape.status == "NormAbove"
    blow_up_time = np.where(escaped, escape.rescaled_time, limit.blow_up_time)
    flow = followed(blow_up_time)
    return Demo(flow, limit, _with_comparison(flow, limit, blow_up_time, task))


def _grid(blow_up_time) -> np.ndarray:
    """Rescaled times that come closer to each member's T* by a constant factor."""
    finite = np.isfinite(blow_up_time)
    if not finite.any():
        raise InputError(
            "members", "not one that reaches a positive KKT point", "more of them"
        )
    # A member that goes to zero has no T* of its own.
    end = np.where(finite, blow_up_time, np.max(blow_up_time[finite]))
    closest = np.log10(1e4 * np.finfo(end.dtype).eps)
    left = np.concatenate([[1.0], np.logspace(-0.05, closest, _GRID_POINTS)])
    return end[:, None] * (1 - left)


def _with_comparison(flow, limit, blow_up_time, task) -> xarray.Dataset:
    """The flow's dataset, and where each member stands beside its KKT point."""

    def compare(pair):
        ended, point = pair
        return {
            "final_cosine": cosine(ended, point),
            "final_kkt_residual": kkt_residual(ended, task, relative=True),
            "final_stable_rank": stable_rank(ended),
            "kkt_value": ncf(point, task),
            "kkt_residual": kkt_residual(point, task, relative=True),
        }

    # One member after the other: see docs/guides/performance.md on batched decompositions.
    found = jax.lax.map(compare, (flow.directions, limit.directions))
    found["blow_up_time"] = blow_up_time
    described = {
        "final_cosine": "cosine to the KKT point that the δ → 0 limit reaches",
        "final_kkt_residual": "KKT residual relative to the gradient",
        "final_stable_rank": "stable rank of each layer",
        "kkt_value": "value N of the member's KKT point",
        "kkt_residual": "relative KKT residual of the member's KKT point",
        "blow_up_time": "T*, the time of the escape; that of the δ → 0 limit if none",
    }
    columns = {
        name: (
            ("init", "layer")[: np.ndim(values)],
            np.asarray(values),
            {"long_name": described[name], "units": "1"},
        )
        for name, values in found.items()
    }
    return flow.dataset.assign(columns)


def table(demo: Demo) -> rich.table.Table:
    """What the demo found, one row for each KKT point that attracted members."""
    dataset = demo.dataset
    scale = float(dataset["scale"][0])
    order = dataset.attrs["jaxflow"]["settings"]["order"]
    lines = rich.table.Table(
        title=f"Early phase at δ = {scale:g}: D = {len(_SIZES) - 1}, order L = {order}, "
        f"{dataset.sizes['init']} initializations",
        caption="One row for each KKT point (value N); medians over the members that go "
        "there. Residual: of the KKT equations, relative; ranks: stable, of each layer.",
        box=rich.box.SIMPLE_HEAD,
    )
    for name in ("N", "members", "‖w‖/δ", "1 - cos", "residual", "ranks", "time"):
        lines.add_column(name, justify="right", no_wrap=True)
    values = dataset["kkt_value"].values
    keys = np.round(values / np.abs(values).max(), 6)
    for key in np.unique(keys)[::-1]:
        group = dataset.isel(init=np.flatnonzero(keys == key))
        grown = np.median(group["final_log_norm"].values) - np.log(scale)
        ranks = np.median(group["final_stable_rank"].values, axis=0)
        exponent = np.median(group["final_log_time"].values) / np.log(10)
        lines.add_row(
            f"{np.median(group['kkt_value']):.6f}",
            str(group.sizes["init"]),
            f"{np.exp(grown):.0e}",
            f"{np.median(1 - group['final_cosine']):.0e}",
            f"{np.median(group['final_kkt_residual']):.0e}",
            " ".join(f"{rank:.2f}" for rank in ranks),
            f"10^{exponent:.1f}",
        )
    return lines


def check_output(folder: pathlib.Path) -> None:
    """Whether `save` can write there, which a long computation should not wait to see.

    Raises:
        InputError: if it is no folder or cannot be written.
        StoreError: if there is something in it that is not jaxflow's to replace.
    """
    expected = "a folder for a figure and the results"
    if folder.exists() and not folder.is_dir():
        raise InputError("output", f"the file {folder}", expected)
    if folder.suffix in (*_known_suffixes(), ".zarr") and not folder.is_dir():
        raise InputError("output", f"{folder}, the name of a file", expected)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"{folder}, which cannot be written ({error.strerror})"
        raise InputError("output", found, expected) from error
    for path in _paths(folder).stores:
        if os.path.lexists(path):
            check_own(path)


def _known_suffixes() -> list[str]:
    """Of the files that a figure can be."""
    kinds = matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    return [f".{kind}" for kind in kinds]


class _Paths(NamedTuple):
    figure: pathlib.Path
    dataset: pathlib.Path
    stores: tuple[pathlib.Path, pathlib.Path]  # of the flow, and of the limit


def _paths(folder: pathlib.Path) -> _Paths:
    flow, limit = folder / "flow.zarr", folder / "limit.zarr"
    return _Paths(folder / "early_phase.png", folder / "early_phase.zarr", (flow, limit))


def save(demo: Demo, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the figure, its dataset and both solutions into a folder.

    Returns:
        The paths written; what an earlier run left there is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = _paths(folder)
    axes = plot.early_phase(demo.dataset)
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    figure.savefig(paths.figure, dpi=150)
    plt.close(figure)
    with warnings.catch_warnings():
        # Zarr warns who writes consolidated descriptions, xarray who reads without them.
        warnings.filterwarnings("ignore", "Consolidated metadata")
        demo.dataset.to_zarr(paths.dataset, mode="w", consolidated=True)
    for solution, path in zip((demo.flow, demo.limit), paths.stores):
        solution.save(path, overwrite=True)
    return [paths.figure, paths.dataset, *paths.stores]
