"""What is wrong with a study file, told by file, line and key."""

import contextlib
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from .._checks import shown
from ..errors import InputError, StudyError
from ._kinds import OTHER
from ._lines import Key, line_of
from ._schema import StudyTables


class Source:
    """Where a study comes from: the text of a file, or a value in Python."""

    def __init__(self, name: str = "study", text: str | None = None):
        self.name, self.text = name, text

    def fault(self, key: Key, found: str, expected: str) -> StudyError:
        """The error for a key."""
        line = None if self.text is None else line_of(self.text, key)
        return StudyError(self.name, line, dotted(key), found, expected)

    @contextlib.contextmanager
    def at(self, key: Key, arguments: Mapping[str, str] | None = None) -> Iterator[None]:
        """Whatever a call refuses, told of the table from which its arguments come.

        Given the `key` of the table, and keys in it by the names of `arguments`, where they
        are not the same.
        """
        try:
            yield
        except StudyError:
            raise
        except InputError as error:
            name, *_ = error.argument.replace("[", ".").split(".")
            own = (arguments or {}).get(name, name)
            told = error.found if own else f"{error.argument}: {error.found}"
            place = (*key, *own.split(".")) if own else key
            raise self.fault(place, told, error.expected) from error


def dotted(key: Key) -> str:
    """A key as a person writes it."""
    return ".".join(str(part) for part in key) or "the file"


def checked(tables: Mapping[str, Any], source: Source) -> StudyTables:
    """The tables of a study, each with no keys but its own and values of the right kind.

    Raises:
        StudyError: for the first that is not.
    """
    try:
        return StudyTables.model_validate(dict(tables))
    except pydantic.ValidationError as error:
        raise _fault(error, tables, source) from error


def _fault(
    error: pydantic.ValidationError, tables: Mapping[str, Any], source: Source
) -> StudyError:
    errors = sorted(error.errors(), key=_importance)
    found = errors[0]
    key = _key_of(found, tables)
    if found["type"] == "extra_forbidden":
        known = _known_keys(found["loc"])
        return source.fault(key, "a key that nobody knows", _nearest(key[-1], known))
    if found["type"] == "missing":
        *table, name = key
        return source.fault(tuple(table), f"no {name}", f"the key {name!r}")
    if found["type"] in _OF_KIND:
        known, value = _known_kinds(found["loc"]), _value(tables, key)
        if isinstance(value, Mapping) and "kind" not in value:
            return source.fault(key, "no kind", f"kind = {_one_of(known)}")
        if isinstance(value, Mapping):
            kind = value["kind"]
            return source.fault((*key, "kind"), shown(kind), _nearest(kind, known))
    if found["type"] == "value_error":
        told, _, expected = str(found.get("ctx", {}).get("error")).partition("; expected ")
        return source.fault(key, told, expected)
    # A value of several types is told by what each of them expects.
    alike = [other for other in errors if _key_of(other, tables) == key]
    value = _value(tables, key)
    literals = [word for other in alike for word in _literals(other)]
    if literals and isinstance(value, str):
        return source.fault(key, shown(value), _nearest(value, literals))
    words = list(dict.fromkeys(_in_words(other) for other in alike))
    if "a number" in words:
        words = [word for word in words if word != "a whole number"]
    return source.fault(key, shown(value), " or ".join(words))


_OF_KIND = ("union_tag_invalid", "union_tag_not_found")
_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "string_type": "a word in quotes",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "union_tag_invalid": "a table with a kind",
    "union_tag_not_found": "a table with a kind",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number from {ge} on",
    "less_than": "a number below {lt}",
    "string_pattern_mismatch": "a file and a class, as 'my_nets.py:Net'",
}


def _in_words(error: Any) -> str:
    """What was expected, as people say it."""
    if literals := _literals(error):
        return _one_of(literals)
    if error["type"] in _WORDS:
        return _WORDS[error["type"]].format(**error.get("ctx", {}))
    return error["msg"].removeprefix("Input should be ").removesuffix(".")


def _literals(error: Any) -> list[str]:
    """The words that a value may be."""
    if error["type"] != "literal_error":
        return []
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def _nearest(given: Any, known: list[str]) -> str:
    near = difflib.get_close_matches(str(given), known, 1, 0.5)
    return f"{near[0]!r}" if near else _one_of(known)


def _one_of(known: list[str]) -> str:
    return known[0] if len(known) == 1 else f"one of {', '.join(known)}"


def _importance(found: Any) -> int:
    """Unknown keys explain missing ones, and what a table lacks is not that it is none."""
    order = ("extra_forbidden", "union_tag_invalid", "missing", "value_error")
    return order.index(found["type"]) if found["type"] in order else len(order)


def _key_of(error: Any, tables: Any) -> Key:
    """The key in the file of an error, whose place names models and types too."""
    place, missing = error["loc"], error["type"] == "missing"
    key: list[str | int] = []
    value = tables
    for number, part in enumerate(place):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif missing and number + 1 == len(place):
            pass
        else:
            continue
        key.append(part)
    return tuple(key)


def _value(tables: Any, key: Key) -> Any:
    for part in key:
        try:
            tables = tables[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tables


# -- what would have been right --


def _known_keys(place: tuple[Any, ...]) -> list[str]:
    """The keys of the table in which the last part of a place is."""
    found = [m for m in _types_at(place[:-1]) if _is_section(m)]
    return [name for model in found for name in model.model_fields]


def _known_kinds(place: tuple[Any, ...]) -> list[str]:
    """The kinds of table that may be at a place."""
    kinds = []
    for model in _types_at(place):
        if _is_section(model) and "kind" in model.model_fields:
            kinds += typing.get_args(model.model_fields["kind"].annotation)
    return kinds


def _types_at(place: tuple[Any, ...]) -> list[Any]:
    """The types that a value at a place may have."""
    found: list[Any] = [StudyTables]
    for part in place:
        below: list[Any] = []
        for each in found:
            if _is_section(each) and part in each.model_fields:
                below += _options(each.model_fields[part].annotation)
            elif _is_section(each) and part in (each.__name__, *_kinds_of(each)):
                below.append(each)
            elif typing.get_origin(each) is list and isinstance(part, int):
                below += _options(typing.get_args(each)[0])
        found = below or found
    return found


def _options(annotation: Any) -> list[Any]:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _options(inside[0])
    if origin in (typing.Union, types.UnionType):
        return [option for one in inside for option in _options(one)]
    return [annotation]


def _is_section(each: Any) -> bool:
    return isinstance(each, type) and issubclass(each, pydantic.BaseModel)


def _kinds_of(model: Any) -> tuple[str, ...]:
    """The words that a table's kind may be; of one with a pattern what its tag is."""
    kind = model.model_fields.get("kind")
    return () if kind is None else typing.get_args(kind.annotation) or (OTHER,)
