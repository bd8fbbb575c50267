"""One page of a study, with its pictures in it, that opens without a network."""

import base64
import html
import io
from collections.abc import Iterable, Iterator

import matplotlib.figure
import matplotlib.pyplot as plt

from ..errors import InputError
from ._outcome import Outcome, table_of
from ._pictures import pictures_of


def report(outcome: Outcome) -> str:
    """The page, as HTML."""
    num = len(list(outcome.each())) if outcome.swept else 1
    settings = f"{num:,} settings, " if outcome.swept else ""
    parts = [
        f"<h1>{html.escape(outcome.title)}</h1>",
        f"<p class='quiet'>{html.escape(outcome.path.name)}: {settings}"
        f"{outcome.num_members:,} members</p>",
        *_warnings(outcome),
        "<h2>What came out</h2>",
        _summary(outcome),
        *_figures(outcome),
    ]
    if outcome.study:
        parts += ["<h2>The study</h2>", f"<pre>{html.escape(outcome.study)}</pre>"]
    parts += ["<h2>How it was run</h2>", _settings(outcome)]
    return _PAGE.format(title=html.escape(outcome.title), body="\n".join(parts))


def _warnings(outcome: Outcome) -> Iterator[str]:
    failed = [end for end in outcome.endings if end.failed]
    if failed:
        told = ", ".join(f"{end.rows.sum():,} by {end.name}" for end in failed)
        yield (
            f"<p class='warning'>Of {outcome.num_members:,} members some gave up, and did "
            f"not end as asked: {told}.</p>"
        )
    for label, text in outcome.failures.items():
        what = f"The setting {label} failed: {text}"
        yield f"<p class='warning'>{html.escape(what)}</p>"


def _summary(outcome: Outcome) -> str:
    if outcome.result is not None:
        return f"<div class='wide'>{outcome.result._repr_html_()}</div>"
    found = table_of(outcome)
    cells = [list(column.cells) for column in found.columns]
    header = _row("th", [str(column.header) for column in found.columns])
    rows = "".join(_row("td", [str(cell) for cell in row]) for row in zip(*cells))
    return f"<div class='wide'><table>{header}{rows}</table></div>"


def _row(tag: str, cells: Iterable[str]) -> str:
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def _figures(outcome: Outcome) -> Iterator[str]:
    for picture in pictures_of(outcome):
        try:
            figure = picture.draw()
        except InputError:
            continue  # it does not fit these networks
        title = html.escape(picture.title)
        yield f"<h2>{title}</h2>"
        panels = "panels" if len(figure.axes) > 2 else "panel"
        image = f"<img class='{panels}' alt='{title}' src='{_embedded(figure)}'>"
        yield f"<div class='wide'>{image}</div>"


def _embedded(figure: matplotlib.figure.Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _settings(outcome: Outcome) -> str:
    about = outcome.dataset.attrs.get("jaxflow", {})
    settings = about.get("settings", {}) if isinstance(about, dict) else {}
    rows = "".join(
        f"<tr><th>{html.escape(name.replace('_', ' '))}</th>"
        f"<td>{html.escape(str(value))}</td></tr>"
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
img {{ width: 100%; max-width: 56rem; height: auto; }}
img.panel {{ max-width: 40rem; }}
img.panels {{ min-width: 44rem; }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; font-size: 0.85rem; }}
table {{ border-collapse: collapse; font-size: 0.9rem;
        font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 0.3rem 0.8rem 0.3rem 0;
         border-bottom: 1px solid #ddd; }}
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
