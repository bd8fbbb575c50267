"""The result of a run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import on_device
from .._trained import split
from ..quantities import CLOCKS
from ..stores import GROUP
from ._columns import column
from ._continuation import Continuation, continued
from ._declarations import declarations, MEMBERS, part
from ._kept_lanes import GOING_ON
from ._members import numbers
from ._overview import summarize
from ._records import COUNT, GRID_POINTS, PATH_POINTS, recorded, Records, Stats
from ._result import AbstractResult
from ._settings import attributes, check_attributes, setting, settings_of
from ._status import has_failed, status_column
from ._store import DIRECTIONS, SIMULATION
from ._summary import Summary
from ._weights import reader

Network_co = TypeVar("Network_co", covariant=True)
"""The class of the networks in a result, for editors and type checkers."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Solution(AbstractResult, Generic[Network_co]):
    """Where every initialization ended, and what was recorded on the way.

    Arrays have a leading axis of members, `(num,)`, and are scalars for a single network.
    `Solution[FeedForward]` is one whose networks are of that class. Printing a solution
    shows a summary. `solution[3]` is the solution of one member,
    `solution[10:20]` or `solution[mask]` that of some.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(3, 2, key=jax.random.key(0))
        >>> ensemble = jf.sample_ensemble(network, 4, key=jax.random.key(1))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> solution = jf.gradient_flow(ensemble, task, stop=[jf.RescaledTime(0.1)])
        >>> solution.status.tolist()
        ['RescaledTime', 'RescaledTime', 'RescaledTime', 'RescaledTime']
        >>> solution[2:].dataset["init"].values.tolist()
        [2, 3]
    """

    counted: ClassVar[str] = "log_norm"
    pictures: ClassVar[Sequence[str]] = ("neurons",)

    kind: str = setting()
    """`"gradient flow"`, `"neural correlation flow"` or `"gradient descent"`."""
    read_directions: Callable[[], Any] = reader(DIRECTIONS)
    """A function without arguments that gives the `directions`; `Given(directions)` where
    they are in memory."""
    log_norm: np.ndarray = column(
        MEMBERS,
        "natural logarithm of ‖w‖ (of ‖w‖/δ in the limit δ → 0)",
        name="final_log_norm",
    )
    """`log ‖w‖`; `log ‖u‖ = log(‖w‖/δ)` in the limit δ → 0."""
    scale: np.ndarray = column(MEMBERS, "initialization scale δ: w(0) = δ w₀")
    """The initialization scale δ."""
    rescaled_time: np.ndarray = column(
        MEMBERS, "s = δ^(L-2) t", "rescaled time", name="final_rescaled_time"
    )
    """`s = δ^(L-2) t`."""
    log_time: np.ndarray = column(
        MEMBERS, "natural logarithm of the physical time t", name="final_log_time"
    )
    """`log t`, natural logarithm."""
    loss: np.ndarray = column(MEMBERS, "loss, a sum over samples", name="final_loss")
    """`𝓛(w)`, a sum over samples."""
    status: np.ndarray = status_column()
    """The name of the stop condition that ended each member, with a number behind it for a
    second one of its class (`"LossBelow_2"`), or of what made the member fail:
    `"max_steps"`, `"non_finite"`, `"step_too_small"`, `"solver_failed"`. A member that
    was to become `Stationary` where no gradient vanishes has `"rests_at_kink"`."""
    stats: Stats = part(Stats)
    records: Records | None = recorded()
    blow_up_time: np.ndarray | None = column(
        MEMBERS,
        "T*, where the δ → 0 limit becomes infinite",
        "rescaled time",
        optional=True,
    )
    """`T*` of the limit flow: infinity if none, NaN if not known yet; `None` otherwise."""
    settings: Mapping[str, Any] = settings_of()
    """What jaxflow says of the run: the solver, the order, tolerances, versions."""
    attrs: Mapping[str, Any] = attributes()
    """Whatever the caller added, and nothing else."""
    members: np.ndarray | None = numbers()
    """The number of each member, (num,), which it keeps when members are picked; `None`
    for 0, 1, …; the coordinate `init` of the dataset."""

    continuation: Continuation | None = continued()
    """From where its members go on, as by `jaxflow.gradient_flow(solution, stop=…)`."""

    def __post_init__(self):
        check_attributes(self.attrs)

    @property
    def is_ensemble(self) -> bool:
        """Whether there is a leading axis of members."""
        return not self.is_single

    @property
    def failed(self) -> np.ndarray:
        """Which members gave up, and ended by no stop condition, (num,)."""
        return has_failed(self.status)

    @functools.cached_property
    def directions(self) -> Network_co:
        """The final directions `w/‖w‖`, as (stacked) networks of unit norm. A run with
        `store=` reads them from its store when they are asked for."""
        return self.read_directions()

    @functools.cached_property
    def networks(self) -> Network_co:
        """The final weights `w = e^ρ v`, as (stacked) networks."""
        factor = jnp.exp(on_device(self.log_norm))

        def scaled(leaf):
            return factor.reshape(factor.shape + (1,) * (leaf.ndim - factor.ndim)) * leaf

        parameters, rest = split(self.directions)
        return eqx.combine(jax.tree_util.tree_map(scaled, parameters), rest)

    def summary(self) -> Summary:
        """What printing the solution shows."""
        return summarize(self)


def _names(cls: type) -> list[str]:
    """The names that fields have in a dataset."""
    return [
        getattr(declaration, "name", None) or name
        for name, declaration in declarations(cls).items()
    ]


_GROUPS = (DIRECTIONS, SIMULATION, GOING_ON, GROUP)  # of a store
RESERVED = frozenset(
    [
        *(*_names(Solution), *_names(Stats), *CLOCKS, *_GROUPS),
        *(MEMBERS, GRID_POINTS, PATH_POINTS, COUNT),
    ]
)
"""Names that a recorded function cannot have."""
