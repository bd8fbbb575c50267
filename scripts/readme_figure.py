"""Make the picture of the README and of the documentation: docs/early_phase.png.

python scripts/readme_figure.py
"""

import pathlib
import shutil
import tempfile

import jax

from jaxflow import demo


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    docs = pathlib.Path(__file__).parent.parent / "docs"
    with tempfile.TemporaryDirectory() as folder:
        figure, *_ = demo.save(demo.run_demo(), pathlib.Path(folder))
        shutil.copy(figure, docs / "early_phase.png")


if __name__ == "__main__":
    main()
