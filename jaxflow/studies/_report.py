"""One page of a study, with its pictures in it, that opens without a network."""

import base64
import html
import io
from collections.abc import Iterator

import matplotlib.figure

from ._outcome import as_json, Outcome, table_of
from ._pictures import pictures_of


def report(outcome: Outcome) -> str:
    """The page, as HTML."""
    told = as_json(outcome)
    parts = [
        f"<h1>{html.escape(told['title'])}</h1>",
        f"<p class='quiet'>{html.escape(outcome.path.name)}: "
        f"{len(told['settings'])} settings, {told['members']:,} members</p>",
        *_warnings(outcome),
        "<h2>How members ended</h2>",
        _table(outcome),
        *_figures(outcome),
    ]
    if outcome.study:
        parts += ["<h2>The study</h2>", f"<pre>{html.escape(outcome.study)}</pre>"]
    parts += ["<h2>How it was run</h2>", _settings(outcome)]
    return _PAGE.format(title=html.escape(told["title"]), body="\n".join(parts))


def _warnings(outcome: Outcome) -> Iterator[str]:
    failed = [end for end in outcome.endings if end.failed]
    if failed:
        total = outcome.num_members
        told = ", ".join(f"{end.rows.sum():,} by {end.name}" for end in failed)
        yield f"<p class='warning'>Of {total:,} members some gave up: {told}.</p>"
    for label, text in outcome.failures.items():
        yield (
            f"<p class='warning'>The setting {html.escape(label)} failed: "
            f"{html.escape(text)}</p>"
        )


def _table(outcome: Outcome) -> str:
    found = table_of(outcome)
    cells = [list(column.cells) for column in found.columns]
    header = "".join(f"<th>{html.escape(str(c.header))}</th>" for c in found.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in zip(*cells)
    )
    return f"<div class='wide'><table><tr>{header}</tr>{rows}</table></div>"


def _figures(outcome: Outcome) -> Iterator[str]:
    for title, figure in pictures_of(outcome):
        yield f"<h2>{html.escape(title)}</h2>"
        yield f"<img alt='{html.escape(title)}' src='{_embedded(figure)}'>"


def _embedded(figure: matplotlib.figure.Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _settings(outcome: Outcome) -> str:
    about = outcome.dataset.attrs.get("jaxflow", {})
    settings = about.get("settings", {}) if isinstance(about, dict) else {}
    rows = "".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in settings.items()
    )
    return f"<div class='wide'><table>{rows}</table></div>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 56rem;
       padding: 1rem; color: #222; background: #fff; }}
h1 {{ font-size: 1.6rem; margin-bottom: 0; }}
h2 {{ font-size: 1.2rem; margin-top: 2rem; }}
img {{ max-width: 100%; height: auto; }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; font-size: 0.85rem; }}
table {{ border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #ddd; }}
.wide {{ overflow-x: auto; }}
.quiet {{ color: #666; margin-top: 0; }}
.warning {{ background: #fff4d6; border-left: 4px solid #d9a400; padding: 0.5rem 1rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
