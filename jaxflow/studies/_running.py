"""Running the settings of a study: by groups, each from where it was left."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..observables import loss as loss_of
from ..results import AbstractResult
from ..runs import as_networks, RepeatedNetworks, run, Simulation
from ..stops import AbstractStop
from ..tasks import Task
from . import _schema as schema
from ._building import Workshop
from ._sweep import Group

_TABLES = {
    "equation": "equation",
    "networks": "network",
    "task": "data",
    "scale": "initialization.scale",
    "stepping": "stepping",
    "record": "record",
}
"""In which table of a study an argument of `Simulation` is."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A group of settings, ready to be run: all that can be refused has been."""

    group: Group
    call: Callable[..., AbstractResult]
    num: int  # of members of each setting
    simulation: Simulation | None  # `None` for an analysis
    network: eqx.Module
    task: Task
    test: Task | None

    def parts(self, result: AbstractResult) -> list[AbstractResult]:
        """The results of the settings, one after the other."""
        if len(self.group.settings) == 1:
            return [result]
        firsts = range(0, self.num * len(self.group.settings), self.num)
        return [result[first : first + self.num] for first in firsts]

    def finals(self, result: AbstractResult) -> dict[str, tuple[np.ndarray, dict]]:
        """Columns beside those of the result: its loss on a test."""
        if self.test is None:
            return {}
        one_each = eqx.filter_vmap(loss_of, in_axes=(eqx.if_array(0), None))
        networks = getattr(result, "networks")  # noqa: B009
        losses = np.asarray(one_each(networks, self.test))
        about = {"long_name": "loss on the data of the test, a sum over samples"}
        return {"test_loss": (losses, {**about, "units": "1"})}


def prepare(group: Group, workshop: Workshop) -> Prepared:
    """Make the parts of a group.

    Raises:
        StudyError: for what does not fit.
    """
    setting = group.settings[0]
    tables = setting.tables
    loss = workshop.loss(tables.loss, ("loss",))
    task, test = workshop.tasks(tables.data, ("data",), loss)
    if tables.test is not None:
        if test is not None:
            found = f"{tables.data.held_out} beside a test of its own"
            raise workshop.source.fault(("data", "held_out"), found, "one of the two")
        test = workshop.task(tables.test, ("test",), loss)
    task = workshop.whole_task(task, tables.reduction, tables.regularizer)
    if test is not None:  # looks at outputs alone
        test = workshop.whole_task(test, tables.reduction, None)
    network = workshop.network(tables.network, ("network",), task)
    drawn = workshop.networks(tables.initialization, network, task)
    num = tables.initialization.num
    if tables.analysis is not None:
        call = _analysis(tables, workshop, drawn, task, network)
        return Prepared(group, call, num, None, network, task, test)
    simulation = _simulation(group, workshop, drawn, task, network)
    call = functools.partial(run, simulation)
    return Prepared(group, call, num, simulation, network, task, test)


def _simulation(
    group: Group, workshop: Workshop, drawn: Any, task: Any, network: Any
) -> Simulation:
    tables = group.settings[0].tables
    equation = workshop.equation(tables.equation, ("equation",))
    stepping = workshop.stepping(tables.stepping, ("stepping",), network, task)
    record = workshop.record(tables.record, ("record",))
    times = len(group.settings)
    with workshop.source.at((), _TABLES):
        networks = as_networks(drawn, task, _is_ensemble(tables))
        if times > 1:
            networks = RepeatedNetworks(networks, times)  # pyright: ignore
        return Simulation(
            equation,
            networks,
            task,
            scale=_scales(group, tables.initialization.num),
            stop=_stops(group, workshop, tables.initialization.num),
            stepping=stepping,
            record=record,
        )


def _is_ensemble(tables: Any) -> bool | None:
    """Whether what members start from is known to have an axis of them."""
    return None if tables.initialization.near_saddle is None else True


def _scales(group: Group, num: int) -> Any:
    """δ of all members of a group; `None` where no setting gives it, or it is used up."""
    if group.settings[0].tables.initialization.near_saddle is not None:
        return 1.0
    scales = [setting.tables.initialization.scale for setting in group.settings]
    if all(scale is None for scale in scales):
        return None
    each = np.array([1.0 if scale is None else scale for scale in scales], float)
    return float(each[0]) if len(each) == 1 else np.repeat(each, num)


def _stops(group: Group, workshop: Workshop, num: int) -> list[AbstractStop] | None:
    """The stop conditions, with a threshold for each member where settings differ."""
    stops = [workshop.stops(setting.tables.stop) for setting in group.settings]
    first = stops[0]
    if first is None or len(stops) == 1:
        return first
    alike = lambda *values: (
        values[0] if len(set(values)) == 1 else np.repeat(np.array(values, float), num)
    )
    return [jax.tree_util.tree_map(alike, *each) for each in zip(*stops)]


def _analysis(tables: Any, workshop: Workshop, drawn: Any, task: Any, network: Any):
    table, key = tables.analysis, ("analysis",)
    call = schema.ANALYSES[table.kind]
    given = {name: value for name, value in table.given().items() if name != "kind"}
    if "solver" in given:
        given["solver"] = workshop.solver(given["solver"], (*key, "solver"), network, task)
    scale = tables.initialization.scale
    takes = inspect.signature(call).parameters
    if tables.initialization.near_saddle is not None:
        scale = 1.0
        given |= {"ensemble": True} if "ensemble" in takes else {}
    if scale is not None:
        if "scale" not in takes:
            found = f"{scale} with {table.kind}, which has none"
            raise workshop.source.fault(("initialization", "scale"), found, "no scale")
        given["scale"] = scale

    def do(**execution: Any) -> AbstractResult:
        with workshop.source.at(key, {"networks": "", "task": ""}):
            return call(drawn, task, **given, **execution)

    return do
