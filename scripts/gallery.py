"""Run the claims of the gallery and write what was seen: figures, tables, and pages.

python scripts/gallery.py                       all claims, quick and full: an hour
python scripts/gallery.py early-phase --full    one of them, its full size only
python scripts/gallery.py --tables              no run: only the tables, from seen.json

Studies are kept in --folder, so that a run that was interrupted goes on.
"""

import argparse
import json
import pathlib
import re
import shutil

import jax

from jaxflow import gallery

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ROOT / "docs" / "gallery"
SEEN = ROOT / "jaxflow" / "gallery" / "seen.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="claims; all if none is given")
    parser.add_argument("--folder", default="jaxflow-gallery", type=pathlib.Path)
    parser.add_argument("--full", action="store_true", help="the full size only")
    parser.add_argument("--quick", action="store_true", help="the quick size only")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    sizes = [size for size in ("quick", "full") if getattr(given, size)]
    for size in sizes or ("quick", "full"):
        for name in given.names or [each.name for each in gallery.CLAIMS]:
            if not given.tables:
                run(gallery.claim(name), size, given.folder)
    write_tables()


def run(claim: gallery.AbstractClaim, size: gallery.Size, folder: pathlib.Path) -> None:
    """Run a claim, and keep its verdicts and, of the full size, its figure."""
    where = folder / claim.name / size
    shown = gallery.show(claim, size, where)
    found = json.loads(SEEN.read_text(encoding="utf-8")) if SEEN.exists() else {}
    found.setdefault(claim.name, {})[size] = shown.as_json()
    text = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True)
    SEEN.write_text(text + "\n", encoding="utf-8")
    print(f"{claim.name}, {size}: {shown.seconds:.0f} s")
    for row in shown.as_json()["verdicts"]:
        print(f"  {row['state']}: {row['statement']}: {row['seen']} ({row['bound']})")
    picture = PAGES / f"{claim.name}.png"
    if size == "full" or not picture.exists():
        shutil.copy(where / "figure.png", picture)


def write_tables() -> None:
    """Put tables and study files into the pages that have places for them."""
    for path in (ROOT / "README.md", ROOT / "docs" / "index.md", PAGES / "index.md"):
        folder = {"README.md": "docs/gallery/"}.get(path.name, "gallery/")
        folder = "" if path.parent == PAGES else folder
        fill(path, {"claims": gallery.page_of_claims(gallery.CLAIMS, folder)})
    for claim in gallery.CLAIMS:
        run = gallery.seen(claim.name, "full") or gallery.seen(claim.name, "quick")
        studies = claim.studies("full").items()
        texts = {f"study {name}": block(study.to_toml(), "toml") for name, study in studies}
        each = "\n".join((run or {}).get("exceptions", []))
        texts |= {"verdicts": gallery.page_of_verdicts(run), "exceptions": block(each)}
        fill(PAGES / f"{claim.name}.md", texts)


def block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def fill(path: pathlib.Path, places: dict[str, str]) -> None:
    """Replace what is between `<!-- NAME -->` and `<!-- /NAME -->`."""
    text = path.read_text(encoding="utf-8")
    for name, what in places.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if begin in text and end not in text:
            text = text.replace(begin, f"{begin}\n{end}")
        inside = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text = inside.sub(lambda _, w=what, b=begin, e=end: f"{b}\n\n{w}\n\n{e}", text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
