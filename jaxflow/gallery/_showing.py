"""A claim that is run: its datasets, verdicts, figure, and the files of all that."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import xarray

from .._versions import versions
from ..errors import RunError
from ..studies import Study
from ._claim import AbstractClaim, Size, Verdict

VERDICTS, FIGURE = "verdicts.json", "figure.png"


@dataclasses.dataclass(frozen=True)
class Shown:
    """A claim that was run at one size: what was `found`, the `verdicts`, the `exceptions`
    among the members, and the `seconds`."""

    claim: AbstractClaim
    size: Size
    studies: Mapping[str, Study]
    found: xarray.DataTree
    verdicts: Sequence[Verdict]
    exceptions: Sequence[str]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Verdicts, time and versions in plain values."""
        return {
            "claim": self.claim.name,
            "size": self.size,
            "seconds": round(self.seconds, 1),
            "date": time.strftime("%Y-%m-%d"),
            "versions": versions(),
            "verdicts": [each.row for each in self.verdicts],
            "exceptions": list(self.exceptions),
        }


def show(
    claim: AbstractClaim,
    size: Size = "quick",
    folder: pathlib.Path | None = None,
    progress: bool | None = None,
) -> Shown:
    """Run a claim, or go on with it, and judge it.

    Arguments:
        claim: the claim.
        size: `"test"`, `"quick"` or `"full"`.
        folder: where study files, datasets, verdicts and the figure go; nowhere if not
            given.
        progress: as for `jaxflow.run`.

    Raises:
        RunError: if a part of a study failed.

    Examples:
        >>> from jaxflow import gallery
        >>> for each in gallery.CLAIMS:
        ...     assert set(each.studies("quick"))
    """
    began = time.perf_counter()
    studies, datasets = claim.studies(size), {}
    for name, study in studies.items():
        store = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.toml").write_text(study.to_toml(), encoding="utf-8")
            store = folder / f"{name}.zarr"
        result = study.run(store=store, progress=progress)
        if result.failures:
            told = "; ".join(result.failures.values())
            raise RunError(f"{claim.name}: a part of the study {name!r} failed: {told}")
        datasets[name] = result.dataset
    found = xarray.DataTree.from_dict(datasets)
    verdicts, exceptions = list(claim.verdicts(found)), list(claim.exceptions(found))
    seconds = time.perf_counter() - began
    shown = Shown(claim, size, studies, found, verdicts, exceptions, seconds)
    return shown if folder is None else _written(shown, folder)


def _written(shown: Shown, folder: pathlib.Path) -> Shown:
    import matplotlib.pyplot as plt  # which other commands can do without

    path = folder / VERDICTS
    if path.exists():  # all was computed before, and this call has only looked at it
        before = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        shown = dataclasses.replace(shown, seconds=before)
    figure = shown.claim.draw(shown.found)
    figure.savefig(folder / FIGURE, dpi=150)
    plt.close(figure)
    text = json.dumps(shown.as_json(), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return shown
