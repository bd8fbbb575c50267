"""What the documentation shows is so: examples run, and the picture has the imports."""

import ast
import base64
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as xml

import matplotlib.pyplot as plt
import pytest

import jaxflow as jf

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LARGEST = 60_000
"""Bytes of a picture, as in scripts/run_tutorials.py."""


def blocks(page):
    """The Python blocks of a page, each at its own lines so that errors name them."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found.group(1) == "python":
            yield "\n" * text.count("\n", 0, found.start(2)) + found.group(2)


def named(paths):
    return [pytest.param(path, id=path.stem) for path in paths]


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize("page", named(page for page in PAGES if list(blocks(page))))
def test_the_blocks_of_a_page_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    plt.close("all")


def test_every_block_is_run_or_for_a_shell_or_mere_text():
    """So that none is left out by a misspelt language."""
    for page in PAGES:
        languages = {found.group(1) for found in FENCE.finditer(page.read_text())}
        assert languages <= {"python", "bash", "text", "toml"}, page


def test_blocks_of_toml_are_studies_or_parts_of_one():
    text = (DOCS / "guides" / "studies.md").read_text(encoding="utf-8")
    whole, *parts = [f.group(2) for f in FENCE.finditer(text) if f.group(1) == "toml"]
    study = jf.Study.from_text(whole)
    assert len(study.prepared()) == 2  # runs, for two depths
    assert len(parts) == 6
    plain = {name: table for name, table in study.tables.items() if name != "sweep"}
    for part in parts:
        jf.Study(plain | tomllib.loads(part))


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_the_cells_of_a_notebook_run_and_draw(path, tmp_path, monkeypatch):
    """They compare what they find with what is known, by assertions of their own."""
    monkeypatch.chdir(tmp_path)
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.extend(plt.get_fignums()))
    names = {"__name__": "__main__"}
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{path}:{number}", "exec"), names)
    plt.show()
    plt.close("all")
    assert drawn
    assert sum("assert" in line for cell in cells for line in cell["source"])


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_a_notebook_is_stored_as_it_ran(path):
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert pictures
    assert all(len(base64.b64decode(picture)) <= LARGEST for picture in pictures)


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("material", "mkdocs_jupyter", "mkdocstrings"))),
    reason="the extra `docs` is not installed",
)
def test_the_site_is_built_without_a_warning_and_needs_no_net(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    built = subprocess.run(
        [*command, "--site-dir", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    pages = {path.name: path.read_text() for path in tmp_path.rglob("*.html")}
    # A doctest that Markdown takes for text is a quotation of quotations.
    assert not [name for name, page in pages.items() if "<blockquote>" in page]
    assert '<span class="gp">&gt;&gt;&gt; </span>' in pages["api.html"]
    loaded = re.compile(r'<(?:script|img|link)[^>]*(?:src|href)="(?:https?:)?//[^"]*')
    assert not [found for page in pages.values() for found in loaded.findall(page)]


def imports():
    """Pairs of parts of jaxflow, of which the second imports the first."""
    root = pathlib.Path(jf.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == len(parts):
                for name in [node.module] if node.module else [a.name for a in node.names]:
                    yield name.split(".")[0], parts[0].removesuffix(".py")


def test_the_picture_has_the_imports():
    """Every arrow is an import, and every import a way along arrows."""
    paths = xml.parse(DOCS / "way_of_the_data.svg").iter("{http://www.w3.org/2000/svg}path")
    arrows = {(p.get("data-from"), p.get("data-to")) for p in paths if p.get("data-to")}
    drawn = {part for arrow in arrows for part in arrow}
    found = {(a, b) for a, b in imports() if a != b and {a, b} <= drawn}
    assert arrows and arrows <= found

    def reached(part):
        return {part}.union(*(reached(b) for a, b in arrows if a == part))

    assert {(a, b) for a, b in found if b not in reached(a)} == set()
