"""What a study left in a folder: its settings, its results, and what went wrong."""

import dataclasses
import itertools
import json
import pathlib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import rich.box
import rich.table
import xarray

from ..errors import StoreError
from ..results import (
    AbstractResult,
    decode,
    ended_by,
    Ending,
    endings,
    is_collection,
    load,
    median,
    MEMBERS,
    place_of,
    read_collection,
    UNFINISHED,
)
from ..stores import as_path
from ._study import ATTR, FAILURES, SWEPT

_SHOWN = {
    "final_loss": "loss",
    "test_loss": "test loss",
    "final_log_norm": "log ‖w‖",
    "final_log_time": "log t",
    "value": "largest N",
}
"""Columns of a table, and what it calls them."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The folder of a study that has been run, or of a result of jaxflow's.

    Given its `path`; the text of the `study`, `None` for a result that is of none; the
    `dataset` of all settings; what is `swept`, by dimension; the `failures` of settings, by
    what they are; and the `result` itself, if there is one only.
    """

    path: pathlib.Path
    study: str | None
    dataset: xarray.Dataset
    swept: tuple[str, ...] = ()
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    result: AbstractResult | None = None

    @property
    def title(self) -> str:
        tables = tomllib.loads(self.study) if self.study else {}
        return str(tables.get("title", self.path.name))

    @property
    def num_members(self) -> int:
        """How many members there are, over all settings."""
        if "status" in self.dataset:
            return len(_statuses(self.dataset))
        return self.num_settings * self.dataset.sizes.get(MEMBERS, 1)

    @property
    def num_settings(self) -> int:
        return int(np.prod([self.dataset.sizes[dim] for dim in self.swept], dtype=int))

    @property
    def endings(self) -> list[Ending]:
        """How members ended: failures first."""
        return _endings(self.dataset)

    def each(self) -> Iterator[tuple[str, dict[str, Any], xarray.Dataset]]:
        """For every setting what it is in words, its values, and its dataset."""
        sizes = [range(self.dataset.sizes[dim]) for dim in self.swept]
        for place in itertools.product(*sizes):
            one = self.dataset.isel(dict(zip(self.swept, place)))
            values = {dim: one[dim].item() for dim in self.swept}
            words = [f"{name} = {in_a_cell(value)}" for name, value in values.items()]
            yield ", ".join(words), values, one


def read_outcome(path: pathlib.Path) -> Outcome:
    """What is in a folder.

    Raises:
        StoreError: for a folder that is no whole result.
    """
    path = as_path(path, "path")
    if is_collection(path):
        dataset, attributes = read_collection(path)
        if dataset is None:
            raise StoreError(
                f"{path} is of a study that has not finished: repeat the command that "
                "began it, and it goes on from there."
            )
        failures = json.loads(attributes.get(FAILURES, "{}"))
        swept = tuple(json.loads(attributes[SWEPT]))
        dataset.attrs = {n: v for n, v in dataset.attrs.items() if n == "jaxflow"}
        found = Outcome(path, attributes[ATTR], dataset, swept, failures)
        return (
            found
            if swept
            else dataclasses.replace(found, result=load(place_of(path, 0), trust=()))
        )
    result = load(path, trust=())
    return Outcome(path, result.attrs.get(ATTR), result.dataset, result=result)


def table_of(outcome: Outcome) -> rich.table.Table:
    """How members ended and where, one line for each setting."""
    dataset = outcome.dataset
    lines = rich.table.Table(
        title=outcome.title,
        title_justify="left",
        caption="loss, log ‖w‖ and log t: medians over members",
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    for dim in outcome.swept:
        lines.add_column(dim, justify="right")
    lines.add_column("members", justify="right")
    has_status = "status" in dataset
    if has_status:
        lines.add_column("ended")
    shown = [n for n in _SHOWN if n in dataset and np.isfinite(dataset[n]).any()]
    for name in shown:
        lines.add_column(_SHOWN[name], justify="right")
    for _, values, one in outcome.each():
        cells = [in_a_cell(value) for value in values.values()]
        names = _statuses(one)
        num = len(names) if has_status else one.sizes.get(MEMBERS, 1)
        cells.append(f"{num:,}")
        if has_status:
            cells.append(ended_by(names) if num else "failed")
        cells += [f"{_middle(name, one):.4g}" for name in shown]
        lines.add_row(*cells)
    return lines


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The summary in plain values."""
    settings = []
    for _, values, one in outcome.each():
        ended = {end.name: int(end.rows.sum()) for end in _endings(one)}
        middles = {word: _number(_middle(n, one)) for n, word in _SHOWN.items() if n in one}
        settings.append({"values": values, "ended": ended, "medians": middles})
    return {
        "path": str(outcome.path),
        "title": outcome.title,
        "members": outcome.num_members,
        "settings": settings,
        "failures": dict(outcome.failures),
    }


def _statuses(dataset: xarray.Dataset) -> np.ndarray:
    """Those of the members that there are; none where a setting failed."""
    if "status" not in dataset:
        return np.array([], str)
    names = np.ravel(decode(dataset["status"]))
    return names[names != UNFINISHED]


def _endings(dataset: xarray.Dataset) -> list[Ending]:
    names = _statuses(dataset)
    return endings(names) if len(names) else []


def _middle(name: str, dataset: xarray.Dataset) -> float:
    """The median over members that are there; of KKT points the largest value."""
    values = np.ravel(np.asarray(dataset[name].values, float))
    if name == "value":
        return float(np.nanmax(values, initial=np.nan)) if len(values) else np.nan
    return median(values)


def in_a_cell(value: Any) -> str:
    """A swept value in words."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
