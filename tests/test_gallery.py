"""The gallery: what a claim is, how it is run, and that its pages say what was seen."""

import importlib.util
import json
import math
import pathlib

import matplotlib.pyplot as plt
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

import jaxflow as jf
from jaxflow import gallery
from jaxflow.cli import app
from jaxflow.gallery import _commands, AbstractClaim, Paper, Verdict

from .studies import study

ROOT = pathlib.Path(__file__).parent.parent


class Small(AbstractClaim):
    """That the loss falls, which holds; and that it rises, which does not."""

    name = "small"
    title = "The loss falls"
    paper = Paper("A. Nobody", "On loss", "0000.00000")
    says = "It falls."

    def studies(self, size):
        return {"flow": study(), "later": study(stop={"rescaled_time": 1.0})}

    def verdicts(self, found):
        loss = found["flow"].dataset["final_loss"]
        fallen = float((found["later"].dataset["final_loss"] / loss).max())
        figures = {"figure": fallen, "reason": "a gradient"}
        return [
            Verdict(statement="falls", most=1.0, **figures),
            Verdict(statement="rises", least=1.0, note="of 4 members", **figures),
            Verdict(statement="is far", most=1.0, applies=False, **figures),
        ]

    def draw(self, found):
        figure, ax = plt.subplots()
        found["flow"].dataset["loss"].plot.line(ax=ax, x="record")
        return figure


@pytest.mark.parametrize(
    ("figure", "bounds", "state", "bound"),
    [
        (0.5, {"most": 1.0}, "held", "<= 1"),
        (1.0, {"most": 1.0, "least": 1.0}, "held", "1 to 1"),
        (1.5, {"most": 1.0}, "did not hold", "<= 1"),
        (0.5, {"least": 0.9}, "did not hold", ">= 0.9"),
        (math.nan, {"most": 1.0}, "did not hold", "<= 1"),
        (1.5, {"most": 1, "applies": False}, "outside the theorem's conditions", "<= 1"),
    ],
)
def test_a_verdict_is_a_figure_within_bounds(figure, bounds, state, bound):
    seen = Verdict(statement="so it is", figure=figure, reason="theory", **bounds)
    assert (seen.state, seen.bound) == (state, bound)
    assert json.loads(json.dumps(seen.row, allow_nan=False))["state"] == state


def test_a_claim_leaves_studies_results_verdicts_and_a_figure(tmp_path, monkeypatch):
    """In a folder; a second run has nothing to compute and tells the time of the first."""
    shown = gallery.show(Small(), "test", tmp_path, progress=False)
    assert [each.state for each in shown.verdicts] == [
        *("held", "did not hold", "outside the theorem's conditions")
    ]
    assert jf.Study.from_toml(tmp_path / "flow.toml") == study()
    assert jf.load(tmp_path / "flow.zarr").loss.shape == (4,)
    assert imread(tmp_path / "figure.png").std() > 0
    before = json.loads((tmp_path / "verdicts.json").read_text())
    assert before["verdicts"][1]["note"] == "of 4 members"
    again = gallery.show(Small(), "test", tmp_path, progress=False)
    assert again.seconds == before["seconds"] > 0
    assert again.verdicts == shown.verdicts


def test_a_part_that_fails_is_no_claim():
    class Failing(Small):
        def studies(self, size):
            both = {"equation": {"coordinates": ["polar", "nowhere"]}}
            return {"flow": study(sweep=both)}

    fails = pytest.raises(
        jf.RunError, match=r"small: a part of the study 'flow' failed.*no"
    )
    with fails, pytest.warns(jf.RunWarning, match="1 of 2 settings failed"):
        gallery.show(Failing(), "test", progress=False)


def test_the_command_lists_claims_runs_them_and_sums_up(tmp_path, monkeypatch):
    claims = (Small(),)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(_commands, "CLAIMS", claims)
    monkeypatch.setattr(_commands, "claim", lambda name: claims[0])
    run = lambda *words: CliRunner().invoke(app, ["gallery", *words, "-q"])
    listed = run()
    assert listed.exit_code == 0
    assert "small" in listed.output and "not run yet" in listed.output
    done = run("--all", "-o", str(tmp_path))
    assert done.exit_code == 0
    summary = "1 of 3 statements held, 1 did not hold, 1 outside the theorem's conditions"
    assert summary in " ".join(done.output.split())
    assert (tmp_path / "small" / "quick" / "figure.png").exists()


@pytest.mark.parametrize("words", [["nobody"], ["nobody", "--all"]])
def test_the_command_refuses_what_it_does_not_know(words):
    done = CliRunner().invoke(app, ["gallery", *words])
    assert done.exit_code == 1
    assert "found" in done.output and "expected" in done.output


@pytest.mark.parametrize("claim", gallery.CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_says_what_it_is_and_has_studies_of_all_sizes(claim):
    assert gallery.claim(claim.name) is claim
    assert claim.paper.arxiv in claim.paper.link and len(claim.says) > 100
    sizes = [claim.studies(size) for size in ("test", "quick", "full")]
    assert all(sizes) and all(
        isinstance(s, jf.Study) for one in sizes for s in one.values()
    )
    assert sizes[0] != sizes[2]
    for each in sizes[2].values():
        assert jf.Study.from_text(each.to_toml()) == each


def test_names_are_those_of_files_and_pages():
    names = [claim.name for claim in gallery.CLAIMS]
    assert len(set(names)) == len(names)
    pages = {path.stem for path in (ROOT / "docs" / "gallery").glob("*.md")} - {"index"}
    assert pages == set(names)
    assert all((ROOT / "docs" / "gallery" / f"{name}.png").exists() for name in names)


def test_pages_show_what_was_seen(tmp_path):
    """As scripts/gallery.py --tables writes them, and nothing that was written by hand."""
    spec = importlib.util.spec_from_file_location("made", ROOT / "scripts" / "gallery.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    pages = [ROOT / "README.md", ROOT / "docs" / "index.md", *script.PAGES.glob("*.md")]
    for page in pages:
        copy = tmp_path / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(page.read_text())
    script.ROOT, script.PAGES = tmp_path, tmp_path / "docs" / "gallery"
    script.write_tables()
    for page in pages:
        assert (tmp_path / page.relative_to(ROOT)).read_text() == page.read_text(), page
