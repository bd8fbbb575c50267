"""Fixtures that several test files share."""

import jaxtyping
import pytest

from jaxflow.runs._storing import StoreSink


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
