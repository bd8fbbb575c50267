"""Files, with care: read what is a file and no larger than expected, replace in one piece.

Everything that jaxflow reads from or writes to a disk by itself goes through here. Nothing
follows a symbolic link below the folder that the caller named, nothing waits for a pipe,
and nothing is written in place.
"""

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator

_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for a writer
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_WRITE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def read(root: pathlib.Path, key: str, most: int) -> bytes:
    """The content of a file in a folder.

    Arguments:
        root: the folder.
        key: the place of the file in it, with `/` between names.
        most: how many bytes it may have.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it is no regular file, if a symbolic link leads to it, or if it is
            larger.
    """
    _check_way(root, key)
    path = root / key
    descriptor = os.open(path, _READ)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if found.st_size > most:
            raise OSError(errno.EFBIG, "it is larger than it should be", str(path))
        content = file.read(most + 1)
    if len(content) > most:  # files that do not know their size
        raise OSError(errno.EFBIG, "it is larger than it should be", str(path))
    return content


def write(root: pathlib.Path, key: str, content: bytes, new: str) -> None:
    """Put a file into a folder, in one piece and on the disk.

    When it has returned, the content is on the disk. A file of this name that was there
    stays until then. That the name is on the disk too needs `sync` of its folder.

    Arguments:
        root: the folder.
        key: the place of the file in it; folders between the two are made.
        content: the bytes.
        new: where in the folder the file lies until it is whole.

    Raises:
        OSError: as the system does.
    """
    make_way(root, key)
    make_way(root, new)
    path, unfinished = root / key, root / new
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)  # what a killed run left
    try:
        descriptor = os.open(unfinished, _WRITE, 0o666)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def remove(root: pathlib.Path, key: str) -> None:
    """Remove a file from a folder, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        _check_way(root, key)
        os.unlink(root / key)


def make_folder(folder: pathlib.Path) -> None:
    """Make a folder and those above it, with their names on the disk."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in made:
        sync(each.parent)


def make_way(root: pathlib.Path, key: str) -> None:
    """Make the folders between `root` and the file `key` in it."""
    for folder in _way(root, key):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        _check_no_link(folder)  # before anything is made in it


def sync_ways(root: pathlib.Path, keys: Iterable[str]) -> None:
    """Have the names of files, and of the folders that lead to them, on the disk."""
    folders = {parent for key in keys for parent in pathlib.PurePosixPath(key).parents}
    for folder in sorted(folders, reverse=True):
        sync(root / folder)


def sync(folder: pathlib.Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def walk(root: pathlib.Path) -> Iterator[str]:
    """Where everything is in a folder that is no folder itself. Follows no links."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(root / prefix if prefix else root) as entries:
            for entry in entries:
                place = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{place}/")
                else:
                    yield place


def _check_way(root: pathlib.Path, key: str) -> None:
    """No folder on the way may be a symbolic link: it would lead out of `root`."""
    for folder in _way(root, key):
        _check_no_link(folder)


def _way(root: pathlib.Path, key: str) -> Iterator[pathlib.Path]:
    """The folders between `root` and the file `key` in it, the outermost first."""
    for name in key.split("/")[:-1]:
        root = root / name
        yield root


def _check_no_link(folder: pathlib.Path) -> None:
    if stat.S_ISLNK(os.lstat(folder).st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link", str(folder))
