"""The main job: early directional convergence, seen on handwritten digits.

From a tiny initialization the weights of a deep homogeneous network stay tiny for a time
of order δ^(2-L) and converge in direction to KKT points of the neural correlation
function (arXiv:2403.08121). The study in `demo.toml` shows it.
"""

import importlib.resources
import os
import pathlib
import tempfile
from typing import NamedTuple

import matplotlib.backend_bases
import matplotlib.pyplot as plt

from . import plot
from .early_phase import EarlyPhase
from .errors import InputError
from .stores import check_own
from .studies import Study


def study(
    *,
    members: int = 256,
    images: int = 100,
    scale: float = 1e-8,
    seed: int = 0,
    float32: bool = False,
) -> Study:
    """Digits 3 against 8, logistic loss, D = 3, power 2, from many initializations.

    Arguments:
        members: initializations.
        images: training samples.
        scale: the initialization scale δ, below 1.
        seed: of the initial directions.
        float32: single precision.

    Raises:
        StudyError: for what does not fit.
    """
    text = importlib.resources.files("jaxflow").joinpath("demo.toml")
    changes = {
        "initialization.num": members,
        "initialization.scale": scale,
        "initialization.seed": seed + 1,
        "data.num": images,
        "precision": "float32" if float32 else "float64",
    }
    return Study.from_text(text.read_text(encoding="utf-8"), name="demo").replace(changes)


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
    if os.path.lexists(_paths(folder).store):
        check_own(_paths(folder).store)


def _known_suffixes() -> list[str]:
    """Of the files that a figure can be."""
    kinds = matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    return [f".{kind}" for kind in kinds]


class _Paths(NamedTuple):
    figure: pathlib.Path
    store: pathlib.Path
    study: pathlib.Path


def _paths(folder: pathlib.Path) -> _Paths:
    names = ("early_phase.png", "early_phase.zarr", "early_phase.toml")
    return _Paths(*(folder / name for name in names))


def save(found: EarlyPhase, asked: Study, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the figure, the result and the study into a folder.

    Returns:
        The paths written; what an earlier run left there is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = _paths(folder)
    axes = plot.early_phase(found)
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    figure.savefig(paths.figure, dpi=150)
    plt.close(figure)
    found.save(paths.store, overwrite=True)
    paths.study.write_text(asked.to_toml(), encoding="utf-8")
    return list(paths)
