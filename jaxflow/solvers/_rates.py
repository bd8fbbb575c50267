"""Optimizers that differ in their rates alone, served by one program.

An optax optimizer is a pair of functions that close over their settings, so that JAX takes
one that is made anew for another. Here it is taken apart. The factor of `optax.scale`, in
which learning rates end, and the numbers that `optax.inject_hyperparams` begins with become
data; all else is compared by what it is made of: code, settings, functions within.

No other number becomes data. A decay of 0.999 in `1 - 0.999` is rounded once as a constant
and twice as data, and `if momentum:` needs its value; a factor is rounded once either way.
"""

import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax

_DEEPEST = 40
"""Values within values: optimizers of a dozen parts have about twenty. Chosen."""


class Optimizer(eqx.Module):
    """An optimizer in two parts: its rates, which are data, and all else.

    Given any `optax.GradientTransformation`.
    """

    rates: tuple[Any, ...]
    own: tuple[Any, ...]
    """Numbers of `optax.inject_hyperparams` of which each member has one, (num,)."""
    form: "_Form" = eqx.field(static=True)

    def __init__(self, optimizer: optax.GradientTransformation):
        rates: list[float] = []
        own: list[Any] = []

        def collect(rate):
            (own if np.ndim(rate) else rates).append(rate)
            return rate

        key, _ = _taken_apart(optimizer, (), collect)
        self.form = _Form(optimizer, key)
        self.rates = tuple(np.asarray(rate, np.float64) for rate in rates)
        self.own = tuple(np.asarray(rate) for rate in own)

    def whole(self, dtype: Any, own: tuple[Any, ...] = ()) -> optax.GradientTransformation:
        """The optimizer with its rates as they are here, for parameters of this type.

        A Python number takes the type of the array that it is multiplied with.

        Arguments:
            own: the numbers of one member, where each has its own.
        """
        rates: Iterator[Any] = iter(self.rates)
        of_member: Iterator[Any] = iter(own or self.own)

        def replace(rate):
            found = next(of_member) if np.ndim(rate) else next(rates)
            return jnp.asarray(found).astype(dtype)

        return _taken_apart(self.form.optimizer, (), replace)[1]

    def known_by(self) -> dict[str, Any]:
        """What tells it from other optimizers: the one that it was made from."""
        return {"optimizer": self.form.optimizer}


def form_of(value: Any) -> Hashable:
    """What is equal for values that are made in one way, of the same numbers: functions by
    their code and what they close over."""
    return _taken_apart(value, (), lambda rate: rate).key


class _Form:
    """What an optimizer is beside its rates; equal for those that are made in one way."""

    def __init__(self, optimizer: Any, key: Any):
        self.optimizer = optimizer
        self._key = key

    def __eq__(self, other: object) -> bool:
        return type(other) is _Form and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


class _Same:
    """What is equal to itself only; held, so that nothing else takes its place."""

    def __init__(self, thing: Any):
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and self._thing is other._thing

    def __hash__(self) -> int:
        return id(self._thing)


class _Apart(NamedTuple):
    key: Any  # equal for values that are made in one way, up to their rates
    made: Any  # the value with other rates; itself if it has none


_SCALE: Any = optax.scale(1.0).update
_INJECTED: Any = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0).init
_RATES = {_SCALE.__code__: "step_size", _INJECTED.__code__: "numeric_hps"}
"""By the code of a function of optax, the name under which it closes over rates."""


def _taken_apart(
    value: Any, above: tuple[int, ...], replace: Callable[[Any], Any]
) -> _Apart:
    """A value's key, and the value with every rate replaced, in one order always."""
    if value is None or type(value) in (bool, int, float, str):
        return _Apart((type(value), repr(value)), value)
    if id(value) in above or len(above) > _DEEPEST:  # functions that call themselves
        return _Apart(_Same(value), value)
    above = (*above, id(value))
    if isinstance(value, (tuple, list)):
        parts = [_taken_apart(part, above, replace) for part in value]
        made = [part.made for part in parts]
        if not _differ(made, value):
            new = value
        elif hasattr(value, "_fields"):
            new = type(value)(*made)
        else:
            new = type(value)(made)
        return _Apart((type(value), tuple(part.key for part in parts)), new)
    if type(value) is dict:
        parts = [_taken_apart(part, above, replace) for part in value.values()]
        names = tuple(_Same(n) if not isinstance(n, str) else n for n in value)
        made = [part.made for part in parts]
        new = dict(zip(value, made)) if _differ(made, value.values()) else value
        return _Apart((dict, names, tuple(part.key for part in parts)), new)
    if type(value) is types.FunctionType:
        return _function_apart(value, above, replace)
    return _Apart(_Same(value), value)


def _function_apart(function: Any, above: tuple[int, ...], replace: Callable) -> _Apart:
    try:
        held = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is still empty
        return _Apart(_Same(function), function)
    rates = _RATES.get(function.__code__)
    parts = [
        _rates_apart(value, above, replace)
        if name == rates
        else _taken_apart(value, above, replace)
        for name, value in zip(function.__code__.co_freevars, held)
    ]
    settings = (function.__defaults__, function.__kwdefaults__, function.__dict__)
    keys = tuple(part.key for part in parts)
    key = (
        function.__code__,
        _Same(function.__globals__),
        _taken_apart(settings, above, replace).key,
        keys,
    )
    made = [part.made for part in parts]
    if not _differ(made, held):
        return _Apart(key, function)
    new = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(types.CellType(value) for value in made),
    )
    new.__kwdefaults__ = function.__kwdefaults__
    new.__dict__.update(function.__dict__)
    return _Apart(key, new)


def _rates_apart(value: Any, above: tuple[int, ...], replace: Callable) -> _Apart:
    if type(value) is float:
        return _Apart("rate", replace(value))
    if type(value) is dict:
        kinds = {
            name: "own" if np.ndim(rate) == 1 else "all" if type(rate) is float else None
            for name, rate in value.items()
        }
        made = {
            name: rate if kinds[name] is None else replace(rate)
            for name, rate in value.items()
        }
        others = {name: rate for name, rate in value.items() if kinds[name] is None}
        keys = (tuple(kinds.items()), _taken_apart(others, above, replace).key)
        return _Apart(("rates", keys), made)
    return _taken_apart(value, above, replace)


def _differ(made: Any, held: Any) -> bool:
    return any(new is not old for new, old in zip(made, held))
