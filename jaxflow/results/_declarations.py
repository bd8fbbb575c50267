"""What a field of a result is: the one declaration from which all else follows.

A result is a frozen dataclass. Every field carries a declaration, which knows how some
members of the field are picked, how fields of several results are joined, and how the
field is written into a dataset and read back.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import xarray

from ._indexing import Index
from ._plain import plain

ABOUT = "jaxflow"
"""The attribute of a dataset under which everything of jaxflow's is."""
MEMBERS = "init"
"""The dimension of the members of an ensemble, as they were initialized."""
_DECLARED = "jaxflow declaration"


class AbstractOwner(abc.ABC):
    """What a declaration needs to know of the result that its field belongs to."""

    dimension: ClassVar[str]
    """The name of the dimension along which the result is indexed and joined."""

    @property
    @abc.abstractmethod
    def is_single(self) -> bool:
        """Whether the result is of one member, without that dimension."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """How many members there are; one for a single one."""


class AbstractSource(abc.ABC):
    """A group of a store, from which a result is read."""

    @property
    @abc.abstractmethod
    def dataset(self) -> xarray.Dataset:
        """The dataset of the group."""

    @property
    @abc.abstractmethod
    def opened(self) -> xarray.Dataset | None:
        """The dataset, if its arrays are to be read when they are used."""

    @property
    @abc.abstractmethod
    def about(self) -> Mapping[str, Any]:
        """What jaxflow says of the result."""

    @property
    @abc.abstractmethod
    def attrs(self) -> Mapping[str, Any]:
        """What the caller added."""

    @abc.abstractmethod
    def child(self, name: str, renamed: Mapping[str, str]) -> "AbstractSource":
        """A group below this one, with other names of dimensions and variables."""

    @abc.abstractmethod
    def networks(self, group: str) -> Callable[[], Any]:
        """The function that reads the networks in a group below this one."""

    @abc.abstractmethod
    def rebuilt(self, arrays: Mapping[str, Any], structure: str) -> Any:
        """The tree of these arrays that has this structure."""


@dataclasses.dataclass
class Sheet:
    """A dataset that is being written, and the groups below it."""

    statuses: tuple[str, ...] = ()
    """Statuses that can occur, besides those that do."""
    variables: dict[str, xarray.Variable] = dataclasses.field(default_factory=dict)
    coordinates: dict[str, xarray.Variable] = dataclasses.field(default_factory=dict)
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
    beside: dict[str, dict[str, xarray.Variable]] = dataclasses.field(default_factory=dict)
    """By group, variables that belong into a group of their own."""
    groups: dict[str, Callable[[], xarray.DataTree]] = dataclasses.field(
        default_factory=dict
    )
    """By name, groups that are made only when they are asked for."""

    def dataset(self) -> xarray.Dataset:
        attrs = {**self.attrs, ABOUT: plain(self.about)}
        return xarray.Dataset(self.variables, self.coordinates, attrs)

    def tree(self, root: xarray.Dataset) -> xarray.DataTree:
        """The dataset `root`, with all groups below it."""
        beside = {
            name: xarray.DataTree(xarray.Dataset(variables))
            for name, variables in self.beside.items()
        }
        made = {name: make() for name, make in self.groups.items()}
        return xarray.DataTree(root, children={**beside, **made})


class AbstractDeclaration(abc.ABC):
    """What one field of a result is."""

    @abc.abstractmethod
    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        """The field of some members."""

    @abc.abstractmethod
    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        """The field of several results, one after the other.

        Raises:
            InputError: if they do not fit together.
        """

    @abc.abstractmethod
    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        """Put the field into a dataset."""

    @abc.abstractmethod
    def read(self, name: str, source: AbstractSource) -> Any:
        """The field from a dataset. Raises `KeyError` if it is not there."""


def declared(declaration: AbstractDeclaration, **options: Any) -> Any:
    """A field with its declaration; `options` go to `dataclasses.field`."""
    return dataclasses.field(metadata={_DECLARED: declaration}, **options)


@functools.cache
def declarations(cls: type) -> Mapping[str, AbstractDeclaration]:
    """The declaration of every field, by name; none for what is no result."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    found = {field.name: field.metadata.get(_DECLARED) for field in fields}
    return {name: declaration for name, declaration in found.items() if declaration}


# -- all fields of a result, or of a part of one --


@dataclasses.dataclass(frozen=True)
class _Part(AbstractDeclaration):
    """A field that is itself a frozen dataclass of declared fields."""

    cls: type

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return self.cls(**select_fields(value, index, owner))

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        return self.cls(**join_fields(values, owners))

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        write_fields(value, owner, sheet)

    def read(self, name: str, source: AbstractSource) -> Any:
        return self.cls(**read_fields(self.cls, source))


def part(cls: type) -> Any:
    """Declare a field that holds further columns; they go into the same dataset."""
    return declared(_Part(cls))


def select_fields(value: Any, index: Index, owner: AbstractOwner) -> dict[str, Any]:
    return {
        name: declaration.select(getattr(value, name), index, owner)
        for name, declaration in declarations(type(value)).items()
    }


def join_fields(values: Sequence[Any], owners: Sequence[AbstractOwner]) -> dict[str, Any]:
    return {
        name: declaration.join(name, [getattr(value, name) for value in values], owners)
        for name, declaration in declarations(type(values[0])).items()
    }


def write_fields(value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
    for name, declaration in declarations(type(value)).items():
        declaration.write(name, getattr(value, name), owner, sheet)


def read_fields(cls: type, source: AbstractSource) -> dict[str, Any]:
    return {
        name: declaration.read(name, source)
        for name, declaration in declarations(cls).items()
    }
