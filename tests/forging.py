"""Stores as somebody makes them who can write manifests too."""

import dataclasses
import json

from jaxflow.stores import _checked, _folder, _manifest


def forge(path, edit, group=""):
    """Change the description of a group or array, with a manifest that says the same."""
    place = f"{group}/zarr.json".strip("/")
    manifest = _folder.read_manifest(path)
    document = json.loads(json.dumps(manifest.descriptions[place]))
    edit(document)
    (path / place).write_text(json.dumps(document))
    _forget_what_is_below(path, group)
    descriptions = {**manifest.descriptions, place: document}
    write_manifest(path, dataclasses.replace(manifest, descriptions=descriptions))


def _forget_what_is_below(path, group):
    """Groups above say no more what is below them: nobody has to have consolidated that."""
    names = group.split("/")
    for depth in range(len(names) if group else 0):
        file = path.joinpath(*names[:depth]) / "zarr.json"
        document = json.loads(file.read_text())
        document.pop("consolidated_metadata", None)
        file.write_text(json.dumps(document))


def forge_file(path, place, content):
    """Change a file, with a manifest that says the same."""
    manifest = _folder.read_manifest(path)
    (path / place).write_bytes(content)
    files = {**manifest.files, place: (_manifest.File.of(content),)}
    write_manifest(path, dataclasses.replace(manifest, files=files))


def forge_text(path, old, new, group=""):
    """Replace a piece of the text of a description."""

    def edit(document):
        text = json.dumps(document)
        assert old in text
        document.clear()
        document.update(json.loads(text.replace(old, new)))

    forge(path, edit, group)


def write_manifest(path, manifest):
    for place in _checked.MANIFESTS:
        (path / place).write_bytes(manifest.to_bytes())
