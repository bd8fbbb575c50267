"""Fixtures that several test files share."""

import jaxtyping
import pytest


@pytest.fixture
def as_users_have_it():
    """Without the run-time type checks of the tests, which would answer before jaxflow."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
