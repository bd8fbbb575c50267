"""A run as a value: all that its numbers depend on, and nothing else."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from .._arrays import with_parts
from .._checks import check_whole, shown
from .._compiled import running
from ..errors import InputError, StoreError
from ..flows import AbstractNetworkFlow, OwnFlow, places_of
from ..networks import as_jax
from ..results import as_trust, by_name, rebuild_value, SIMULATION
from ..stops import AbstractStop
from ..stores import as_path
from ..tasks import AbstractTask, TaskPerMember
from ._accepted import as_networks
from ._equation import AbstractEquation
from ._fit import check_fit
from ._identity import identify
from ._networks import AbstractNetworks
from ._numbers import number_or_one_each
from ._record import Record
from ._scale import as_scale, no_scale, Scale
from ._stepping import Stepping


class Simulation(eqx.Module):
    """Networks that follow an equation on a task until they stop.

    It is made of checked parts, and `jaxflow.run` runs it. It pickles, so that it can be
    run in another process; two are equal if they give the same numbers. `sim[10:20]` is
    the simulation of members 10 to 19, whose results are those that they have in the
    whole: initializations and noise depend on the seed and on the member's number only.

    Arguments:
        equation: such as `jaxflow.GradientFlow()`, `CorrelationLimit()`,
            `GradientDescent(optimizer, num_steps)`, `Langevin(…)`, or one of your own.
        networks: as for `jaxflow.gradient_flow`.
        task: as for `jaxflow.gradient_flow`.
        ensemble: as for `jaxflow.gradient_flow`.
        trainable: as for `jaxflow.gradient_flow`.
        scale: the initialization scale δ, positive, scalar or (num,); 1 if not given.
        stop: stop conditions; those of the equation if not given.
        stepping: a `jaxflow.Stepping`; what the equation has for default if not given.
        record: a `jaxflow.Record`, or `None`.

    Raises:
        InputError: for arguments that do not fit.
        NotHomogeneousError: for an equation that needs a homogeneous network and is given
            another.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
        >>> drawn = jf.Initializations(network, 6, key=jax.random.key(1))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> sim = jf.Simulation(
        ...     jf.GradientFlow(), drawn, task, scale=0.1, stop=[jf.Time(1.0)]
        ... )
        >>> whole = jf.run(sim)
        >>> halves = jf.concat([jf.run(sim[:3]), jf.run(sim[3:])])
        >>> bool((halves.loss == whole.loss).all())
        True
    """

    equation: AbstractEquation
    networks: AbstractNetworks
    task: AbstractTask | TaskPerMember
    scale: Scale
    stops: tuple[AbstractStop, ...]
    stepping: Stepping
    record: Record | None

    @running
    def __init__(
        self,
        equation: AbstractEquation,
        networks: Any,
        task: AbstractTask | TaskPerMember,
        *,
        scale: ArrayLike | Sequence[float] | None = None,
        stop: AbstractStop | Sequence[AbstractStop] | None = None,
        stepping: Stepping | None = None,
        record: Record | None = None,
        ensemble: bool | None = None,
        trainable: Any = None,
    ):
        if not isinstance(equation, AbstractEquation):
            found, expected = shown(equation), "an equation, such as jaxflow.GradientFlow()"
            raise InputError("equation", found, expected)
        of_one: Any = getattr(task, "example", task)
        self.networks = as_networks(networks, of_one, ensemble, trainable)
        dtype, one = self.networks.dtype, self.networks.one
        _check_num(self.networks, task)
        self.task = task.astype(dtype)
        of_one = self.task.example
        defaults = equation.defaults(one, of_one, dtype)
        self.scale = self._settled_scale(equation, scale)
        stops = defaults.stops if stop is None else _as_tuple(stop)
        self.stops = tuple(
            _settled_stop(each, self.networks.num, dtype)
            for each in (*stops, *defaults.ends)
        )
        if stepping is not None and not isinstance(stepping, Stepping):
            raise InputError("stepping", shown(stepping), "a jaxflow.Stepping")
        if stepping is not None and defaults.steps_are_given:
            found = f"one with {type(equation).__name__}, which makes its own steps"
            raise InputError("stepping", found, "none")
        if defaults.steps_are_given:
            self.stepping = defaults.stepping
        else:
            self.stepping = (stepping or Stepping()).settled(defaults.stepping, dtype)
        if record is not None and not isinstance(record, Record):
            raise InputError("record", shown(record), "a jaxflow.Record")
        if record is not None:
            record = record.settled(
                defaults.record_over, self.networks, of_one, self.stepping.max_steps
            )
        self.record = record
        self.equation = equation.resolve(self.networks, of_one)
        check_fit(self.flow, self.stops, record)

    @property
    def flow(self) -> AbstractNetworkFlow:
        """The flow that members follow."""
        one, task, own = self.examples_and_own
        flow = self.equation.flow(one, task.shaped_for(one))
        if not own:
            return flow
        if getattr(self.stepping.solver, "sides", None) is not None:
            found = "a solver that was made for the network and the data of one member"
            raise InputError("solver", found, "another, where members have their own")
        places = places_of(own, flow)
        if not all(places):
            found = f"one whose {type(flow).__name__} is made from data of a member's own"
            raise InputError("equation", found, "a flow that keeps network and task")
        return OwnFlow(flow, places)  # pyright: ignore[reportCallIssue]

    @property
    def examples_and_own(self) -> tuple[eqx.Module, AbstractTask, list[Any]]:
        """Network and task of one member, and what in them others have their own of."""
        one, task = self.networks.one, self.task.example
        own = self.networks.own_of(one)
        if self.task.num_members is not None:
            own += jax.tree_util.tree_leaves(eqx.filter(task, eqx.is_array))
        return one, task, own

    def own(self, rows: np.ndarray) -> tuple[Any, ...]:
        """Arrays that these members have of their own, beside their weights."""
        return (*self.networks.own(rows), *self.task.own(rows))

    @property
    def num(self) -> int | None:
        """How many members there are; `None` if only the end of an iterator will tell."""
        return self.networks.num

    def __len__(self) -> int:
        if self.num is None:
            raise TypeError("nobody knows how many networks an iterator will give")
        return self.num

    def __getitem__(self, members: Any) -> "Simulation":
        if not isinstance(members, slice) or members.step not in (None, 1):
            raise InputError(
                "members", shown(members), "a slice of members, such as [10:20]"
            )
        if self.networks.is_single or self.num is None:
            what = "an iterator" if self.num is None else "a single network"
            raise InputError("members", f"a slice of {what}", "an ensemble")
        try:
            first, last, _ = members.indices(self.num)
        except TypeError as error:
            raise InputError("members", shown(members), "whole numbers") from error
        if last <= first:
            found = f"[{first}:{last}], none of {self.num:,} members"
            raise InputError("members", found, "at least one")
        rows = np.arange(first, last)
        return with_parts(
            self,
            networks=self.networks.between(first, first + len(rows)),
            task=self.task.of_rows(rows),
            scale=self.scale.of(rows) if self.scale.values.ndim else self.scale,
            stops=_of_rows(self.stops, rows),
            record=None if self.record is None else self.record.of(rows),
        )

    def lasting(
        self,
        rows: np.ndarray,
        *,
        stop: Any = None,
        max_steps: Any = None,
        record: Record | None = None,
        **lengths: Any,
    ) -> "Simulation":
        """The same simulation, but for how long members go on and where records are.

        Given `rows` of the members to which thresholds belong, where there is one
        for each; `lengths`, of the equation; what is not given stays as it is.

        Raises:
            InputError: for arguments that do not fit.
        """
        equation = with_parts(self.equation, **lengths)
        of_one, dtype = self.task.example, self.networks.dtype
        defaults = equation.defaults(self.networks.one, of_one, dtype)
        given = self.stops[: len(self.stops) - len(defaults.ends)]
        if stop is not None:
            settled = (_settled_stop(each, len(rows), dtype) for each in _as_tuple(stop))
            given = tuple(_at_rows(each, rows, self.num) for each in settled)
        ends = tuple(_settled_stop(each, self.num, dtype) for each in defaults.ends)
        stepping = defaults.stepping if defaults.steps_are_given else self.stepping
        if max_steps is not None:
            max_steps = check_whole("max_steps", max_steps)
            stepping = dataclasses.replace(stepping, max_steps=max_steps)
        record = self.record if record is None else record
        later = with_parts(
            self,
            equation=equation,
            stops=(*given, *ends),
            stepping=stepping,
            record=record,
        )
        check_fit(later.flow, later.stops, record)
        return later

    def __copy__(self) -> "Simulation":
        return self  # a value; what a pickle holds is no Simulation yet

    def __getstate__(self) -> dict[str, Any]:
        return {name: by_name(part) for name, part in vars(self).items()}

    @classmethod
    def load(
        cls, path: str | os.PathLike, *, trust: Iterable[str | ModuleType] = ()
    ) -> "Simulation":
        """The simulation whose run a store holds, to be run again or further.

        Arguments:
            path: the folder that was given as `store=`.
            trust: modules of yours whose classes and functions it may name, as for
                `jaxflow.load`.

        Raises:
            StoreError: if there is none, or if a part of it has no name in a file, such as
                an optimizer or a lambda.

        Examples:
            >>> import jax, jaxflow as jf, tempfile
            >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
            >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
            >>> sim = jf.Simulation(jf.GradientFlow(), network, task, stop=jf.Time(0.1))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     solution = jf.run(sim, store=f"{folder}/run.zarr")
            ...     again = jf.Simulation.load(f"{folder}/run.zarr")
            >>> again == sim
            True
        """
        path = as_path(path, "path")
        found = rebuild_value(path, SIMULATION, as_trust(trust))
        if not isinstance(found, cls):
            raise StoreError(f"{path} holds a {type(found).__name__} as simulation")
        for name in ("networks", "task"):
            object.__setattr__(found, name, as_jax(getattr(found, name)))
        return found

    def __eq__(self, other: object) -> bool:  # pyright: ignore
        if not isinstance(other, Simulation):
            return NotImplemented
        return self.identity == other.identity

    def __hash__(self) -> int:
        return hash(tuple(self.identity.items()))

    @property
    def identity(self) -> dict[str, str]:
        """All that its numbers depend on, field by field: values, or digests of arrays.

        Raises:
            InputError: for a part that cannot be told from another.
        """
        return {"kind": self.equation.kind, **identify(self)}

    def describe(self) -> dict[str, Any]:
        """What a result says of it."""
        settings = {
            **self.stepping.describe(),
            **self.networks.describe(),
            **self.equation.describe(),
        }
        return {name: value for name, value in settings.items() if value is not None}

    def _settled_scale(self, equation: AbstractEquation, scale: Any) -> Scale:
        if equation.has_scale:
            scale = 1.0 if scale is None else scale
            return as_scale(scale, self.networks.num, self.networks.dtype)
        if scale is not None:
            found = f"{shown(scale)} with {type(equation).__name__}"
            raise InputError("scale", found, "none: the equation has no scale")
        return no_scale(self.networks.dtype)


def _check_num(networks: AbstractNetworks, task: Any) -> None:
    """Whether there is a task for every member."""
    if task.num_members is None:
        return
    if networks.is_single or networks.num != task.num_members:
        num = "an iterator" if networks.num is None else f"{networks.num} members"
        found = f"tasks of {task.num_members} members for "
        found += "one network" if networks.is_single else num
        raise InputError("task", found, "as many as the ensemble has")


def _as_tuple(stop: Any) -> tuple[Any, ...]:
    several = isinstance(stop, Sequence) and not isinstance(stop, str)
    return tuple(stop) if several else (stop,)


def _settled_stop(stop: Any, num: int | None, dtype: Any) -> AbstractStop:
    """A stop condition with one threshold for all members, or one for each."""
    if not isinstance(stop, AbstractStop):
        raise InputError("stop", shown(stop), "stop conditions, such as LossBelow(1e-3)")

    def one_each(threshold):
        name = f"stop={type(stop).__name__}"
        numbers = number_or_one_each(name, threshold, num)
        if np.any(np.abs(numbers) > jnp.finfo(dtype).max):
            raise InputError(name, f"{np.abs(numbers).max():g}", f"numbers in {dtype}")
        return numbers.astype(dtype)

    is_list = lambda node: isinstance(node, (list, tuple))
    return jax.tree_util.tree_map(one_each, stop, is_leaf=is_list)


def _at_rows(stop: AbstractStop, rows: np.ndarray, num: int | None) -> AbstractStop:
    """The condition with thresholds of members in these rows, for all of so many."""

    def of_all(threshold: np.ndarray) -> np.ndarray:
        if not threshold.ndim:
            return threshold
        assert num is not None  # who has gone through an iterator
        everybody = np.full(num, threshold[0] if len(threshold) else 0, threshold.dtype)
        everybody[rows] = threshold
        return everybody

    return jax.tree_util.tree_map(of_all, stop)


def _of_rows(tree: Any, rows: np.ndarray) -> Any:
    take = lambda leaf: leaf[rows] if np.ndim(leaf) else leaf
    return jax.tree_util.tree_map(take, tree)
