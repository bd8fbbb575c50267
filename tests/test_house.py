"""The house: which way imports run, who may ask for a class, and how long a file is."""

import ast
import pathlib

import pytest

import jaxflow as jf

ROOT = pathlib.Path(jf.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

SHARED = {
    *("errors", "quantities", "_arrays", "_checks", "_compiled", "_decompositions"),
    *("_command_line", "_files", "_rows", "_samples", "_signals", "_telling"),
    *("_trained", "_versions"),
}
"""What every part may import."""

BELOW_RUNS = {
    *("networks", "tasks", "solvers", "flows", "stops"),
    *("observables", "engine", "results", "stores"),
}
ALLOWED = {
    "networks": set(),
    "tasks": set(),
    "solvers": set(),
    "flows": {"networks", "tasks", "solvers"},
    "stops": {"flows"},
    "observables": {"flows", "networks", "tasks"},
    "engine": {"flows", "solvers", "stops"},
    "stores": set(),
    "results": {"stores"},
    "runs": BELOW_RUNS,
    "kkt": {*BELOW_RUNS, "runs"},
    "saddles": {*BELOW_RUNS, "runs"},
    "early_phase": {*BELOW_RUNS, "runs", "kkt"},
    "plot": {"observables", "results", "kkt", "saddles", "early_phase"},
    "studies": {*BELOW_RUNS, "runs", "kkt", "saddles", "early_phase", "plot"},
    "gallery": {"observables", "kkt", "studies", "plot"},
    "demo": {"stores", "early_phase", "plot", "studies"},
    "cli": {"demo", "gallery", "studies"},
    "__main__": {"cli"},
    "errors": set(),
    "quantities": set(),
    "_arrays": set(),
    "_files": set(),
    "_checks": set(),
    "_command_line": set(),
    "_compiled": set(),
    "_decompositions": set(),
    "_rows": set(),
    "_samples": set(),
    "_signals": set(),
    "_telling": set(),
    "_trained": set(),
    "_versions": set(),
    "__init__": {*BELOW_RUNS, "runs", "kkt", "saddles", "early_phase", "plot", "studies"},
}
"""What each part may import besides itself and what is shared: the way of the data."""


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_parts(path):
    """The parts of jaxflow that a file imports."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("jaxflow"), path
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        above = package[: len(package) - (node.level - 1)]
        target = [*above, *(node.module.split(".") if node.module else [])]
        yield from target[:1] or [alias.name for alias in node.names]


def test_every_part_has_its_place():
    assert {part_of(path) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_run_one_way(part):
    for path in FILES:
        if part_of(path) == part:
            assert set(imported_parts(path)) <= ALLOWED[part] | SHARED | {part}, path


def test_files_inside_folders_are_private():
    """But for the packages themselves and `jf.data`."""
    names = {
        str(path.relative_to(ROOT))
        for path in FILES
        if len(path.relative_to(ROOT).parts) > 1 and not path.name.startswith("_")
    }
    assert names == {"tasks/data.py"}


LONG = {}
"""Files above 400 lines, and why they are."""


def test_files_are_short_or_say_why_not():
    for path in FILES:
        if len(path.read_text().splitlines()) > 400:
            assert str(path.relative_to(ROOT)) in LONG, path


GIVEN = "checks what a user gave"
ASKED_FOR = {
    "engine/_driver.py": {"StoreError": "an error that says that nothing can be saved"},
    "kkt/_activation.py": {"LeakyReLU": GIVEN},
    "kkt/_search.py": {"Initializations": GIVEN},
    "runs/_execution.py": {"Simulation": GIVEN},
    "runs/_given.py": {"Record": GIVEN, "Stepping": GIVEN},
    "runs/_going_on.py": {"Solution": GIVEN},
    "runs/_gradient_descent.py": {"optax.GradientTransformation": GIVEN},
    "runs/_gradient_flow.py": {"NotHomogeneousError": "an error said in other words"},
    "runs/_langevin.py": {
        "diffrax.AbstractItoSolver": GIVEN,
        "diffrax.AbstractStratonovichSolver": GIVEN,
        "diffrax.AbstractFosterLangevinSRK": GIVEN,
    },
    "plot/_early_phase.py": {"EarlyConvergence": GIVEN, "EarlyPhase": GIVEN},
    "runs/_accepted.py": {"AbstractNetworks": GIVEN, "Initializations": GIVEN},
    "runs/_simulation.py": {
        "AbstractStop": GIVEN,
        "AbstractEquation": GIVEN,
        "Stepping": GIVEN,
        "Record": GIVEN,
    },
    "runs/_sliding.py": {
        "diffrax.AbstractERK": GIVEN,
        "diffrax.ButcherTableau": GIVEN,
    },
    "studies/_study.py": {"JaxflowError": "an error that needs no name of its class"},
    "runs/_stepping.py": {
        "diffrax.AbstractStepSizeController": GIVEN,
        "diffrax.AbstractAdaptiveStepSizeController": GIVEN,
        "diffrax.ClipStepSizeController": GIVEN,
        "diffrax.ConstantStepSize": GIVEN,
        "diffrax.AbstractAdaptiveSolver": GIVEN,
        "diffrax.AbstractImplicitSolver": "diffrax's own has a root finder to be set up",
        "diffrax.StepTo": GIVEN,
        "diffrax.AbstractSolver": GIVEN,
        "diffrax.AbstractWrappedSolver": "diffrax's own has a solver inside",
        "diffrax.LeapfrogMidpoint": GIVEN,
    },
    "saddles/_saddle_to_saddle.py": {"Initializations": GIVEN},
    "solvers/_choice.py": {
        "diffrax.AbstractSolver": GIVEN,
        "AbstractStepper": GIVEN,
    },
    "solvers/_unsplit.py": {
        "diffrax.AbstractSolver": GIVEN,
        "diffrax.AbstractImplicitSolver": "diffrax says so by the class",
    },
    "solvers/_whole_steps.py": {
        "diffrax.Euler": "diffrax's Euler has no tableau to count stages by",
        "diffrax.AbstractAdaptiveSolver": "diffrax says so by the class",
        "diffrax.ButcherTableau": "diffrax's tableaux are of two kinds",
        "diffrax.StochasticButcherTableau": "diffrax's tableaux are of two kinds",
    },
    "solvers/_written_out.py": {
        "diffrax.AbstractERK": "which of diffrax's methods can be written out",
        "diffrax.ButcherTableau": "which of diffrax's methods can be written out",
    },
}
"""Where the class of an object is asked for outside of the file that has the class."""


def classes_of_jaxflow():
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).add(path)
    return found


def test_nobody_asks_what_class_a_thing_is():
    own, found = classes_of_jaxflow(), {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if name not in ("isinstance", "issubclass"):
                continue
            second = node.args[1]
            for each in second.elts if isinstance(second, ast.Tuple) else [second]:
                asked = ast.unparse(each)
                foreign = asked.startswith(("diffrax.", "optax."))
                if foreign or (asked in own and path not in own[asked]):
                    found.setdefault(str(path.relative_to(ROOT)), set()).add(asked)
    assert found == {file: set(classes) for file, classes in ASKED_FOR.items()}


COMPILES = {
    "_decompositions.py": "where everything is compiled",
    "networks/_kinks.py": "a call that can be found in a traced program",
    "solvers/_written_out.py": "a vector field that is traced once for all stages",
    "results/_pickling.py": "functions of the caller's, compiled as they were",
    "results/_structure.py": "functions of the caller's, known by their type",
}
"""Where `jit` is asked for. Elsewhere `compiled` or `lower` is: programs of theirs never
wait for each other's decompositions, and are given up when others are used."""


def test_everything_is_compiled_in_one_place():
    names = {"jit", "filter_jit", "pmap", "filter_pmap"}
    found = {
        str(path.relative_to(ROOT))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in names
    }
    assert found == set(COMPILES)
