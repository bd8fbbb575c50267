"""The commands of studies, as they are typed."""

import html.parser
import json
import pathlib

import matplotlib.image
import numpy as np
import pandas
import pytest
import xarray
from typer.testing import CliRunner

import jaxflow as jf
from jaxflow.cli import app
from jaxflow.studies import _study
from jaxflow.studies._starters import kinds

from .studies import study, tables


def jaxflow(*arguments, code=0):
    """What a command says, which ends as it should."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    assert "Traceback" not in done.output
    return done.output


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def file(here):
    sweep = {"initialization": {"scale": [0.1, 0.01]}}
    path = here / "study.toml"
    path.write_text(study(sweep=sweep).to_toml(), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", kinds())
def test_new_writes_what_check_finds_right(here, kind):
    assert f"wrote {kind}.toml" in jaxflow("new", kind)
    said = jaxflow("check", f"{kind}.toml", "--no-pilot")
    assert "samples, inputs" in said and "order" in said
    assert f"{kind}.toml, which exists" in jaxflow("new", kind, code=1)
    assert jaxflow("new", kind, "other.toml") and (here / "other.toml").exists()


def test_from_a_file_to_a_page(here, file):
    said = jaxflow("check", file)
    assert "initialization.scale: 0.1, 0.01" in said
    assert "2 settings, 8 members, 1 run of the engine" in said
    assert "DiagonalLinear, 6 parameters, of order 3" in said
    assert "to compile a run" in said and "of memory" in said

    said = jaxflow("run", file)
    assert "wrote study.zarr" in said.replace(f"{here}/", "")
    assert "RescaledTime 4" in said and "0.01" in said
    dataset = xarray.open_zarr(here / "study.zarr")
    assert dict(dataset["final_loss"].sizes) == {"scale": 2, "init": 4}

    shown = jaxflow("show", "study.zarr")
    assert "RescaledTime 4" in shown and "medians over members" in shown
    told = json.loads(jaxflow("show", "study.zarr", "--json"))
    assert [each["values"] for each in told["settings"]] == [
        {"scale": 0.1},
        {"scale": 0.01},
    ]
    middle = np.median(dataset["final_loss"], axis=1)
    found = [setting["medians"]["loss"] for setting in told["settings"]]
    np.testing.assert_allclose(found, middle)
    assert told["members"] == 8 and told["failures"] == {}

    drawn = jaxflow("plot", "study.zarr", "-o", "figures").split()[1::2]
    names = sorted(pathlib.Path(path).name for path in drawn)
    assert "study-curves-loss.png" in names and "study-sweep-final_loss.png" in names
    for path in drawn:
        image = matplotlib.image.imread(path)
        assert image[..., :3].std() > 0.02  # something is on it
    assert "curves-norm.png" in jaxflow("plot", "study.zarr", "curves-norm")
    assert "kind: found 'curve'" in jaxflow("plot", "study.zarr", "curve", code=1)

    jaxflow("report", "study.zarr")
    page = (here / "study.html").read_text(encoding="utf-8")
    _Page().feed(page)
    for text in ("a small one", "RescaledTime 4", "[network]", "jaxflow version", "Tsit5"):
        assert text in page
    assert page.count("data:image/png;base64,") == len(drawn)

    jaxflow("export", "study.zarr", "--csv", "members.csv")
    table = pandas.read_csv(here / "members.csv", float_precision="round_trip")
    assert list(table.columns[:4]) == ["scale", "init", "status", "final_log_norm"]
    np.testing.assert_array_equal(table["final_loss"], np.ravel(dataset["final_loss"]))
    jaxflow("export", "study.zarr", "--csv", "records.csv", "--records")
    records = pandas.read_csv(here / "records.csv", float_precision="round_trip")
    np.testing.assert_array_equal(records["loss"], np.ravel(dataset["loss"]))
    assert "no format" in jaxflow("export", "study.zarr", code=1)


class _Page(html.parser.HTMLParser):
    """A page that needs nothing but itself."""

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "iframe", "object")
        for name, value in attrs:
            if name in ("src", "href", "data"):
                assert value.startswith("data:"), (tag, name, value[:80])
            assert not name.startswith("on")


def test_formats_that_need_a_package(here, file):
    jaxflow("run", file, "--quiet")
    for option, package in (("--parquet", "pyarrow"), ("--netcdf", "h5netcdf")):
        try:
            __import__(package)
        except ImportError:
            said = jaxflow("export", "study.zarr", option, "out", code=1)
            assert f"no {package}" in said and "jaxflow[export]" in said
        else:
            jaxflow("export", "study.zarr", option, "out")
            assert (here / "out").stat().st_size > 1000


def test_a_run_in_other_words(here, file):
    assert jaxflow("run", file, "-q") == ""
    first = xarray.open_zarr("study.zarr").load()
    said = jaxflow("run", "study.zarr", "--again", "-o", "again.zarr")
    assert "again.zarr" in said
    again = xarray.open_zarr("again.zarr").load()
    xarray.testing.assert_identical(first.drop_attrs(), again.drop_attrs())
    changes = ("--set", "initialization.num=2", "--set", "stepping.solver=Bosh3")
    jaxflow("run", file, *changes, "-o", "other.zarr", "--workers", "1")
    other = xarray.open_zarr("other.zarr")
    assert other.sizes["init"] == 2
    assert 'solver = "Bosh3"' in other.attrs["study"]
    said = jaxflow("run", file, *changes, code=1)  # into the store of another study
    assert "another" in said and "study.zarr" in said
    assert "--set: found 'num'" in jaxflow("run", file, "--set", "num", code=1)
    assert "--output: found none" in jaxflow("run", "study.zarr", "--again", code=1)
    jaxflow("run", file, "--nothing", code=2)


def test_a_single_network_of_each_kind_of_result(here):
    path = here / "one.toml"
    path.write_text(study().to_toml(), encoding="utf-8")
    assert "Gradient flow" in jaxflow("run", path)
    assert "Gradient flow" in jaxflow("show", "one.zarr")
    assert "one-curves-loss.png" in jaxflow("plot", "one.zarr")
    jaxflow("report", "one.zarr")
    assert "Gradient flow" in (here / "one.html").read_text(encoding="utf-8")
    jaxflow("export", "one.zarr", "--csv", "one.csv")
    assert len(pandas.read_csv(here / "one.csv")) == 4


def test_figures_and_places_that_the_file_names(here):
    output = {"store": "there.zarr", "figures": ["curves-norm"]}
    path = here / "one.toml"
    path.write_text(study(output=output).to_toml(), encoding="utf-8")
    jaxflow("run", path)
    assert (here / "there.zarr").is_dir() and (here / "there-curves-norm.png").exists()


def test_settings_that_fail_end_the_command_with_one(here):
    path = here / "some.toml"
    path.write_text(study(sweep={"network": {"in_size": [2, 3]}}).to_toml())
    said = jaxflow("run", path, code=1)
    assert "warning: 1 of 2 settings failed" in said
    assert "failed: in_size = 3: " in said and "RescaledTime 4" in said
    assert "in_size = 3" in jaxflow("show", "some.zarr")
    jaxflow("report", "some.zarr")
    assert "The setting in_size = 3 failed" in (here / "some.html").read_text()


@pytest.mark.parametrize("wrong", ["a file", "below a file", "somebody else's"])
def test_an_output_that_cannot_be_is_refused_before_anything(
    here, file, wrong, monkeypatch
):
    (here / "text").write_text("kept")
    (here / "mine").mkdir()
    (here / "mine" / "text").write_text("kept")
    output = {"a file": "text", "below a file": "text/out.zarr", "somebody else's": "mine"}

    def never(*arguments, **how):
        raise AssertionError("it has begun")

    monkeypatch.setattr(_study, "_carried_out", never)
    said = jaxflow("run", file, "-o", output[wrong], code=1)
    assert said.startswith("error: ") and output[wrong].split("/")[0] in said
    assert (here / "text").read_text() == (here / "mine" / "text").read_text() == "kept"


def test_ctrl_c_ends_in_two_lines(here, file, monkeypatch):
    def interrupted(*arguments, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(_study, "_carried_out", interrupted)
    first, second = jaxflow("run", file, code=130).splitlines()
    assert first == "interrupted: what is done is kept."
    assert second == "The same command goes on from there."


@pytest.mark.parametrize("command", ["show", "plot", "report"])
def test_what_is_no_result(here, file, command):
    for path in ("nothing.zarr", file):
        assert jaxflow(command, path, code=1).startswith("error: ")


def test_help_shows_examples():
    for command in ("new", "check", "run", "show", "plot", "report", "export"):
        assert f"jaxflow {command} " in jaxflow(command, "--help")


def test_everything_else_of_a_store_can_be_shown(here):
    task = jf.Task(np.eye(2), np.ones(2))
    network = jf.DiagonalLinear(3, 2, key=__import__("jax").random.key(0))
    jf.gradient_flow(network, task, stop=jf.RescaledTime(0.1), store="a.zarr")
    assert "Gradient flow" in jaxflow("show", "a.zarr")
    assert json.loads(jaxflow("show", "a.zarr", "--json"))["members"] == 1
    assert "no study" in jaxflow("run", "a.zarr", "--again", "-o", "b.zarr", code=1)
    assert tables()["title"] == "a small one"
