"""Study files: what they may say, and what is said of those that do not."""

import copy
import json
import pathlib
import re
import tomllib

import hypothesis.strategies as st
import numpy as np
import pytest
import tomli_w
from hypothesis import given, HealthCheck, settings

import jaxflow as jf
from jaxflow.studies._parts import LOSSES, NETWORKS
from jaxflow.studies._schema import (
    FIGURES,
    FUNCTIONS,
    json_schema,
    OPTIMIZERS,
    SCHEDULES,
    STOPS,
)
from jaxflow.studies._starters import kinds, starter

from .studies import study, tables

# The type checks of the tests would answer before jaxflow.
pytestmark = pytest.mark.usefixtures("as_users_have_it")

TEXT = """title = "t"
[network]
kind = "FeedForward"
width = 4
depth = 2
activation = { kind = "LeakyReLU", slope = 0.5 }
[data]
kind = "values"
inputs = [[1, 0], [0, 1]]
targets = [1, 1]
[initialization]
num = 4
scale = 0.1
[equation]
kind = "gradient_flow"
[stop]
loss_below = 0.1
[record]
functions = ["loss"]
at = 5
[sweep]
stepping.rtol = [1e-6, 1e-5]
"""
NETWORK = TEXT[TEXT.index("kind = ") : TEXT.index("[data]")]
DATA = TEXT[TEXT.index('kind = "values"') : TEXT.index("[initialization]")]

BROKEN = {
    "no TOML": ("[network]", "[network", "line 2: the file: .*TOML does not allow"),
    "a key twice": ("width = 4", "width = 4\nwidth = 5", "line 5: the file: .*overwrite"),
    "unknown table": ("[data]", "[date]", "line 7: date: .* expected 'data'"),
    "unknown key": ("width = 4", "widht = 4", "line 4: network.widht: .*'width'"),
    "unknown kind": ('"FeedForward"', '"Feedforward"', "line 3: .*kind: .*'FeedForward'"),
    "no kind": ('kind = "FeedForward"\n', "", "line 2: network: found no kind; .*GRU"),
    "a kind that is no word": ('"FeedForward"', "3", "line 3: network.kind: found 3"),
    "a list of tables": ("[network]", "[[network]]", "line 2: network: .* a table"),
    "a word for a number": ("num = 4", 'num = "four"', "line 12: .*num: .*whole number"),
    "no whole number": ("num = 4", "num = 4.5", "line 12: .*found 4.5; .*whole number"),
    "a truth value": ("num = 4", "num = true", "line 12: initialization.num: found True"),
    "nobody": ("num = 4", "num = 0", "line 12: .*found 0; expected a number from 1"),
    "negative scale": ("scale = 0.1", "scale = -0.1", "line 13: .*scale.* above 0"),
    "unknown key inside": ("slope = 0.5", "slop = 0.5", "line 6: network.activation.slop"),
    "out of range": ("slope = 0.5", "slope = 5.0", "line 6: network.activation.slope"),
    "two things to do": (
        "[stop]",
        '[analysis]\nkind = "find_kkt"\n[stop]',
        "both of equation and analysis",
    ),
    "nothing to do": ('[equation]\nkind = "gradient_flow"\n', "", "neither of equation"),
    "unknown stop": ("loss_below", "los_below", "line 17: stop.los_below: .*loss_below"),
    "unknown function": ('["loss"]', '["los"]', r"line 19: record.functions.0: .*'loss'"),
    "what Record refuses": ("at = 5", "at = -5", "line 20: record.at: found -5"),
    "a sweep of nothing": (
        "stepping.rtol = [1e-6, 1e-5]",
        "stepping.rtool = [1e-6, 1e-5]",
        "line 22: sweep.stepping.rtool: .*'rtol'",
    ),
    "a wrong value in a sweep": (
        "stepping.rtol = [1e-6, 1e-5]",
        "initialization.scale = [0.1, -1]",
        "line 22: sweep.initialization.scale: found -1",
    ),
    "a sweep of one value": ("= [1e-6, 1e-5]", "= 1e-6", "line 22: .*a list of values"),
    "zipped lists of two lengths": (
        "[sweep]\n",
        "[[sweep]]\nnetwork.width = [3, 4, 5]\n",
        "line 21: sweep.0: found 3 values of network.width, 2 values of stepping.rtol",
    ),
    "rows of two lengths": ("[[1, 0], [0, 1]]", "[[1, 0], [0]]", "line 9: data.inputs"),
    "targets of another length": ("[1, 1]", "[1, 1, 1]", "line 10: data.targets"),
    "sizes twice": ("width = 4", "sizes = [2, 3, 1]", "line 2: network: .*beside"),
    "a network that does not fit": (
        "width = 4\ndepth = 2",
        "sizes = [3, 3, 1]",
        "line 2: network: .*does not fit",
    ),
    "a scale in the limit": (
        '"gradient_flow"',
        '"correlation_limit"',
        "line 13: initialization.scale: .*no scale",
    ),
    "no file": (
        DATA,
        'kind = "file"\npath = "no.csv"\ninputs = "a"\ntargets = "b"\n',
        "line 9: data.path: .*no.csv",
    ),
    "code": (NETWORK, 'kind = "nets.py:Net"\n', "line 3: network.kind: .*--allow-code"),
    "a picture that nobody draws": (
        "[sweep]",
        '[output]\nfigures = ["curve"]\n[sweep]',
        "line 22: output.figures: found 'curve'; expected one of curves",
    ),
    "a word for steps": (
        'kind = "gradient_flow"',
        'kind = "gradient_descent"\nnum_steps = "many"\n'
        'optimizer = { kind = "sgd", learning_rate = 0.1 }',
        "line 16: equation.num_steps: found 'many'; expected a whole number",
    ),
    "a wrong optimizer": (
        'kind = "gradient_flow"',
        'kind = "gradient_descent"\nnum_steps = 5\n'
        'optimizer = { kind = "sdg", learning_rate = 0.1 }',
        "line 17: equation.optimizer.kind: .*'sgd'",
    ),
}
"""By what is wrong: what is replaced, by what, and what is said of it."""


