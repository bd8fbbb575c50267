"""What all results have in common, and several results as one."""

import abc
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import xarray

from .._checks import check_flag, shown
from ..errors import InputError, NoAxisError
from ..stores import as_path
from . import _store as store
from ._columns import Column
from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    join_fields,
    MEMBERS,
    read_fields,
    select_fields,
    Sheet,
    write_fields,
)
from ._indexing import check_index, Index
from ._pickling import by_name
from ._summary import as_html, as_text, Summary

Result = TypeVar("Result", bound="AbstractResult")


@dataclasses.dataclass(frozen=True)
class _Opened(AbstractDeclaration):
    """The dataset that a result was opened from, whose arrays are read when used."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return None if value is None else value.isel({owner.dimension: index})

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        return None

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        """It is no part of itself."""

    def read(self, name: str, source: AbstractSource) -> Any:
        return source.opened


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class AbstractResult(AbstractOwner):
    """A result: a frozen dataclass whose fields are declared, and all that follows.

    Printing it shows a summary, in notebooks a table. `result[3]` is one member,
    `result[10:20]`, `result[[3, 5]]` and `result[mask]` are fewer members, `len(result)` is
    how many there are, and a loop goes through them.
    """

    dimension: ClassVar[str] = MEMBERS
    """The dimension along which it is indexed and joined."""
    counted: ClassVar[str]
    """The name of a column with that dimension and no other."""
    derived: ClassVar[Mapping[str, Column]] = {}
    """Columns of the dataset that follow from fields: by the name of the property."""
    pictures: ClassVar[Sequence[str]] = ()
    """The functions of `jaxflow.plot` that draw it, and need nothing beside it."""

    opened: xarray.Dataset | None = declared(_Opened(), default=None)
    """The dataset of a run with `store=`, whose arrays are read when they are used."""

    @abc.abstractmethod
    def summary(self) -> Summary:
        """What printing the result shows."""

    @property
    def is_single(self) -> bool:
        """Whether it is of one member, without an axis of members."""
        return not getattr(self, self.counted).ndim

    @property
    def size(self) -> int:
        """How many members there are; one if there is no axis of them."""
        return getattr(self, self.counted).size

    @functools.cached_property
    def dataset(self) -> xarray.Dataset:
        """Everything but the weights as an `xarray.Dataset`.

        Units and long names are in the attributes of the variables; what jaxflow says of
        the result is in the attribute `jaxflow` of the dataset.
        """
        return to_dataset(self) if self.opened is None else self.opened

    @functools.cached_property
    def tree(self) -> xarray.DataTree:
        """The dataset, and in groups below it the weights: an `xarray.DataTree`.

        Weights are named by their place in the network, `weights_0` for `.weights[0]`.
        """
        return _sheet(self, ()).tree(self.dataset)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write the result to a Zarr store that `jaxflow.load` reads back.

        The store appears under its name only when it is whole. It is the `tree`, which
        opens with `xarray.open_datatree`, and its `dataset` with `xarray.open_zarr`,
        without jaxflow.

        A part of a network that has no name to find it by, such as a lambda, is left out:
        `jaxflow.load` then asks for `network=`, a network of the same structure.

        Arguments:
            path: of a folder.
            overwrite: whether to replace a store of jaxflow's that is there, and nothing
                else.

        Raises:
            StoreError: if the path exists, or if it is not jaxflow's alone.
        """
        folder = as_path(path, "path")
        store.write(folder, self.tree, overwrite=check_flag("overwrite", overwrite))

    def __copy__(self: Result) -> Result:
        return self  # a value; what a pickle holds is no result yet

    def __getstate__(self) -> dict[str, Any]:
        return {name: by_name(part) for name, part in vars(self).items()}

    def __len__(self) -> int:
        if self.is_single:
            raise NoAxisError(
                "result", f"one {self.dimension} without an axis", "several of them"
            )
        return self.size

    def __getitem__(self: Result, index: Any) -> Result:
        """One member, or some of them by a slice, by numbers or by a mask.

        Raises:
            InputError: for an index that does not fit.
        """
        checked = check_index(index, len(self), type(self).__name__)
        return type(self)(**select_fields(self, checked, self))

    def __iter__(self: Result) -> Iterator[Result]:
        for index in range(len(self)):
            yield self[index]

    def __repr__(self) -> str:
        return as_text(self.summary())

    def _repr_html_(self) -> str:
        return as_html(self.summary())


def concat(results: Iterable[Result]) -> Result:
    """Several results as one, in their order.

    Results of many members are put one after the other, results of one member are stacked;
    a result that was cut into pieces by indexing is the same again, to the last bit.
    Weights and records are read into memory. Settings and attributes are kept where all
    results agree. KKT points are not compared again: those that two results have in common
    are there twice.

    Arguments:
        results: all of one kind, from networks that differ in their weights only, with the
            same columns, records and grids.

    Returns:
        A result of their kind.

    Raises:
        InputError: if there are none, or if they do not fit together.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
        >>> ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> solution = jf.gradient_flow(ensemble, task, stop=[jf.RescaledTime(0.1)])
        >>> len(jf.concat([solution[:1], solution[2:]]))
        3
    """
    if not isinstance(results, Iterable):
        raise InputError("results", shown(results), "a list of results")
    pieces = list(results)
    if not pieces:
        raise InputError("results", "none", "one or more results")
    cls = type(pieces[0])
    kinds = list(dict.fromkeys(type(piece).__name__ for piece in pieces))
    if len(kinds) > 1 or cls not in kinds_of_results().values():
        expected = f"results of one kind, out of {', '.join(kinds_of_results())}"
        raise InputError("results", " and ".join(kinds), expected)
    return cls(**join_fields(pieces, pieces))


def stacked(result: Result) -> Result:
    """A result with an axis of members: one of a single member as one of many."""
    return concat([result]) if result.is_single else result


def kinds_of_results() -> dict[str, type[AbstractResult]]:
    """The kinds of results that there are, by name; those of jaxflow go before others."""
    own = AbstractResult.__module__.split(".")[0]
    is_own = lambda cls: cls.__module__.split(".")[0] == own
    return {
        cls.__name__: cls for cls in sorted(AbstractResult.__subclasses__(), key=is_own)
    }


def to_dataset(result: AbstractResult, statuses: Sequence[str] = ()) -> xarray.Dataset:
    """Everything but the weights.

    Arguments:
        statuses: names that can occur, besides those that do: the type of the codes holds
            all of them, and the meanings list them.
    """
    return _sheet(result, tuple(statuses)).dataset()


def _sheet(result: AbstractResult, statuses: tuple[str, ...]) -> Sheet:
    sheet = Sheet(statuses, about={"result": type(result).__name__})
    write_fields(result, result, sheet)
    for name, column in result.derived.items():
        column.write(name, getattr(result, name), result, sheet)
    return sheet


def read_result(cls: type[Result], source: AbstractSource) -> Result:
    """A result from a group of a store. Raises `KeyError` if a part is missing."""
    return cls(**read_fields(cls, source))
