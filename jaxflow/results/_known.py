"""Classes and functions that a file may name without anybody's leave.

A closed list: modules of jaxflow, of Equinox's and diffrax' public names, and functions
that compute numbers from numbers. Nothing here opens a file, runs a command or calls
something that it was not given, and to find a name in it imports nothing.
"""

import enum
import functools
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import equinox as eqx

_MODULES = ("equinox.nn", "diffrax", "optimistix", "lineax")
"""Whose public Equinox modules are known; all of them are numerics."""
_FUNCTIONS = {
    "jax.nn": (
        "relu relu6 elu selu celu gelu silu sigmoid hard_sigmoid log_sigmoid softplus "
        "soft_sign leaky_relu hard_tanh hard_silu glu squareplus mish sparse_plus "
        "sparse_sigmoid softmax log_softmax logsumexp standardize identity tanh"
    ),
    "jax.numpy": (
        "tanh sinh cosh sin cos tan arctan arcsinh arctan2 exp exp2 expm1 log log1p log2 "
        "sqrt cbrt square abs absolute sign maximum minimum reciprocal negative positive "
        "sum mean prod max min clip sinc heaviside add subtract multiply divide power "
        "logaddexp matmul dot float16 bfloat16 float32 float64 int8 int16 int32 int64 "
        "uint8 uint16 uint32 uint64 bool_ complex64 complex128"
    ),
    "jax.lax": (
        "tanh logistic erf erfc erf_inv exp expm1 log log1p sqrt rsqrt square abs sign sin "
        "cos stop_gradient Precision DotAlgorithmPreset RoundingMethod GatherScatterMode "
        "ConvDimensionNumbers DotAlgorithm"
    ),
    "jax.scipy.special": "erf erfc expit logit ndtr log_ndtr gammaln i0e i1e xlogy",
    "optimistix": "rms_norm max_norm two_norm",
    # Types of numbers.
    "builtins": "bool int float complex",
    "numpy": "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64",
    # What Equinox and diffrax have as defaults of their own modules.
    "equinox": "Partial",
    "equinox.nn._mlp": "_identity",
    "equinox.nn._shared": "SharedNode",
    "diffrax._root_finder._with_tols": "use_stepsize_tol",
}
_OWN = __name__.partition(".")[0]
_OWN_FUNCTIONS = f"{_OWN}.observables"


def known(name: str) -> Any:
    """The class or function of that name; `None` if it is not in the list."""
    module_name, _, attribute = name.partition(":")
    if module_name == _OWN or module_name.startswith(f"{_OWN}."):
        found = getattr(sys.modules.get(module_name), attribute, None)
        return found if _is_own(found, module_name) else None
    return _by_name().get(name)


def known_name(thing: Any) -> str | None:
    """The name of a class or function in the list; `None` if it is not there."""
    module_name = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None)
    if isinstance(module_name, str) and module_name.startswith(f"{_OWN}."):
        full_name = f"{module_name}:{name}"
        return full_name if known(full_name) is thing else None
    return _by_identity().get(id(thing))


def _is_own(found: Any, module_name: str) -> bool:
    """Whether it is a module, an enumeration or a named tuple of jaxflow's, or an
    observable."""
    if getattr(found, "__module__", None) != module_name:
        return False  # a name that it has imported from elsewhere
    if isinstance(found, type):
        return issubclass(found, (eqx.Module, enum.Enum)) or hasattr(found, "_fields")
    return callable(found) and module_name.startswith(_OWN_FUNCTIONS)


def _listed() -> Iterator[tuple[str, Any]]:
    for module_name in _MODULES:
        for name, value in vars(importlib.import_module(module_name)).items():
            is_module = isinstance(value, type) and issubclass(value, eqx.Module)
            if is_module and not name.startswith("_"):
                yield f"{module_name}:{name}", value
    for module_name, names in _FUNCTIONS.items():
        try:
            module = importlib.import_module(module_name)
        except ImportError:  # private ones, of another version
            continue
        for name in names.split():
            if hasattr(module, name):
                yield f"{module_name}:{name}", getattr(module, name)


@functools.cache
def _by_name() -> dict[str, Any]:
    return dict(_listed())


@functools.cache
def _by_identity() -> dict[int, str]:
    found: dict[int, str] = {}
    for name, value in _by_name().items():
        found.setdefault(id(value), name)
    return found