@pytest.mark.parametrize("wrong", BROKEN)
def test_broken_files_are_told_by_file_line_and_key(wrong):
    old, new, message = BROKEN[wrong]
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(jf.StudyError, match=rf"^s\.toml(, )?.*{message}") as told:
        jf.Study.from_text(text, name="s.toml").prepared()
    assert "\n" not in str(told.value)


def test_the_file_itself_is_right():
    right = jf.Study.from_text(TEXT, name="s.toml")
    assert len(right.prepared()) == 2
    assert right == jf.Study.from_text(right.to_toml())


@pytest.mark.parametrize("kind", kinds())
def test_starters_are_right_and_say_what_they_are(kind):
    text = starter(kind)
    assert text.startswith("# ")
    first = jf.Study.starter(kind)
    assert first == jf.Study.from_text(first.to_toml())
    assert all(prepared.task.num_samples < 50 for prepared in first.prepared())


# -- both ways --

numbers = st.floats(1e-9, 1e9) | st.integers(1, 50)
networks = st.one_of(
    st.builds(
        lambda depth, width: {"kind": "FeedForward", "depth": depth, "width": width,
                              "activation": "tanh"},
        st.integers(1, 4), st.integers(1, 9),
    ),
    st.builds(lambda depth: {"kind": "DiagonalLinear", "depth": depth, "in_size": 2},
              st.integers(2, 4)),
    st.just({"kind": "MLP", "in_size": 2, "out_size": 1, "width_size": 3, "depth": 1}),
)  # fmt: skip
stops = st.dictionaries(
    st.sampled_from(["loss_below", "norm_above", "rescaled_time", "time"]), numbers,
    min_size=1,
)  # fmt: skip
equations = st.one_of(
    st.just({"kind": "gradient_flow"}),
    st.builds(
        lambda name, rate: {"kind": "gradient_descent", "num_steps": 3,
                            "optimizer": {"kind": name, "learning_rate": rate}},
        st.sampled_from(["sgd", "adam", "lion"]), st.floats(1e-6, 1.0),
    ),
)  # fmt: skip
records = st.none() | st.builds(
    lambda names, at: {"functions": names, "at": at},
    st.lists(st.sampled_from(["loss", "norm", "weights"]), min_size=1, unique=True),
    st.integers(2, 9) | st.lists(st.floats(0, 10), min_size=1, max_size=3, unique=True),
)
values = st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=3, unique=True)
sweeps = st.one_of(
    st.none(),
    st.builds(lambda some: {"initialization": {"scale": some}}, values),
    st.builds(
        lambda some, seeds: [{"initialization.scale": some, "initialization.seed":
                              list(range(len(some)))}, {"network.seed": seeds}],
        values, st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
    ),
)  # fmt: skip
words = st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))


