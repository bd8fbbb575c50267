"""Results that are equal to the last bit."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from jaxflow.results import AbstractResult, declarations, Records, Stats


def assert_bits_equal(one, other):
    one, other = np.asarray(one), np.asarray(other)
    assert (one.dtype.kind, one.shape) == (other.dtype.kind, other.shape)
    if one.dtype.kind in "fiub":
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    else:
        assert one.tolist() == other.tolist()


def assert_same(one, other):
    """Two solutions are equal to the last bit."""
    for name in ("log_norm", "scale", "rescaled_time", "log_time", "loss", "status"):
        assert_bits_equal(getattr(one, name), getattr(other, name))
    for name, values in vars(one.stats).items():
        if values is None:
            assert getattr(other.stats, name) is None
        else:
            assert_bits_equal(values, getattr(other.stats, name))
    assert one.kind == other.kind
    assert type(one.directions) is type(other.directions)
    structures = [jax.tree_util.tree_structure(s.directions) for s in (one, other)]
    assert structures[0] == structures[1]
    leaves = [jax.tree_util.tree_leaves(s.directions) for s in (one, other)]
    for a, b in zip(*leaves, strict=True):
        assert (a is b) if callable(a) else bool(a.tobytes() == b.tobytes())
    for field in ("blow_up_time", "records", "members"):
        assert (getattr(one, field) is None) == (getattr(other, field) is None)
    if one.blow_up_time is not None:
        assert_bits_equal(one.blow_up_time, other.blow_up_time)
    if one.members is not None:
        assert_bits_equal(one.members, other.members)
    if one.records is not None:
        assert one.records.over == other.records.over
        assert one.records.dims == other.records.dims
        assert_bits_equal(one.records.grid, other.records.grid)
        assert set(one.records.values) == set(other.records.values)
        for name, values in one.records.values.items():
            assert_bits_equal(values, other.records.values[name])
        assert set(one.records.coordinates) == set(other.records.coordinates)
        for name, values in one.records.coordinates.items():
            assert_bits_equal(values, other.records.coordinates[name])
        assert (one.records.count is None) == (other.records.count is None)
        if one.records.count is not None:
            assert_bits_equal(one.records.count, other.records.count)


def assert_results_same(one, other):
    """Two results of any kind are equal to the last bit, in all that is declared."""
    assert type(one) is type(other)
    for name in declarations(type(one)):
        if name in ("opened", "continuation"):
            continue
        if name == "read_directions":
            name = "directions"
        _assert_parts_same(getattr(one, name), getattr(other, name), name)


def _assert_parts_same(one, other, name):
    if one is None or isinstance(one, (str, int, float)):
        assert one == other, name
    elif isinstance(one, np.ndarray):
        assert_bits_equal(one, other)
    elif isinstance(one, AbstractResult):
        assert_results_same(one, other)
    elif isinstance(one, (Records, Stats)):
        for field in dataclasses.fields(one):
            values = [getattr(part, field.name) for part in (one, other)]
            _assert_parts_same(*values, field.name)
    elif name in ("settings", "attrs", "dims"):
        assert dict(one) == dict(other), name
    elif isinstance(one, Mapping):
        assert set(one) == set(other), name
        for key in one:
            assert_bits_equal(one[key], other[key])
    else:
        _assert_networks_same(one, other)


def _assert_networks_same(one, other):
    leaves = [jax.tree_util.tree_leaves(networks) for networks in (one, other)]
    structures = [jax.tree_util.tree_structure(networks) for networks in (one, other)]
    assert structures[0] == structures[1]
    for a, b in zip(*leaves, strict=True):
        if callable(a):
            assert a is b
        else:
            assert_bits_equal(a, b)
