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
        study = demo.study()
        figure, *_ = demo.save(study.run().result, study, pathlib.Path(folder))
        shutil.copy(figure, docs / "early_phase.png")


if __name__ == "__main__":
    main()
