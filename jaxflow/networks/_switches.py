"""On which side of its kink every neuron is, on every sample.

A module may call its activations wherever it likes: in a loop over layers, or inside of
`eqx.filter_vmap` as `eqx.nn.MLP` does. So the program of the network is read. In it every
activation with a kink is a call of a function of a name that nothing else has, and what
that function is called with is a pre-activation.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array, Bool, Float

from .._checks import check_numbers
from ..errors import InputError
from ._activations import LeakyReLU, replace_kinked
from ._protocol import own_method
from ._single import check_one, refusal

_NAME = "jaxflow_activation_with_a_kink"
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


def switches(
    network: eqx.Module, inputs: Float[Array, "n *input_shape"]
) -> Bool[Array, "n neurons"]:
    """Whether the pre-activation `z` is positive, for every sample and neuron.

    The module's own `switches(x)` of one sample, where it has such a method. Otherwise
    every `LeakyReLU` with a kink in the network is asked, wherever it is kept and called.

    **Arguments:** a `network` called on one sample, and samples.

    **Raises:** `InputError` if no activation in the network has a kink, or if one is
    called in a branch or in a loop of unknown length.

    >>> import jaxflow as jf
    >>> network = jf.FeedForward((2, 1, 1), jf.LeakyReLU(), key=jax.random.key(0))
    >>> network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[1.0, -2.0]]))
    >>> switches(network, jnp.eye(2)).tolist()
    [[True], [False]]
    """
    check_one(network)
    if not isinstance(inputs, jax.Array):
        check_numbers("inputs", inputs)
        inputs = jnp.asarray(inputs)
    if not inputs.ndim:
        raise InputError("inputs", "a number", "samples (n, *input_shape)")
    if (reason := refusal(network, inputs.shape[1:], inputs.dtype)) is not None:
        found = f"samples of shape {inputs.shape[1:]}, on which the network fails: {reason}"
        raise InputError("inputs", found, "samples (n, *input_shape)")
    own = own_method(network, "switches")
    if own is not None:
        return jax.vmap(own)(inputs)
    arrays, rest = eqx.partition(replace_kinked(network, _named), eqx.is_array)

    def of_one_sample(x):
        call = lambda arrays, x: cast(Callable, eqx.combine(arrays, rest))(x)
        program = jax.make_jaxpr(call)(arrays, x)
        operands = jax.tree_util.tree_leaves((arrays, x))
        sides: list[Array] = []
        _evaluate(program.jaxpr, program.consts, operands, sides)
        if not sides:
            raise InputError(
                "network", "no activation with a kink", "LeakyReLU(slope, power=1)"
            )
        return jnp.concatenate(sides)

    return jax.vmap(of_one_sample)(inputs)


def _named(activation: LeakyReLU) -> Callable:
    """The same activation, as a call that can be found in a program."""

    def call(z):
        return activation(z)

    call.__name__ = _NAME
    return jax.jit(call)


def _evaluate(
    program: Jaxpr, constants: Sequence[Any], operands: Sequence[Any], sides: list[Array]
) -> list[Any]:
    """What a program gives for its operands; the sides of the kinks in it are appended."""
    values: dict[Any, Any] = dict(zip(program.constvars, constants))
    values.update(zip(program.invars, operands))
    read = lambda v: v.val if isinstance(v, Literal) else values[v]
    for equation in program.eqns:
        given = [read(variable) for variable in equation.invars]
        values.update(zip(equation.outvars, _evaluate_equation(equation, given, sides)))
    return [read(variable) for variable in program.outvars]


def _evaluate_equation(equation: Any, given: list[Any], sides: list[Array]) -> list[Any]:
    name, parameters = equation.primitive.name, equation.params
    inner = _program_of(parameters)
    if parameters.get("name") == _NAME:
        sides.append(given[0].ravel() > 0)
    elif not any(map(_has_kinks, _programs(parameters))):
        pass
    elif name in _CALLS and inner is not None:
        return _evaluate(inner.jaxpr, inner.consts, given, sides)
    elif name == "scan" and inner is not None:
        return _evaluate_scan(inner, parameters, given, sides)
    else:
        raise InputError(
            "network",
            f"an activation with a kink inside of {name}",
            "activations outside of branches and loops, or a method switches(x)",
        )
    return _bind(equation.primitive, given, parameters)


def _bind(primitive: Any, given: list[Any], parameters: Any) -> list[Any]:
    bound = primitive.get_bind_params(parameters)
    # JAX before 0.10.2 gives functions apart, which stand before the operands.
    functions, named = bound if isinstance(bound, tuple) else ((), bound)
    found = primitive.bind(*functions, *given, **named)
    return list(found) if primitive.multiple_results else [found]


def _evaluate_scan(
    body: ClosedJaxpr, parameters: Any, given: list[Any], sides: list[Array]
) -> list[Any]:
    """A scan over layers, one after another: their sides cannot leave it otherwise."""
    length, num_constants = parameters["length"], parameters["num_consts"]
    ends = num_constants + parameters["num_carry"]
    constants, carry, rows = given[:num_constants], given[num_constants:ends], given[ends:]
    stacked: list[Any] = [None] * length
    order = range(length)
    for place in reversed(order) if parameters["reverse"] else order:
        row = [array[place] for array in rows]
        found = _evaluate(body.jaxpr, body.consts, [*constants, *carry, *row], sides)
        carry, stacked[place] = found[: len(carry)], found[len(carry) :]
    return [*carry, *(jnp.stack(column) for column in zip(*stacked))]


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


def _has_kinks(program: ClosedJaxpr) -> bool:
    return any(
        equation.params.get("name") == _NAME
        or any(map(_has_kinks, _programs(equation.params)))
        for equation in program.eqns
    )
