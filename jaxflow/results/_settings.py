"""Fields of results that are no arrays: settings of jaxflow, attributes of the caller."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ._declarations import (
    ABOUT,
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    Sheet,
)
from ._indexing import Index
from ._plain import agreeing, check_agree, plain


@dataclasses.dataclass(frozen=True)
class _Setting(AbstractDeclaration):
    """A number or a word that all results to be joined have in common."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return value

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        check_agree(name, values)
        return values[0]

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        sheet.about[name] = value

    def read(self, name: str, source: AbstractSource) -> Any:
        return source.about[name]


@dataclasses.dataclass(frozen=True)
class _Settings(AbstractDeclaration):
    """Numbers and words by name, of which those in `common` must agree."""

    common: tuple[str, ...]

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return value

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        for each in self.common:
            check_agree(each, [value.get(each) for value in values])
        return agreeing(values)

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        sheet.about[name] = dict(value)

    def read(self, name: str, source: AbstractSource) -> Any:
        return dict(source.about[name])


@dataclasses.dataclass(frozen=True)
class _Attributes(AbstractDeclaration):
    """What the caller wants to be kept, by names that are the caller's."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return value

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        return agreeing(values)

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        sheet.attrs.update(plain(value))

    def read(self, name: str, source: AbstractSource) -> Any:
        return dict(source.attrs)


def setting() -> Any:
    """Declare a field that is a number or a word, the same in results to be joined."""
    return declared(_Setting())


COORDINATES = "coordinates"
"""The attribute of a group in which xarray names coordinates that are no dimensions."""


def settings_of(*common: str) -> Any:
    """Declare a field of jaxflow's own numbers and words, by name.

    Of results that are joined, those that agree are kept; those in `common` have to.
    """
    return declared(_Settings(common))


def attributes() -> Any:
    """Declare the field of the caller's own attributes."""
    return declared(_Attributes(), default_factory=dict)


def is_reserved(name: Any) -> bool:
    """Whether an attribute is jaxflow's or xarray's, and no caller's."""
    return str(name).startswith(ABOUT) or name == COORDINATES


def check_attributes(attrs: Mapping[str, Any]) -> None:
    """Raises `InputError` for names that are reserved."""
    for name in attrs:
        if is_reserved(name):
            expected = f"names other than {COORDINATES!r} that do not start with {ABOUT!r}"
            raise InputError("attrs", f"the name {name!r}", expected)
