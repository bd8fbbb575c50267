"""What a caller sees of a run that goes on: on a terminal, in a pipe, in a notebook."""

import builtins
import re
import sys
import time
import types

import jax
import jax.numpy as jnp
import pytest

import jaxflow as jf
from jaxflow import engine

from .problems import TSIT5

TASK = jf.Task(jnp.eye(2), jnp.array([2.0, 1.0]))
NETWORK = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
STARTS = jf.sample_ensemble(NETWORK, 9, key=jax.random.key(1))


def flow(progress):
    stop = type("LossBelow", (jf.LossBelow,), {})(1e9)  # compiled anew
    return jf.gradient_flow(STARTS, TASK, stop=stop, progress=progress, **TSIT5)


def lines_of(text):
    """What a terminal showed, one state after the other, without what moves its cursor."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


REPORTS = [
    engine.Progress(0, 1_000_000, 0, 0, 0, "compiling"),
    engine.Progress(10, 1_000_000, 0, 64, 1_000),
    engine.Progress(123_456, 1_000_000, 7_890, 64, 10**9),
]


@pytest.fixture
def terminal(monkeypatch, capsys):
    """The error stream is a terminal with so many columns."""

    def made(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("TTY_INTERACTIVE", "1")
        monkeypatch.setenv("TERM", "xterm")
        return lambda: lines_of(capsys.readouterr().err)

    return made


def report(clock, monkeypatch, title="Stochastic gradient descent", show=None):
    """Every report, a minute after the other."""
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with engine.progress_bar(title, show, 6) as tell:
        for each in REPORTS:
            tell(each)
            clock[0] += 60.0


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_bar_fits_the_terminal_and_the_count_goes_first(columns, terminal, monkeypatch):
    shown = terminal(columns)
    report([0.0], monkeypatch)
    *_, last = shown()
    assert len(last) <= columns
    assert last.startswith("123,456/1,000,000 ")
    assert ("7,890 failed" in last) == (columns >= 80)
    assert ("Stochastic gradient descent" in last) == (columns >= 60)
    assert ("VJPs/s" in last and "64 in flight" in last) == (columns >= 200)
    assert last.endswith("3:00") == (columns >= 60)


def test_compiling_is_said_on_a_terminal(terminal):
    shown = terminal(80)
    flow(None)
    lines = shown()
    assert any(re.match("0/9 Gradient flow .* compiling 0:", line) for line in lines)
    assert lines[-1].startswith("9/9 Gradient flow ")
    assert max(map(len, lines)) <= 80


def test_lines_in_a_pipe_fit_80_columns(capsys, monkeypatch):
    report([0.0], monkeypatch, show=True)
    first, last = lines_of(capsys.readouterr().err)
    assert first == "0/? Stochastic gradient descent: after 0:00, starting"
    assert last.startswith("123,456/1,000,000 Stochastic gradient descent: after 3:00, 7,8")
    assert len(last) <= 80


def test_in_a_pipe_a_line_comes_now_and_then_while_a_program_is_compiled(
    capsys, monkeypatch
):
    monkeypatch.setattr("jaxflow.engine._progress._SECONDS_BETWEEN_LINES", 0.01)
    flow(None)
    assert "0/9 Gradient flow: after 0:00, compiling" in capsys.readouterr().err
    flow(False)
    assert capsys.readouterr().err == ""


def test_a_run_says_that_it_compiles_once(monkeypatch):
    seen = []
    monkeypatch.setattr(engine._progress._State, "update", lambda _, p: seen.append(p))
    stop = type("LossBelow", (jf.LossBelow,), {})
    for level in (1e9, 2e9):
        jf.gradient_flow(STARTS, TASK, stop=stop(level), progress=True, **TSIT5)
    assert [p.doing for p in seen].count("compiling") == 1


class Output:
    """The widget of a notebook, and all that was displayed in it."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def clear_output(self, wait):
        pass


@pytest.mark.parametrize("has_widgets", [False, True])
def test_a_notebook_has_a_bar_where_it_has_widgets(has_widgets, monkeypatch, capsys):
    displayed = []
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    display = types.ModuleType("IPython.display")
    display.display = displayed.append
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    widgets = types.ModuleType("ipywidgets")
    widgets.Output, widgets.__spec__ = Output, types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets if has_widgets else None)
    if not has_widgets:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    flow(True)
    told = capsys.readouterr().err
    shown = [str(getattr(each, "text", "")) for each in displayed]
    assert any("9/9 Gradient flow" in each for each in shown) == has_widgets
    assert ("9/9 Gradient flow: after" in told) != has_widgets
