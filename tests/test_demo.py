"""The main job at a small size, through the command."""

import runpy
import sys
import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from typer.testing import CliRunner

from jaxflow import demo, load, plot, Study
from jaxflow.cli import app
from jaxflow.early_phase import _following
from jaxflow.errors import InputError, RunWarning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo")
    arguments = ["demo", "--members", "6", "--images", "20", "--output", str(path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (path / "output.txt").write_text(result.output)
    return path


@pytest.mark.filterwarnings("error")
def test_the_theory_happens(folder):
    found = load(folder / "early_phase.zarr")
    assert len(found) == 6
    np.testing.assert_allclose(found.flow.log_norm, np.log(1e-4), rtol=1e-10)
    assert np.all(found.kkt_residual < 1e-7)
    assert np.median(1 - found.cosine) < 1e-6
    assert np.all(found.kkt_value > 0)
    # ‖W_l‖² = p^(D-l)/L with p = 2 and L = 7 at a KKT point, and rank one in every layer.
    norms = [np.sum(np.square(w), axis=(1, 2)) for w in found.limit.directions.weights]
    np.testing.assert_allclose(np.transpose(norms), [[4 / 7, 2 / 7, 1 / 7]] * 6, atol=1e-6)
    assert np.median(found.stable_rank) < 1.01
    # The loss does not move: that of a network that gives zero.
    losses = found.flow.records.values["loss"]
    np.testing.assert_allclose(losses, 20 * np.log(2), rtol=1e-12)
    with xarray.open_zarr(folder / "early_phase.zarr") as dataset:
        np.testing.assert_array_equal(dataset["blow_up_time"], found.blow_up_time)


def test_the_demo_is_a_study(folder):
    asked = Study.from_toml(folder / "early_phase.toml")
    assert asked == demo.study(members=6, images=20)
    assert demo.study().settings[0].tables.initialization.num == 256


def test_the_command_shows_a_table(folder):
    output = (folder / "output.txt").read_text()
    for text in ("6 initializations", "order 7", "1 - cos", "10^4", "early_phase.png"):
        assert text in output
    assert (folder / "early_phase.png").stat().st_size > 20_000


def test_wrong_options_are_explained():
    result = CliRunner().invoke(app, ["demo", "--scale", "-1"])
    assert result.exit_code == 1
    assert "initialization.scale" in result.output and "above 0" in result.output
    assert "Traceback" not in result.output


def _runs(monkeypatch, instead):
    """The command with another computation."""
    monkeypatch.setattr(demo, "study", lambda **options: instead())
    return lambda *options: CliRunner().invoke(app, ["demo", *options])


@pytest.mark.parametrize("wrong", ["a file", "a figure", "below a file", "not a store"])
def test_the_output_is_looked_at_before_anything_is_computed(wrong, tmp_path, monkeypatch):
    def never():
        raise AssertionError("it has begun")

    (tmp_path / "file").write_text("kept")
    (tmp_path / "old" / "early_phase.zarr").mkdir(parents=True)
    (tmp_path / "old" / "early_phase.zarr" / "mine.txt").write_text("kept")
    output = {
        "a file": tmp_path / "file",
        "a figure": tmp_path / "early_phase.pdf",
        "below a file": tmp_path / "file" / "folder",
        "not a store": tmp_path / "old",
    }[wrong]
    result = _runs(monkeypatch, never)("--output", str(output))
    assert result.exit_code == 1 and str(output) in result.output
    assert result.output.startswith("error: ") and "Traceback" not in result.output
    assert not (tmp_path / "early_phase.pdf").exists()
    assert (tmp_path / "old" / "early_phase.zarr" / "mine.txt").read_text() == "kept"


def test_brackets_in_errors_and_help_are_brackets(tmp_path, monkeypatch):
    def fails():
        raise ImportError("digits need scikit-learn: pip install 'jaxflow[demo]'")

    result = _runs(monkeypatch, fails)("--output", str(tmp_path))
    assert result.exit_code == 1
    assert result.output == "error: digits need scikit-learn: pip install 'jaxflow[demo]'\n"
    assert '".[bench]"' in CliRunner().invoke(app, ["bench", "--help"]).output


def test_ctrl_c_ends_in_two_lines(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    result = _runs(monkeypatch, interrupted)("--output", str(tmp_path / "new"))
    assert result.exit_code == 130
    first, second = result.output.splitlines()
    assert first.startswith("interrupted: nothing has been written")
    assert second == "The same command begins again."


def test_warnings_of_runs_are_said_without_a_place_in_the_code(tmp_path, monkeypatch):
    def warns():
        warnings.warn("3 of 6 members did not end as asked.", RunWarning, stacklevel=1)
        raise InputError("members", "none", "some")

    result = _runs(monkeypatch, warns)("--output", str(tmp_path))
    first, *_ = result.output.splitlines()
    assert first == "warning: 3 of 6 members did not end as asked."


def test_the_package_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["python -m jaxflow", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("jaxflow", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("jaxflow ")


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert f"jax {jax.__version__}" in result.output


def test_plots_draw_what_was_recorded(folder):
    found = load(folder / "early_phase.zarr")
    dataset = found.curves.load()
    along = np.arange(dataset["cosine"].shape[1])
    ax = plot.recorded(dataset, "cosine", against=along)
    np.testing.assert_allclose(
        ax.lines[-1].get_ydata(), np.median(dataset["cosine"], axis=0)
    )
    ranks = plot.recorded(dataset, "stable_rank", against=along)
    labels = [text.get_text() for text in ranks.get_legend().get_texts()]
    assert labels == ["layer 1", "layer 2", "layer 3"]
    axes = plot.early_phase(found)
    assert [a.get_ylabel() for a in axes][1:] == [
        "cosine",
        r"$\mathcal{L}(w)$",
        "stable rank",
    ]
    plt.close("all")
    with pytest.raises(InputError, match="nothing"):
        plot.recorded(dataset, "nothing")
    with pytest.raises(InputError, match="blow_up_time"):
        plot.early_phase(dataset.drop_vars("blow_up_time"))


def test_the_early_phase_needs_members_that_escape():
    with pytest.raises(InputError, match="networks"):
        _following._grid(np.array([np.inf, np.nan]))
