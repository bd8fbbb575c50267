"""Every test runs in double precision, with JAX's silent conversions forbidden."""

import pathlib

import equinox as eqx
import jax
import matplotlib
import pytest

from jaxflow.engine import forget_programs

matplotlib.use("Agg")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

_MAPS = pathlib.Path("/proc/self/maps")
_MANY = 25_000
"""Linux gives a process 65,530 maps of memory, and a compiled program takes several: after
a thousand tests none is left, and the process dies in the middle of a compilation."""


def pytest_collection_modifyitems(items):
    """Examples in docstrings stand alone: nothing of their modules is there already."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.dtest.globs.clear()
            item.dtest.globs["__name__"] = "__main__"


def pytest_runtest_teardown():
    """Forget compiled programs before there are too many."""
    if _MAPS.exists() and len(_MAPS.read_text().splitlines()) > _MANY:
        forget_programs()
        eqx.clear_caches()
        jax.clear_caches()
