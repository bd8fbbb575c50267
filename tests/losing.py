"""A disk that loses power, and processes that are killed: what they leave behind.

`Disk` notes every change of names and contents below a folder. What a power loss leaves of
them is what the standards promise: a content that was synced is there, one that was not is
empty, cut or whole; a name that was made, moved or removed since its folder was last synced
is as before or as after, each for itself. A rename is one change, which is on the disk when
the folder has been synced to which it leads.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil

import pytest


class Killed(BaseException):
    """Nothing can be written any more: the process is as good as gone."""


@dataclasses.dataclass
class Names:
    """One change of names: where there is now something else, or nothing."""

    changes: list[tuple[int, str, int | None]]


@dataclasses.dataclass
class Content:
    """A file has got a content."""

    file: int
    content: bytes


@dataclasses.dataclass
class Synced:
    """A file or folder is on the disk."""

    which: int


class Disk:
    """What happens in a folder while `recording`.

    Arguments:
        root: the folder; what is in it now is on the disk.
    """

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.events: list = []
        self._folders: dict[int, dict[str, int]] = {}  # as they are now
        self._number = 0
        self._found: dict[int, bytes] = {}  # what was in files at first
        self._noted: dict[int, bytes] = {}  # and is now, as far as it was noted
        self._top = self._find(self.root)
        self._first = {folder: dict(names) for folder, names in self._folders.items()}
        self._opened: dict[int, pathlib.Path] = {}  # by descriptor
        self.stops: dict[int, type[BaseException]] = {}  # by the number of an operation
        self.operations = 0
        self.changes: list[int] = []  # the operations that changed names
        self._is_dead = False

    def _find(self, path):
        number = self._new()
        if path.is_dir():
            self._folders[number] = {}
            for each in sorted(path.iterdir()):
                self._folders[number][each.name] = self._find(each)
        else:
            self._found[number] = path.read_bytes()
        return number

    def _new(self):
        self._number += 1
        return self._number

    # -- what is noted --

    def mark(self, what):
        """Note anything else."""
        self.events.append(what)

    def marks(self, kind, cut=None):
        """What else was noted before a cut, of one class."""
        return [event for event in self.events[:cut] if isinstance(event, kind)]

    def kill_at(self, operation):
        """Kill the process at this operation, counted from one, and let nothing follow."""
        self.stops[operation] = Killed

    def revive(self):
        """A new process, on what the killed one left: it has lost no power yet."""
        self.stops, self._is_dead = {}, False

    @contextlib.contextmanager
    def recording(self):
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "fsync", "mkdir", "unlink", "rmdir", "rename", "replace"):
                patch.setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))
            yield self

    def _place(self, path, dir_fd=None):
        """The place of a path below the root; `None` if it is elsewhere."""
        if isinstance(path, int):
            return None
        whole = (self._opened.get(dir_fd) or pathlib.Path()) / os.fspath(path)
        whole = pathlib.Path(os.path.abspath(whole))
        return whole if self.root in whole.parents else None

    def _at(self, path):
        """The number of what is at a path; `None` if there is nothing."""
        if path == self.root:
            return self._top
        return self._folders.get(self._at(path.parent), {}).get(path.name)

    def _operation(self):
        self.operations += 1
        stop = self.stops.pop(self.operations, None)
        self._is_dead |= stop is Killed
        if self._is_dead:
            raise Killed
        if stop is not None:
            raise stop

    def _rename_to(self, changes):
        """Note a change of names, given as pairs of a path and what is there now."""
        named = [(self._at(path.parent), path.name, number) for path, number in changes]
        for folder, name, number in named:
            self._folders[folder].pop(name, None)
            if number is not None:
                self._folders[folder][name] = number
        self.events.append(Names(named))
        self.changes.append(self.operations)

    def _written(self, path):
        number, content = self._at(path), path.read_bytes()
        if self._noted.get(number) != content:
            self._noted[number] = content
            self.events.append(Content(number, content))

    # -- as the system does it --

    def _open(self, real):
        def opened(path, flags, mode=0o777, *, dir_fd=None):
            place = self._place(path, dir_fd)
            is_new = place is not None and flags & os.O_CREAT and self._at(place) is None
            if is_new:
                self._operation()
            descriptor = real(path, flags, mode, dir_fd=dir_fd)
            self._opened.pop(descriptor, None)
            if place is not None or path == self.root:
                self._opened[descriptor] = place or self.root
            if is_new:
                self._rename_to([(place, self._new())])
            return descriptor

        return opened

    def _fsync(self, real):
        def synced(descriptor):
            path = self._opened.get(descriptor)
            if path is None:
                return real(descriptor)
            self._operation()
            if path.is_file():
                self._written(path)
            self.events.append(Synced(self._at(path)))

        return synced

    def _mkdir(self, real):
        def made(path, mode=0o777, *, dir_fd=None):
            place = self._place(path, dir_fd)
            if place is not None and not place.exists():
                self._operation()
            real(path, mode, dir_fd=dir_fd)
            if place is not None:
                number = self._new()
                self._folders[number] = {}
                self._rename_to([(place, number)])

        return made

    def _removed(self, real):
        def removed(path, *, dir_fd=None):
            place = self._place(path, dir_fd)
            is_there = place is not None and self._at(place) is not None
            if is_there:
                self._operation()
            real(path, dir_fd=dir_fd)
            if is_there:
                self._rename_to([(place, None)])

        return removed

    _unlink = _rmdir = _removed

    def _moved(self, real):
        def moved(old, new):
            places = [self._place(path) for path in (old, new)]
            if None in places:
                return real(old, new)
            self._operation()
            number = self._at(places[0])
            if places[0].is_file():
                self._written(places[0])  # as it is, synced or not
            real(old, new)
            self._rename_to([(places[0], None), (places[1], number)])

        return moved

    _rename = _replace = _moved

    # -- what is left --

    def copied(self, cuts, target, random):
        """Make a copy of the folder, each file as it was after any of so many events."""
        target = pathlib.Path(target)
        moments = [target.with_name(f"{target.name} at {cut}") for cut in cuts]
        for cut, moment in zip(cuts, moments):
            self.after_power_loss(cut, moment, random, likely=1.0)
        found = [{f.relative_to(m) for f in m.rglob("*") if f.is_file()} for m in moments]
        for file in sorted(set().union(*found)):
            at = random.integers(len(cuts))
            if file in found[at]:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(moments[at] / file, target / file)

    def after_power_loss(self, cut, target, random, likely=None):
        """Make the folder that a disk may hold which lost power after so many events.

        How likely what was not synced is there all the same is drawn if not given.
        """
        events = self.events[:cut]
        last_sync = {e.which: at for at, e in enumerate(events) if isinstance(e, Synced)}
        likely = random.choice([0.0, 0.1, 0.5, 0.9, 1.0]) if likely is None else likely
        folders = {folder: dict(names) for folder, names in self._first.items()}
        contents = dict(self._found)
        for at, event in enumerate(events):
            if isinstance(event, Names):
                folder, _, _ = event.changes[-1]
                safe = last_sync.get(folder, -1) > at
                if safe or random.random() < likely:
                    for folder, name, number in event.changes:
                        folders.setdefault(folder, {}).pop(name, None)
                        if number is not None:
                            folders[folder][name] = number
            elif isinstance(event, Content):
                content = event.content
                if last_sync.get(event.file, -1) < at and random.random() > likely:
                    content = content[: random.integers(len(content) + 1)]
                contents[event.file] = content
        self._make(self._top, pathlib.Path(target), folders, contents)

    def _make(self, number, path, folders, contents):
        if number not in self._folders:
            path.write_bytes(contents.get(number, b""))
            return
        path.mkdir()
        for name, each in folders.get(number, {}).items():
            self._make(each, path / name, folders, contents)
