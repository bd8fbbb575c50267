"""Fixtures that several test files share, and how the tests compile.

Most of their time goes into compiling programs that then run for milliseconds. LLVM leaves
out its optimizations, which saves up to a third; what XLA does before it is as everywhere.
`XLA_FLAGS=--xla_backend_optimization_level=3 pytest` compiles as users do.
"""

import os

import jaxtyping
import pytest

from jaxflow.runs._storing import StoreSink

_LEVEL = "--xla_backend_optimization_level"
if _LEVEL not in os.environ.get("XLA_FLAGS", ""):  # read when JAX first computes
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_LEVEL}=0".strip()


@pytest.fixture
def as_users_have_it():
    """Without the run-time type checks of the tests, which would answer before jaxflow."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def added(monkeypatch):
    """The numbers of the members that came to their end in this test."""
    add, numbers = StoreSink.add, []

    def spy(sink, indices, outcome):
        numbers.extend(indices.tolist())
        add(sink, indices, outcome)

    monkeypatch.setattr(StoreSink, "add", spy)
    return numbers
