"""A sweep: the settings of a study, and which of them one run does at once."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._checks import shown
from ..errors import StudyError
from ._faults import checked, dotted, Source
from ._lines import Key
from ._schema import StudyTables


@dataclasses.dataclass(frozen=True)
class Axis:
    """A dimension of a sweep: keys that change together, and their values."""

    keys: tuple[Key, ...]
    values: tuple[tuple[Any, ...], ...]  # one tuple for each key, all of one length

    def __len__(self) -> int:
        return len(self.values[0])


@dataclasses.dataclass(frozen=True)
class Setting:
    """One point of a sweep: where it is, what is set there, and the study that it is."""

    place: tuple[int, ...]
    values: Mapping[Key, Any]
    tables: StudyTables
    plain: Mapping[str, Any]

    @property
    def label(self) -> str:
        """As in `scale = 0.01, width = 20`."""
        return ", ".join(f"{key[-1]} = {label_of(v)}" for key, v in self.values.items())


def label_of(value: Any) -> Any:
    """A value as a coordinate: a number, or a short text."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return "-".join(str(label_of(each)) for each in value)
    if isinstance(value, Mapping):
        return " ".join(str(label_of(each)) for each in value.values())
    return str(value)


def axes_of(plain: Mapping[str, Any], source: Source) -> list[Axis]:
    """The dimensions of the sweep of a study, none if it has no sweep.

    Raises:
        StudyError: for lists of different lengths, and what is no list.
    """
    sweep = plain.get("sweep")
    if sweep is None:
        return []
    expected = "a table of keys and lists of their values, or a list of such tables"
    if not isinstance(sweep, (Mapping, list)):
        raise source.fault(("sweep",), shown(sweep), expected)
    if isinstance(sweep, Mapping):
        columns = dict(_columns(sweep, ("sweep",), source))
        found = [Axis((key,), (tuple(values),)) for key, values in columns.items()]
    else:
        found = []
        for number, table in enumerate(sweep):
            if not isinstance(table, Mapping):
                raise source.fault(("sweep", number), shown(table), expected)
            columns = dict(_columns(table, ("sweep", number), source))
            lengths = {dotted(key): len(values) for key, values in columns.items()}
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{n} values of {key}" for key, n in lengths.items())
                expected = "as many for each, since they change together"
                raise source.fault(("sweep", number), told, expected)
            if columns:
                found.append(Axis(tuple(columns), tuple(map(tuple, columns.values()))))
    keys = [key for axis in found for key in axis.keys]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise source.fault(("sweep",), f"{dotted(twice)} twice", "each key once")
    return found


def _columns(
    table: Mapping[str, Any], place: Key, source: Source, above: Key = ()
) -> Iterator[tuple[Key, list]]:
    for name, value in table.items():
        key = (*above, *name.split("."))
        if isinstance(value, Mapping):
            yield from _columns(value, (*place, name), source, key)
        elif isinstance(value, list) and value:
            if key[0] in ("sweep", "output", "title"):
                raise source.fault((*place, name), dotted(key), "a key of the simulation")
            yield key, value
        else:
            raise source.fault((*place, name), shown(value), "a list of values")


def settings_of(plain: Mapping[str, Any], source: Source) -> list[Setting]:
    """All settings of a study, each checked: one if it has no sweep.

    Raises:
        StudyError: for the first that cannot be.
    """
    axes = axes_of(plain, source)
    base = {name: value for name, value in plain.items() if name != "sweep"}
    if not axes:
        return [Setting((), {}, checked(base, source), base)]
    found = []
    for place in itertools.product(*(range(len(axis)) for axis in axes)):
        values = {
            key: column[number]
            for axis, number in zip(axes, place)
            for key, column in zip(axis.keys, axis.values)
        }
        changed = base
        for key, value in values.items():
            changed = replaced(changed, key, value, source)
        found.append(Setting(place, values, _checked(changed, values, source), changed))
    return found


def _checked(plain: Mapping[str, Any], values: Mapping[Key, Any], source: Source):
    try:
        return checked(plain, source)
    except StudyError as error:
        for key in values:
            name = dotted(key)
            if error.key == name or error.key.startswith(f"{name}."):
                raise source.fault(("sweep", *key), error.found, error.expected) from error
        raise


def replaced(tables: Mapping[str, Any], key: Key, value: Any, source: Source) -> dict:
    """The tables with another value for a key."""
    first, *rest = key
    found = dict(tables)
    if not rest:
        found[str(first)] = value
        return found
    below = tables.get(str(first), {})
    if not isinstance(below, Mapping):
        raise source.fault(key, f"{first} = {shown(below)}, which has no keys", "a table")
    found[str(first)] = replaced(below, tuple(rest), value, source)
    return found


# -- what one run does at once --

_ALIKE = ("gradient_flow", "correlation_limit")


@dataclasses.dataclass(frozen=True)
class Group:
    """Settings that differ in numbers of their members alone, and are run as one."""

    settings: tuple[Setting, ...]


def groups_of(settings: Sequence[Setting]) -> list[Group]:
    """Settings by run. Each run has those that differ in δ and in thresholds of stops."""
    found: dict[str, list[Setting]] = {}
    for setting in settings:
        found.setdefault(_shared(setting), []).append(setting)
    return [Group(tuple(each)) for each in found.values()]


def _shared(setting: Setting) -> str:
    """All of a setting but the numbers that each member may have of its own."""
    tables, plain = setting.tables, dict(setting.plain)
    equation = tables.equation
    own = equation is not None and (
        equation.kind in _ALIKE
        or (equation.kind == "gradient_descent" and equation.batch_size is None)
    )
    if own:
        start = dict(plain.get("initialization", {}))
        if "scale" in start and "near_saddle" not in start:
            start["scale"] = None
        plain["initialization"] = start
        stop = plain.get("stop") or {}
        plain["stop"] = {name: _without_numbers(value) for name, value in stop.items()}
    return json.dumps(plain, sort_keys=True, default=str)


def _without_numbers(value: Any) -> Any:
    return sorted(value) if isinstance(value, Mapping) else None
