"""What a study left in a folder: its settings, its results, and what went wrong."""

import dataclasses
import itertools
import json
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

import numpy as np
import rich.box
import rich.table
import xarray

from ..errors import StoreError
from ..results import (
    decode,
    ended_by,
    Ending,
    endings,
    is_collection,
    load,
    median,
    read_collection,
)
from ._study import ATTR, FAILURES


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The folder of a study that has been run, or of a result of jaxflow's.

    Given its `path`; the text of the `study`, `None` for a result that is of none; the
    `dataset` of all settings; the `failures` of settings, by what they are; and whether it
    is of several settings.
    """

    path: pathlib.Path
    study: str | None
    dataset: xarray.Dataset
    failures: Mapping[str, str]
    is_sweep: bool

    @property
    def swept(self) -> list[str]:
        """The dimensions of the sweep."""
        sizes = self.dataset["final_loss"].dims if "final_loss" in self.dataset else ()
        return [str(dim) for dim in sizes if dim != "init"] if self.is_sweep else []

    @property
    def num_members(self) -> int:
        """How many members there are, over all settings."""
        return int(self.dataset["status"].size) if "status" in self.dataset else 0

    @property
    def endings(self) -> list[Ending]:
        """How members ended: failures first."""
        if "status" not in self.dataset:
            return []
        return endings(decode(self.dataset["status"]))


def read_outcome(path: pathlib.Path) -> Outcome:
    """What is in a folder.

    Raises:
        StoreError: for a folder that is no whole result.
    """
    if is_collection(path):
        dataset, attributes = read_collection(path)
        if dataset is None:
            raise StoreError(
                f"{path} is of a study that has not finished: repeat the command that began "
                "it, and it goes on from there."
            )
        failures = json.loads(attributes.get(FAILURES, "{}"))
        return Outcome(path, attributes[ATTR], dataset, failures, True)
    result = load(path, trust=())
    study = result.attrs.get(ATTR)
    return Outcome(path, study, result.dataset, {}, False)


def table_of(outcome: Outcome) -> rich.table.Table:
    """How members ended and where, one line for each setting."""
    dataset = outcome.dataset
    title = _title(outcome)
    lines = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    for dim in outcome.swept:
        lines.add_column(dim, justify="right")
    shown = [name for name in _SHOWN if name in dataset and "init" in dataset[name].dims]
    lines.add_column("members", justify="right")
    lines.add_column("ended")
    for name in shown:
        lines.add_column(_SHOWN[name], justify="right")
    for place in _places(outcome):
        one = dataset.isel(place)
        cells = [_cell(one[dim].item()) for dim in outcome.swept]
        cells.append(str(one.sizes.get("init", 1)))
        if "status" in one:
            cells.append(ended_by(decode(one["status"])))
        else:
            cells.append("")
        cells += [f"{median(one[name].values):.4g}" for name in shown]
        lines.add_row(*cells)
    return lines


_SHOWN = {
    "final_loss": "median loss",
    "test_loss": "median test loss",
    "final_log_norm": "median log ‖w‖",
    "final_log_time": "median log t",
}


def _places(outcome: Outcome) -> list[dict[str, int]]:
    sizes = [outcome.dataset.sizes[dim] for dim in outcome.swept]
    found = itertools.product(*(range(size) for size in sizes))
    return [dict(zip(outcome.swept, place)) for place in found]


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _title(outcome: Outcome) -> str:
    tables = tomllib.loads(outcome.study) if outcome.study else {}
    return str(tables.get("title", outcome.path.name))


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The summary in plain values."""
    dataset, settings = outcome.dataset, []
    for place in _places(outcome):
        one = dataset.isel(place)
        ended = {e.name: int(e.rows.sum()) for e in endings(decode(one["status"]))} if (
            "status" in one
        ) else {}
        medians = {
            name: _number(median(one[name].values))
            for name in _SHOWN
            if name in one and "init" in one[name].dims
        }
        values = {dim: one[dim].item() for dim in outcome.swept}
        settings.append({"values": values, "ended": ended, "medians": medians})
    return {
        "path": str(outcome.path),
        "title": _title(outcome),
        "members": outcome.num_members,
        "settings": settings,
        "failures": dict(outcome.failures),
    }


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
