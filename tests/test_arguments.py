"""Every argument of every public callable with values that are wrong for it."""

import collections
import os
import random

import matplotlib.pyplot as plt
import pytest

import jaxflow as jf

from . import arguments as table
from .compilations import compilations
from .refusing import PROBE

pytestmark = pytest.mark.usefixtures("as_users_have_it")

CASES = [(name, argument) for name, row in table.ROWS.items() for argument in row.kinds]
COMBINATIONS = int(os.environ.get("JAXFLOW_COMBINATIONS", "100"))
SEED = int(os.environ.get("JAXFLOW_SEED", random.SystemRandom().randrange(2**32)))


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def test_every_public_callable_is_in_the_table():
    listed = set(table.ROWS) | set(table.NOT_IN_THE_TABLE)
    methods = {name for name in table.ROWS if name.split(".")[0] in ("Initializations",)}
    owners = ("Task.", "Simulation.", "Solution.")
    methods |= {name for name in table.ROWS if name.startswith(owners)}
    assert table.public_callables() <= listed
    assert listed - methods - table.public_callables() <= {
        "stops.NumSteps",
        "plot.four_panels",
    }


@pytest.mark.parametrize("name", table.ROWS)
def test_every_argument_has_a_kind(name):
    row = table.ROWS[name]
    assert set(row.kinds) | set(row.open) == table.parameters(row)


@pytest.mark.parametrize("name", table.ROWS)
def test_the_call_without_a_wrong_argument_works(name):
    row = table.ROWS[name]
    row.call(**row.valid())


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_wrong_values_are_refused_by_name_before_anything_is_compiled(name, argument):
    row = table.ROWS[name]
    valid, found = row.valid(), []
    for label, given in row.kinds[argument].wrong.items():
        value = table.value_of(given)
        with compilations() as compiled:
            result = table.outcome(row, {**valid, argument: value}, {argument})
        if result.outcome != "refused":
            found.append(f"{label}: {result.outcome}: {result.text}")
        elif set(compiled) - {PROBE}:
            found.append(f"{label}: compiled {compiled}")
    assert not found, "\n".join(found)


def test_random_combinations():
    """`JAXFLOW_COMBINATIONS=2000 JAXFLOW_SEED=1` for more of them, or others."""
    draw, found = random.Random(SEED), []
    names = [name for name, row in table.ROWS.items() if row.kinds]
    for number in range(COMBINATIONS):
        name = draw.choice(names)
        row = table.ROWS[name]
        given, wrong = {**row.valid()}, {}
        for argument, kind in row.kinds.items():
            if draw.random() < 0.3:
                label = draw.choice(sorted(kind.wrong))
                wrong[argument] = label
                given[argument] = table.value_of(kind.wrong[label])
            elif kind.right and draw.random() < 0.3:
                given[argument] = table.value_of(
                    kind.right[draw.choice(sorted(kind.right))]
                )
        if not wrong:
            argument = draw.choice(sorted(row.kinds))
            wrong[argument] = label = draw.choice(sorted(row.kinds[argument].wrong))
            given[argument] = table.value_of(row.kinds[argument].wrong[label])
        drawn = any(isinstance(value, jf.Initializations) for value in given.values())
        if drawn and "trainable" not in wrong:
            given.pop("trainable", None)  # they have their own, and no other beside it
        if given.get("at") is not None and "every" not in wrong:
            given.pop("every", None)  # right by itself, and not beside the other
        result = table.outcome(row, given, set(wrong))
        if result.outcome != "refused":
            found.append((number, result.outcome, name, wrong, result.text))
    counts = collections.Counter(outcome for _, outcome, *_ in found)
    print(f"{COMBINATIONS} combinations, seed {SEED}: {dict(counts)}")
    assert not found, f"seed {SEED}\n" + "\n".join(map(str, found))
