"""What was seen when the gallery was last run as a whole, which comes with the package."""

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from ._claim import Size

FILE = "seen.json"


def _all() -> Mapping[str, Any]:
    path = importlib.resources.files("jaxflow.gallery").joinpath(FILE)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def seen(name: str, size: Size = "full") -> Mapping[str, Any] | None:
    """Verdicts, time and versions of the last run of a claim; `None` if there is none.

    Given the `name` of the claim and the `size`; scripts/gallery.py writes it.
    """
    return _all().get(name, {}).get(size)
