"""Programs that JAX has traced, evaluated anew with an eye on some of their equations."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array, Bool

# Equations that run one program on their operands, nothing more.
_CALLS = frozenset(
    {
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "remat",
        "remat2",
        "checkpoint",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
    }
)
_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")

_SHORT = 16
"""A scan of so many rounds is written out, so that a compiler that sees the same rounds
elsewhere does them once. Chosen."""


class Eye(NamedTuple):
    """What is looked for.

    Arguments:
        sees: what is to be noted of an equation, as a function of its operands; `None` for
            nothing.
        skips: whether to leave out an equation with all that is in it.
        bars: called with the name of an equation that hides one which would be noted.
    """

    sees: Callable[[Any], Callable[[Sequence[Any]], Bool[Array, " pairs"]] | None]
    skips: Callable[[Any], bool]
    bars: Callable[[str], None]


def evaluate(
    program: Jaxpr,
    constants: Sequence[Any],
    operands: Sequence[Any],
    eye: Eye,
    noted: list[Array],
) -> list[Any]:
    """What a program gives for its operands; what the eye sees in it is appended."""
    values: dict[Any, Any] = dict(zip(program.constvars, constants))
    values.update(zip(program.invars, operands))
    read = lambda v: v.val if isinstance(v, Literal) else values[v]
    counts = _counting(program)
    for equation, counted in zip(program.eqns, counts):
        given = [read(variable) for variable in equation.invars]
        found = (
            _evaluate_equation(equation, given, eye, noted)
            if counted
            else _bind(equation.primitive, given, equation.params)
        )
        values.update(zip(equation.outvars, found))
    return [read(variable) for variable in program.outvars]


def _counting(program: Jaxpr) -> list[bool]:
    """Which equations the derivative of the program depends on."""
    live = {id(v) for v in program.outvars}
    counts = []
    for equation in reversed(program.eqns):
        counted = any(id(v) in live for v in equation.outvars)
        counts.append(counted)
        if counted and equation.primitive.name != "stop_gradient":
            live.update(id(v) for v in equation.invars)
    return counts[::-1]


def _evaluate_equation(equation: Any, given: list[Any], eye: Eye, noted: list) -> list[Any]:
    name, parameters = equation.primitive.name, equation.params
    inner = _program_of(parameters)
    if eye.skips(equation):
        pass
    elif (seen := eye.sees(equation)) is not None:
        noted.append(seen(given))
    elif not any(_shows(program, eye) for program in _programs(parameters)):
        pass
    elif name in _CALLS and inner is not None:
        return evaluate(inner.jaxpr, inner.consts, given, eye, noted)
    elif name == "scan" and inner is not None:
        return _evaluate_scan(inner, parameters, given, eye, noted)
    else:
        eye.bars(name)
    return _bind(equation.primitive, given, parameters)


def _bind(primitive: Any, given: list[Any], parameters: Any) -> list[Any]:
    bound = primitive.get_bind_params(parameters)
    # JAX before 0.10.2 gives functions apart, which stand before the operands.
    functions, named = bound if isinstance(bound, tuple) else ((), bound)
    found = primitive.bind(*functions, *given, **named)
    return list(found) if primitive.multiple_results else [found]


def _operands(parameters: Any) -> tuple[int, int]:
    """How many operands of a loop are constants, and how many are carried."""
    if "num_consts" in parameters:
        return parameters["num_consts"], parameters["num_carry"]
    constants, carried, _ = parameters["ft_in"].unpack()  # from JAX 0.12 on
    return len(list(constants)), len(list(carried))


def _evaluate_scan(
    body: ClosedJaxpr, parameters: Any, given: list[Any], eye: Eye, noted: list
) -> list[Any]:
    length, (num_constants, num_carried) = parameters["length"], _operands(parameters)
    ends = num_constants + num_carried
    constants, carry, rows = given[:num_constants], given[num_constants:ends], given[ends:]

    def once(carry, row):
        seen: list[Array] = []
        found = evaluate(body.jaxpr, body.consts, [*constants, *carry, *row], eye, seen)
        return found[: len(carry)], found[len(carry) :], seen

    if length > _SHORT:

        def round_(carry, row):
            carry, found, seen = once(carry, row)
            return carry, (found, seen)

        carry, (stacked, seen) = jax.lax.scan(
            round_, carry, rows, length, parameters["reverse"]
        )
        noted.extend(sides.ravel() for sides in seen)
        return [*carry, *stacked]
    columns: list[Any] = [None] * length
    order = range(length)
    for place in reversed(order) if parameters["reverse"] else order:
        carry, columns[place], seen = once(carry, [array[place] for array in rows])
        noted.extend(seen)
    return [*carry, *(jnp.stack(column) for column in zip(*columns))]


def _program_of(parameters: Any) -> ClosedJaxpr | None:
    """The one program that an equation runs on its operands, if there is one."""
    given = [parameters[name] for name in _PROGRAMS if name in parameters]
    return _closed(given[0]) if len(given) == 1 else None


def _programs(parameters: Any) -> list[ClosedJaxpr]:
    """All programs inside of an equation."""
    is_program = lambda leaf: isinstance(leaf, (Jaxpr, ClosedJaxpr))
    leaves = jax.tree_util.tree_leaves(dict(parameters), is_leaf=is_program)
    return [_closed(leaf) for leaf in leaves if is_program(leaf)]


def _closed(program: Any) -> ClosedJaxpr:
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, [])


def _shows(program: ClosedJaxpr, eye: Eye) -> bool:
    return any(
        not eye.skips(equation)
        and (
            eye.sees(equation) is not None
            or any(_shows(inner, eye) for inner in _programs(equation.params))
        )
        for equation in program.jaxpr.eqns
    )
