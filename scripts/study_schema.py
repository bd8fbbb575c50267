"""Write the JSON schema of study files that is published with the documentation.

python scripts/study_schema.py
"""

import pathlib

from typer.testing import CliRunner

from jaxflow.cli import app


def main() -> None:
    path = pathlib.Path(__file__).parent.parent / "docs" / "study.schema.json"
    path.write_text(CliRunner().invoke(app, ["schema"]).output, encoding="utf-8")


if __name__ == "__main__":
    main()
