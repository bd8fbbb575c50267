"""How a run is spread over a machine: devices, pools, lanes, steps between two harvests."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from .._checks import check_items, check_positive, check_whole, shown
from ..errors import InputError

Device = Any
"""A `jax.Device`, which type checkers take for a variable."""

LANE_UNIT = {"cpu": 8}
"""Widths are multiples of this. On a CPU a whole vector register of lanes (8 doubles) lets
the compiler treat every lane alike, so that results do not depend on the width."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How many lanes run where, and how often a run is saved. `None`: measured or chosen.

    Results do not depend on it, beyond rounding.

    Arguments:
        width: lanes in a pool. Measured for the problem on this machine if not given, and
            remembered. On CPUs rounded up to a multiple of 8.
        steps_per_call: most attempted steps between two harvests of finished lanes.
        pools_per_device: pools on one device, each driven by a thread of its own. On CPUs
            as many as cores if not given.
        devices: where to run, of `jax.devices()`; all local devices if not given.
        checkpoint_seconds: how often a run with `store=` saves the lanes in flight.

    Raises:
        InputError: for numbers that are not positive, and without devices.

    Examples:
        >>> import jaxflow as jf
        >>> jf.Schedule(width=64)
        Schedule(width=64)
    """

    width: int | None = None
    steps_per_call: int | None = None
    pools_per_device: int | None = None
    devices: Sequence[Device] | None = None
    checkpoint_seconds: float = 30.0

    def __post_init__(self):
        for name in ("width", "steps_per_call", "pools_per_device"):
            if getattr(self, name) is not None:
                self._keep(name, check_whole(name, getattr(self, name)))
        seconds = check_positive("checkpoint_seconds", self.checkpoint_seconds)
        self._keep("checkpoint_seconds", seconds)
        if self.devices is None:
            return
        expected = "some of jax.devices()"
        devices = check_items("devices", self.devices, expected)
        if not devices or not all(isinstance(device, jax.Device) for device in devices):
            raise InputError("devices", shown(self.devices), expected)
        self._keep("devices", tuple(devices))

    def _keep(self, name: str, value: Any) -> None:
        """A field in its plain form; it is frozen for everybody else."""
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        given = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"Schedule({', '.join(given)})"


def check_schedule(schedule: Any) -> Schedule:
    """How a run is spread over the machine; `None` leaves it open.

    Raises:
        InputError: if it does not fit.
    """
    if schedule is None:
        return Schedule()
    if not isinstance(schedule, Schedule):
        raise InputError("schedule", shown(schedule), "a jaxflow.Schedule")
    return schedule


class Layout(NamedTuple):
    """A schedule in which everything that was left open is decided."""

    width: int
    devices: tuple[Device, ...]  # one for every pool
    narrower: tuple[int, ...]  # widths for the end of a run, from wide to narrow
    steps_per_call: int | None


def devices_of(schedule: Schedule) -> tuple[Device, ...]:
    """One device for every pool.

    The cores of a CPU are used best by one pool each: XLA's own threads find little to
    share in products this small, and a second CPU device gains nothing over a second
    thread (measured in benchmarks/README.md).
    """
    devices = tuple(schedule.devices or jax.local_devices())
    pools = schedule.pools_per_device
    if pools is None:
        on_cpu = devices[0].platform == "cpu"
        pools = max(1, num_cores() // len(devices)) if on_cpu else 1
    return devices * pools


def layout(schedule: Schedule, width: int, total: int | None) -> Layout:
    """The pools for a total number of members (`None`: not known), of a wanted width."""
    devices = devices_of(schedule)
    unit = LANE_UNIT.get(devices[0].platform, 1)
    if total is not None:
        width = min(width, -(-max(total, 1) // len(devices)))
        devices = devices[: max(total, 1)]
    width = _rounded_up(width, unit)
    return Layout(width, devices, _narrower(width, unit), schedule.steps_per_call)


def _narrower(width: int, unit: int) -> tuple[int, ...]:
    """Widths for the end of a run, each an eighth of the one before it."""
    following = _rounded_up(width // 8, unit)
    return (following, *_narrower(following, unit)) if following < width else ()


def num_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _rounded_up(width: int, unit: int) -> int:
    return max(unit, -(-width // unit) * unit)
