"""Parts of a study that a call makes: what a file may say of them comes from the call.

A section such as `[network]` names a kind, and its other keys are the arguments of the
class or function that makes it: so a new argument needs no second list. What TOML cannot
hold is translated: a random key is a `seed`, a network inside another is a table.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, Union

import pydantic
from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

Plain: TypeAlias = Any
"""Whatever TOML holds: what it is for the call to judge."""
Number = StrictInt | StrictFloat


class Section(pydantic.BaseModel):
    """A table of a study file, with no keys but its own."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=False)

    def given(self) -> dict[str, Any]:
        """The keys that a file gave, and their values, in the same order in any process."""
        names = [name for name in type(self).model_fields if name in self.model_fields_set]
        return {name: getattr(self, name) for name in names}


class Argument(typing.NamedTuple):
    """How a file says what it cannot hold."""

    key: str
    type: Any
    default: Any = ...


_PLAIN = {int: StrictInt, float: Number, str: StrictStr, bool: StrictBool}


def section_of(
    kind: str | None,
    make: Callable,
    translated: Mapping[str, Argument | None] = types.MappingProxyType({}),
    **more: Any,
) -> type[Section]:
    """The table of one kind, from the arguments of what makes it.

    Arguments:
        kind: its name in files; `None` for a table that there is one of.
        make: the class or function.
        translated: arguments that files give in other words, or not at all (`None`).
        more: keys that are no arguments, as for `pydantic.create_model`.
    """
    meanings = _meanings(make)
    fields: dict[str, Any] = {}
    if kind is not None:
        fields["kind"] = (Literal[kind], Field(description=first_line(make)))
    for parameter in _parameters(make):
        argument = translated.get(parameter.name, Argument(parameter.name, None))
        if argument is None:
            continue
        wanted = argument.type or _type_in_files(parameter.annotation)
        default = argument.default
        if default is ... and parameter.default is not parameter.empty:
            default = None
            wanted = wanted | None if wanted is not Any else wanted
        about = Field(default, description=meanings.get(parameter.name))
        fields[argument.key] = (wanted, about)
    model = pydantic.create_model(kind or make.__name__, __base__=Section, **fields, **more)
    model.__doc__ = inspect.cleandoc(make.__doc__ or "").split("\n\n")[0]
    return model


def by_kind(
    sections: Iterable[type[Section]], otherwise: type[Section] | None = None
) -> Any:
    """The type of a table whose `kind` says which of these it is.

    Arguments:
        sections: what it may be.
        otherwise: what it is if its kind is that of none.
    """
    named = {typing.get_args(s.model_fields["kind"].annotation)[0]: s for s in sections}

    def kind_of(table: Any) -> str | None:
        kind = table.get("kind") if isinstance(table, Mapping) else None
        if otherwise is not None and isinstance(kind, str) and ":" in kind:
            return OTHER
        return kind if isinstance(kind, str) else None

    options = [Annotated[section, pydantic.Tag(kind)] for kind, section in named.items()]
    if otherwise is not None:
        options.append(Annotated[otherwise, pydantic.Tag(OTHER)])
    if len(options) == 1:
        return next(iter(named.values()))
    return Annotated[Union[tuple(options)], pydantic.Discriminator(kind_of)]  # noqa: UP007


OTHER = "a file and a class"


def _parameters(make: Callable) -> Iterable[inspect.Parameter]:
    """The arguments of a call, with their types where these can be known."""
    named = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for each in inspect.signature(make).parameters.values():
        if each.kind not in named:
            yield each.replace(annotation=_known_type(each.annotation, make))


def _known_type(annotation: Any, make: Callable) -> Any:
    """A type that its module may have written in quotes; anything if it is not known."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(vars(sys.modules[make.__module__])))
    except (NameError, TypeError, AttributeError):  # names that only type checkers see
        return Any


def _type_in_files(annotation: Any) -> Any:
    """What of a type a file can hold; anything if it is not known."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return annotation
    if origin in (Union, types.UnionType):
        options = [_type_in_files(one) for one in inside if one is not type(None)]
        return Plain if Plain in options else Union[tuple(options)]  # noqa: UP007
    if origin in (Sequence, list, tuple) and inside and inside[0] in _PLAIN:
        return list[_PLAIN[inside[0]]]
    return Plain


_SECTION = re.compile(r"^(\w[\w ]*):$")


def _meanings(make: Callable) -> dict[str, str]:
    """What the docstring says of each argument."""
    found: dict[str, str] = {}
    name, inside = "", False
    for line in inspect.cleandoc(make.__doc__ or "").splitlines():
        if title := _SECTION.match(line):
            inside = title[1] in ("Arguments", "Args")
        elif inside and (entry := re.match(r" {4}(\w+): (.*)", line)):
            name = entry[1]
            found[name] = entry[2].strip()
        elif inside and line.startswith(" " * 8) and name:
            found[name] += " " + line.strip()
    return found


def first_line(make: Callable) -> str:
    return inspect.cleandoc(make.__doc__ or "").split("\n", 1)[0]
