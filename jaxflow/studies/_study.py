"""A study: a simulation, or a sweep of them, written down."""

import contextlib
import copy
import functools
import json
import os
import pathlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tomli_w

from .._checks import check_flag, shown
from .._telling import tell
from ..engine import check_schedule, part_of, Schedule
from ..errors import InputError, JaxflowError, StoreError, StudyError
from ..results import AbstractResult, Collection, load
from ..stores import as_path
from ._building import Workshop
from ._faults import Source
from ._lines import Key
from ._makers import digest_of
from ._results import StudyResult
from ._running import prepare, Prepared
from ._starters import starter
from ._sweep import axes_of, Axis, Group, groups_of, replaced, Setting, settings_of

ATTR = "study"
"""The attribute of a store in which the text of its study is."""
SWEPT = "study_swept"
"""The attribute that names the dimensions of the sweep."""
FAILURES = "study_failures"
"""The attribute of the store of a sweep that says which settings failed, and why."""


class Study:
    """A simulation or an analysis, with what it is swept over, as a study file says it.

    It is a value: two are equal if they say the same, and `Study.from_toml(path)` of what
    `to_toml` wrote is the study itself.

    Arguments:
        tables: what a study file says, as a dict of dicts; see docs/guides/studies.md.
        folder: where files are that it names; the current one if not given.
        allow_code: whether it may run code of its own, `kind = "my_nets.py:Net"`.

    Raises:
        StudyError: for a key that nobody knows, and values that do not fit.

    Examples:
        >>> import jaxflow as jf
        >>> study = jf.Study(
        ...     {
        ...         "network": {"kind": "DiagonalLinear", "depth": 3, "in_size": 2},
        ...         "data": {
        ...             "kind": "values",
        ...             "inputs": [[1, 0], [0, 1]],
        ...             "targets": [1, 1],
        ...         },
        ...         "initialization": {"num": 4},
        ...         "equation": {"kind": "gradient_flow"},
        ...         "stop": {"rescaled_time": 0.1},
        ...         "sweep": {"initialization": {"scale": [0.1, 0.01]}},
        ...     }
        ... )
        >>> result = study.run(progress=False)
        >>> dict(result.dataset.final_loss.sizes)
        {'scale': 2, 'init': 4}
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        *,
        folder: str | os.PathLike | None = None,
        allow_code: bool = False,
    ):
        if not isinstance(tables, Mapping):
            raise InputError("tables", shown(tables), "a dict, as of a TOML file")
        self._source = Source()
        self._set(tables, folder, allow_code)

    def _set(self, tables: Any, folder: Any, allow_code: bool) -> None:
        self._allow_code = check_flag("allow_code", allow_code)
        self._folder = pathlib.Path.cwd() if folder is None else as_path(folder, "folder")
        self._plain = _plain(tables, (), self._source)
        self.settings: Sequence[Setting] = settings_of(self._plain, self._source)
        """What is run: one setting if there is no sweep."""

    @classmethod
    def from_toml(cls, path: str | os.PathLike, *, allow_code: bool = False) -> "Study":
        """The study in a file.

        Arguments:
            path: of a TOML file; files that it names are looked for beside it.
            allow_code: whether it may run code of its own.

        Raises:
            StudyError: with the line, for what is not as it should be.
        """
        path = as_path(path, "path")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                "path", f"{path}, which cannot be read ({error})", "a study file"
            ) from error
        return cls.from_text(
            text, name=str(path), folder=path.parent, allow_code=allow_code
        )

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        name: str = "study",
        folder: str | os.PathLike | None = None,
        allow_code: bool = False,
    ) -> "Study":
        """The study in a text, which errors call by a name."""
        study = cls.__new__(cls)
        study._source = Source(name, text)
        try:
            tables = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            told, line = _fault_of_toml(str(error))
            raise StudyError(name, line, "the file", told, "TOML") from error
        study._set(tables, folder, allow_code)
        return study

    @classmethod
    def starter(cls, kind: str = "gradient_flow") -> "Study":
        """The study that `jaxflow new KIND` writes.

        Raises:
            InputError: for a kind that there is none of.
        """
        return cls.from_text(starter(kind), name=f"{kind}.toml")

    def to_toml(self) -> str:
        """The study as the text of a file."""
        return tomli_w.dumps(self._plain)

    def replace(self, changes: Mapping[str, Any]) -> "Study":
        """The study with other values for some keys, such as `initialization.scale`."""
        plain: Mapping[str, Any] = self._plain
        for name, value in changes.items():
            plain = replaced(plain, tuple(name.split(".")), value, self._source)
        study = type(self).__new__(type(self))
        study._source = Source(self._source.name)
        study._set(plain, self._folder, self._allow_code)
        return study

    @property
    def tables(self) -> dict[str, Any]:
        """What it says, as a dict of its own."""
        return copy.deepcopy(self._plain)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Study):
            return NotImplemented
        return self._words() == other._words()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        title = self._plain.get("title", self._source.name)
        return f"<Study {title!r}: {len(self.settings)} settings>"

    # -- running --

    @functools.cached_property
    def axes(self) -> list[Axis]:
        """The dimensions of the sweep."""
        return axes_of(self._plain, self._source)

    @property
    def is_one_run(self) -> bool:
        """Whether it is one simulation, whose store is that of a run."""
        tables = self.settings[0].tables
        alone = len(self.settings) == 1 and "sweep" not in self._plain
        return alone and tables.equation is not None and not tables.has_test

    @property
    def groups(self) -> list[Group]:
        """Settings by run: those that differ in numbers of members are run at once."""
        return groups_of(self.settings)

    def prepared(self) -> list[Prepared]:
        """Every run of the study, made and not begun.

        Raises:
            StudyError: for what does not fit.
        """
        with self.precision():
            return [prepare(group, self.workshop(group)) for group in self.groups]

    def workshop(self, group: Group) -> Workshop:
        dtype = jnp.dtype(group.settings[0].tables.precision)
        return Workshop(self._source, self._folder, self._allow_code, dtype)

    @property
    def is_double(self) -> bool:
        """Whether a setting asks for double precision."""
        return any(each.tables.precision == "float64" for each in self.settings)

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """JAX in double precision, if a setting asks for it."""
        with jax.enable_x64(True) if self.is_double else contextlib.nullcontext():
            yield

    def run(
        self,
        *,
        store: str | os.PathLike | None = None,
        schedule: Schedule | None = None,
        progress: bool | None = None,
    ) -> StudyResult:
        """Run all settings, or go on with them where a store has some.

        Arguments:
            store: a folder, such as `"out.zarr"`. The same call with the folder of a study
                that was interrupted goes on from there.
            schedule: as for `jaxflow.run`.
            progress: as for `jaxflow.run`.

        Returns:
            A `StudyResult`; settings that failed are in its `failures`, and the others are
            as if there had been no failure.

        Raises:
            StudyError: for what does not fit, if there is one setting only.
            StoreError: for a store that holds something else or cannot be written.
        """
        schedule = check_schedule(schedule)
        progress = check_flag("progress", progress, optional=True)
        path = None if store is None else as_path(store, "store")
        with self.precision():
            how = self._run_one if self.is_one_run else self._run_all
            return how(path, schedule, progress)

    def _run_one(self, path: Any, schedule: Any, progress: Any) -> StudyResult:
        """A single simulation: its result is that of a run, and so is its store."""
        (group,) = self.groups
        prepared = prepare(group, self.workshop(group))
        about = {ATTR: self.to_toml()}
        result = prepared.call(
            store=path, attrs=about, schedule=schedule, progress=progress
        )
        return StudyResult(self.axes, [result], [{}], {})

    def _run_all(self, path: Any, schedule: Any, progress: Any) -> StudyResult:
        results: list[AbstractResult | None] = [None] * len(self.settings)
        finals: list[Any] = [None] * len(self.settings)
        failures: dict[int, Exception] = {}
        places = {id(setting): k for k, setting in enumerate(self.settings)}
        groups = self.groups
        about = {ATTR: self.to_toml()}
        with contextlib.ExitStack() as stack:
            collection = None
            if path is not None:
                collection = Collection(path, self._identity(), about)
                stack.callback(collection.close)
            for number, group in enumerate(groups):
                rows = [places[id(setting)] for setting in group.settings]
                place = None if collection is None else collection.place(number)
                try:
                    with _part(group, number, len(groups)):
                        prepared = prepare(group, self.workshop(group))
                        result = _carried_out(prepared, place, schedule, progress)
                        for row, part in zip(rows, prepared.parts(result)):
                            results[row], finals[row] = part, prepared.finals(part)
                except StoreError:
                    raise  # of the disk, which the others need too
                except Exception as error:  # of one setting, and no reason to lose others
                    failures |= dict.fromkeys(rows, error)
            if len(failures) == len(self.settings):
                raise failures[0]
            told = {row: _in_words(error) for row, error in failures.items()}
            found = StudyResult(self.axes, results, finals, told)
            if collection is not None:
                labels = {self.settings[row].label: text for row, text in told.items()}
                about |= {FAILURES: json.dumps(labels), SWEPT: json.dumps(found.swept)}
                collection.finish(found.dataset.assign_attrs(about))
        if told:
            lines = [f"  {self.settings[row].label}: {text}" for row, text in told.items()]
            head = f"{len(told)} of {len(self.settings)} settings failed:"
            tell("\n".join([head, *lines]))
        return found

    def _words(self, without: Sequence[str] = ()) -> str:
        """All that it says: NaN is itself, and the order of what is swept counts."""
        plain = {n: v for n, v in self._plain.items() if n not in without}
        order = [axis.keys for axis in self.axes]
        return json.dumps([plain, order], sort_keys=True)

    def _identity(self) -> dict[str, Any]:
        """What the numbers depend on, the data of its files included."""
        tables = [t for s in self.settings for t in (s.tables.data, s.tables.test)]
        paths = {path for table in tables if (path := getattr(table, "path", None))}
        files = {path: digest_of(self._folder / path) for path in sorted(paths)}
        words = self._words(without=("title", "output"))
        return {"study": words, "files": files}


def _part(group: Group, number: int, total: int) -> contextlib.AbstractContextManager:
    if total == 1:
        return contextlib.nullcontext()
    return part_of(f"{number + 1}/{total}")


def _in_words(error: Exception) -> str:
    text = str(error) if isinstance(error, JaxflowError) else repr(error)
    return text.partition("\n")[0]


def _carried_out(
    prepared: Prepared, path: Any, schedule: Any, progress: Any
) -> AbstractResult:
    """The result of a group, from its store where that has it already."""
    if prepared.simulation is not None:
        return prepared.call(store=path, schedule=schedule, progress=progress)
    if path is not None and path.exists():
        return load(path)
    result = prepared.call(schedule=schedule, progress=progress)
    if path is not None:
        result.save(path)
    return result


_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


def _fault_of_toml(message: str) -> tuple[str, int | None]:
    """What the parser says is wrong, and in which line."""
    found = _PLACE.search(message)
    line = int(found[1]) if found and found[1] else None
    return f"what TOML does not allow: {_PLACE.sub('', message)}", line


def _plain(value: Any, key: Key, source: Source) -> Any:
    """A value in the types that TOML has."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise source.fault(key, f"the key {shown(name)}", "words for keys")
        return {
            name: _plain(each, (*key, name), source)
            for name, each in value.items()
            if each is not None
        }
    if isinstance(value, np.ndarray) or eqx.is_array(value):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each, (*key, k), source) for k, each in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float, str)):
        return value
    raise source.fault(key, shown(value), "numbers, words, lists and tables")