@st.composite
def studies(draw):
    found = {
        "title": draw(words),
        "network": draw(networks),
        "data": {"kind": "values", "inputs": [[1.0, 0], [0, 1]], "targets": [1, 0.5]},
        "initialization": {"num": draw(st.integers(1, 9)), "seed": draw(st.integers(0, 9))},
        "equation": draw(equations),
        "stop": draw(st.none() | stops),
        "record": draw(records),
        "sweep": draw(sweeps),
    }
    if found["network"]["kind"] == "MLP" and isinstance(found["sweep"], list):
        found["sweep"] = found["sweep"][:1]  # without a seed, which it has too
    return {name: table for name, table in found.items() if table is not None}


@settings(max_examples=100, deadline=None)
@given(studies())
def test_what_is_written_is_read_as_the_same(plain):
    before = copy.deepcopy(plain)
    one = jf.Study(plain)
    again = jf.Study.from_text(one.to_toml())
    assert again == one and again.tables == one.tables == before == plain
    assert again.to_toml() == one.to_toml()
    labels = [setting.label for setting in one.settings]
    assert [setting.label for setting in again.settings] == labels
    assert len(set(labels)) == len(labels)


def test_studies_that_differ_are_not_equal(tmp_path):
    assert study() == study()
    assert study() != study(title="another")
    assert study() != study(initialization={"num": 4, "scale": 0.2})
    one = study(sweep=[{"initialization.scale": [0.1]}, {"network.depth": [3]}])
    other = study(sweep=[{"network.depth": [3]}, {"initialization.scale": [0.1]}])
    assert one != other  # of other dimensions
    path = tmp_path / "study.toml"
    path.write_text(study().to_toml(), encoding="utf-8")
    assert jf.Study.from_toml(path) == study()
    assert study().replace({"network.depth": 4}).tables["network"]["depth"] == 4


def test_stops_have_an_order_whatever_hashes_are():
    """Or a run would be another one in the next process."""
    given_ = dict.fromkeys(reversed(STOPS), 1.0)
    (only,) = study(stop=given_).settings
    assert list(only.tables.stop.given()) == list(STOPS)


def test_values_of_numpy_are_those_of_a_file():
    given_ = tables(initialization={"num": np.int64(4), "scale": np.float32(0.5)})
    given_["data"]["inputs"] = np.eye(2)
    plain = jf.Study(given_).tables
    assert plain["data"]["inputs"] == [[1.0, 0.0], [0.0, 1.0]]
    assert type(plain["initialization"]["num"]) is int
    with pytest.raises(jf.StudyError, match=r"network\.depth: found <object"):
        study(network={"kind": "DiagonalLinear", "depth": object()})


# -- whatever a file says --

