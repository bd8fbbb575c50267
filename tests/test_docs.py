"""What the documentation shows is so: examples run, and the picture has the imports."""

import ast
import pathlib
import re
import xml.etree.ElementTree as xml

import pytest

import jaxflow as jf

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def blocks(page):
    """The Python blocks of a page, each at its own lines so that errors name them."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text.count("\n", 0, found.start(1)) + found.group(1)


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize("page", ["extending.md"])
def test_the_blocks_of_a_page_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    found = list(blocks(page))
    assert found
    for block in found:
        exec(compile(block, DOCS / page, "exec"), names)


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
