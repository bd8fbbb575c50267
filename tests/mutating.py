"""Random damage to a folder."""

import json
import os
import shutil

import numpy as np

KINDS = (
    "flip",
    "flip many",
    "truncate",
    "empty",
    "append",
    "delete",
    "delete folder",
    "swap",
    "older",
    "other store",
    "junk",
    "number",
    "link to file",
    "link to folder",
    "pipe",
    "folder",
    "huge",
)


_LARGE = 2**33  # without a block on the disk


def mutate(path, random, others, victim):
    """Damage a store once.

    Arguments:
        path: its folder.
        random: a NumPy generator.
        others: stores of other runs and older states of this one, to take files from.
        victim: a folder elsewhere, which links lead to.

    Returns:
        What has been done, in words.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file() and _is_plain(file))
    files = [file for file in files if file.stat().st_size < _LARGE]
    if not files:
        return "nothing left"
    kind, file = random.choice(KINDS), files[random.integers(len(files))]
    if random.random() < 0.15:  # all others are chunks and descriptions
        own = [f for f in files if f.parent.name == "files"]
        file = own[random.integers(len(own))] if own else file
    said = f"{kind}: {file.relative_to(path)}"
    content = file.read_bytes()
    if kind in ("flip", "flip many"):
        file.write_bytes(_flipped(content, random, 1 if kind == "flip" else 20))
    elif kind == "truncate":
        file.write_bytes(content[: random.integers(len(content) + 1)])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "append":
        file.write_bytes(content + random.bytes(random.integers(1, 100)))
    elif kind == "delete":
        file.unlink()
    elif kind == "delete folder":
        if file.parent != path:
            shutil.rmtree(file.parent)
    elif kind == "swap":
        other = files[random.integers(len(files))]
        content, theirs = file.read_bytes(), other.read_bytes()
        file.write_bytes(theirs)
        other.write_bytes(content)
        said += f" with {other.relative_to(path)}"
    elif kind in ("older", "other store"):
        other = others[random.integers(len(others))] / file.relative_to(path)
        if other.is_file():
            file.write_bytes(other.read_bytes())
            said += f" from {other}"
    elif kind == "junk":
        file.write_bytes(random.bytes(random.integers(1, 300)))
    elif kind == "number":
        file.write_bytes(_with_another_number(content, random))
    elif kind == "link to file":
        file.unlink()
        file.symlink_to(victim / "file" if random.random() < 0.5 else "/dev/zero")
    elif kind == "link to folder":
        if file.parent != path:
            shutil.rmtree(file.parent)
            file.parent.symlink_to(victim)
    elif kind == "pipe":
        file.unlink()
        os.mkfifo(file)
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    else:
        with open(file, "r+b") as opened:
            opened.truncate(_LARGE)
    return said


def _is_plain(file):
    return not any(part.is_symlink() for part in (file, *file.parents))


def _flipped(content, random, most):
    changed = bytearray(content)
    for _ in range(random.integers(1, most + 1)):
        if changed:
            changed[random.integers(len(changed))] ^= 1 << random.integers(8)
    return bytes(changed)


def _with_another_number(content, random):
    """A number in a JSON document replaced by another one, and written in good form."""
    try:
        document = json.loads(content)
    except ValueError:
        return content
    places = []

    def look(node):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            if isinstance(value, (dict, list)):
                look(value)
            else:
                places.append((node, key))

    if isinstance(document, (dict, list)):
        look(document)
    if places:
        node, key = places[random.integers(len(places))]
        values = [0, 1, -1, 2**31, 10**30, 0.5, "NaN", None, [], {}, "é", True]
        node[key] = values[random.integers(len(values))]
    return json.dumps(document).encode()


def generator(seed=None):
    """A generator and its seed, which a failure names."""
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    return np.random.default_rng(seed), seed
