"""Execute the notebooks of the site anew and keep what they print and draw.

    python scripts/run_tutorials.py            # all below docs
    python scripts/run_tutorials.py saxe mlp   # some of them

The site shows notebooks as they are stored. The tests run their code too, but keep nothing.
"""

import base64
import os
import pathlib
import sys

import nbclient
import nbformat

DOCS = pathlib.Path(__file__).parent.parent / "docs"

LARGEST = 60_000
"""Bytes of a picture: chosen, so that the repository stays small."""


def execute(path: pathlib.Path) -> None:
    """Run one notebook in a new kernel.

    Arguments:
        path: where it is, before and after.

    Raises:
        ValueError: for a picture that is too large.
        CellExecutionError: of nbclient, where a cell fails; the file is then as it was.
    """
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata = {}  # times of day, which differ from run to run
        if cell.cell_type == "code":
            cell.outputs = [kept for kept in cell.outputs if kept.get("name") != "stderr"]
            for output in cell.outputs:
                _check_size(path, output.get("data", {}).get("image/png"))
    nbformat.write(notebook, path)


def _check_size(path: pathlib.Path, picture: str | None) -> None:
    if picture is not None and (size := len(base64.b64decode(picture))) > LARGEST:
        raise ValueError(f"a picture of {path.name} has {size} bytes, more than {LARGEST}")


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.ipynb")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            print(path.stem, flush=True)
            execute(path)