VALUES = [
    *(-1, 0, 1, 2, 3, 7, 0.5, -0.5, 1e-8, float("nan"), float("inf"), True, False, 10**30),
    *("", "relu", "LeakyReLU", "FeedForward", "x", "sphere_points", "\0", "my.py:Net"),
    *([], [1], [1, 2], [[1, 2], [3, 4]], ["loss"], [0.1, "a"], {}, {"kind": "LeakyReLU"}),
    *({"kind": "digits"}, {"kind": "sgd", "learning_rate": 0.1}, {"a": {"b": [1]}}),
]
NAMES = ["kind", "num", "seed", "scale", "at", "sizes", "zz", "depth"]


def _places(value, key=()):
    parts = value.items() if isinstance(value, dict) else enumerate(value[:3])
    for name, part in parts:
        yield (*key, name)
        if isinstance(part, (dict, list)):
            yield from _places(part, (*key, name))


@st.composite
def mutated(draw):
    """A right study with some parts changed, renamed, taken away or moved."""
    found = tomllib.loads(draw(st.sampled_from([TEXT, *map(starter, kinds())])))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(found))
        if not places:
            break
        *above, name = draw(st.sampled_from(places))
        table = found
        for part in above:
            table = table[part]
        what = draw(st.sampled_from(["value", "value", "delete", "rename", "copy"]))
        if what == "delete":
            del table[name]
        elif what == "rename" and isinstance(table, dict):
            table[draw(st.sampled_from([*NAMES, f"{name}x"]))] = table.pop(name)
        elif what == "copy":
            part = found
            for each in draw(st.sampled_from(places)):
                part = part[each] if isinstance(part, dict) else 1
                if not isinstance(part, (dict, list)):
                    break
            table[name] = copy.deepcopy(part)
        else:
            table[name] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return found


@settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck)
)  # 2,000 by scripts of one's own: pytest --hypothesis-seed, and more of them
@given(mutated())
def test_whatever_a_file_says_is_made_or_refused_in_a_sentence(plain):
    try:
        text = tomli_w.dumps(plain)
    except (TypeError, AttributeError, ValueError):
        return  # not TOML
    try:
        found = jf.Study.from_text(text, name="s.toml")
        if len(found.settings) < 20:
            found.prepared()
    except jf.JaxflowError as error:
        assert re.match(r"^s\.toml", str(error)), error
    except ImportError as error:
        assert "jaxflow[demo]" in str(error)


# -- what the schema has --


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_has_a_table(kind):
    rate = {} if kind in ("lbfgs", "adadelta", "polyak_sgd", "noisy_sgd") else {
        "learning_rate": 0.1
    }  # fmt: skip
    if kind == "noisy_sgd":
        rate = {"learning_rate": 0.1, "seed": 1}
    equation = {"kind": "gradient_descent", "num_steps": 2}
    equation["optimizer"] = {"kind": kind, **rate}
    study(equation=equation, stop=None, stepping=None).prepared()


def test_names_are_those_of_what_they_stand_for():
    results = (jf.Solution, jf.KKTPoints, jf.SaddleToSaddle, jf.EarlyConvergence)
    drawn = [name for result in (*results, jf.EarlyPhase) for name in result.pictures]
    assert {*drawn, "curves", "sweep", "final_losses", "spectra"} == set(FIGURES)
    assert all(callable(getattr(jf.plot, name)) for name in drawn)
    assert all(callable(make) for make in {**NETWORKS, **LOSSES, **SCHEDULES}.values())
    assert all(getattr(jf, name) is function for name, function in FUNCTIONS.items())


def test_the_schema_of_the_docs_is_that_of_studies_and_fits_all_starters():
    jsonschema = pytest.importorskip("jsonschema")
    path = pathlib.Path(__file__).parents[1] / "docs" / "study.schema.json"
    assert path.read_text(encoding="utf-8") == json_schema(), "scripts/study_schema.py"
    check = jsonschema.Draft202012Validator(json.loads(json_schema()))
    for kind in kinds():
        check.validate(tomllib.loads(starter(kind)))
    for wrong in ("unknown key", "unknown kind", "unknown function", "unknown stop"):
        old, new, _ = BROKEN[wrong]
        assert list(check.iter_errors(tomllib.loads(TEXT.replace(old, new, 1)))), wrong
