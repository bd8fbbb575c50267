"""For the documentation: examples in docstrings are code.

Docstrings are written in Markdown, in which `>>>` begins a quotation. This extension of
Griffe, which `mkdocs.yml` names, puts a fence around every doctest.
"""

import inspect
import itertools
from typing import Any

import griffe


class FenceDoctests(griffe.Extension):
    """Fences doctests before docstrings are rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(inspect.cleandoc(obj.docstring.value))


def fenced(docstring: str) -> str:
    """The docstring with paragraphs that begin with `>>>` as blocks of code."""
    paragraphs = []
    for empty, lines in itertools.groupby(docstring.split("\n"), lambda line: not line):
        text = "\n".join(lines)
        is_example = not empty and text.startswith(">>>")
        paragraphs.append(f"```python\n{text}\n```" if is_example else text)
    return "\n".join(paragraphs)
