"""Files that a power cut leaves whole: written aside, synced, put in place by their name, and the folder synced.

Whoever has written a file or folder here may build on it: it is on the disk, and what was there before is gone only then.
Where a file system refuses to sync, that is said once, and nothing else changes.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PARTIAL, REPLACED = ".partial", ".replaced-"
"""End of the name of what is still being written, and beginning of the name of a folder whose place is being taken."""
OLD_S = 3600.0
"""Seconds without a change after which what is still being written is a dead process's leftover."""
REFUSALS = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EBADF", "EISDIR", "EACCES", "EPERM")
    if hasattr(errno, name)
}
"""What file systems answer that cannot sync a folder or a file (CIFS, VirtualBox, FUSE). A failing disk says otherwise."""

log = logging.getLogger("stepcredit.disk")
_told = False
"""That a file system refuses."""
_cleared: set[tuple[Path, str]] = set()
"""Folders without old leftovers of such names."""


def write(path: Path, content: bytes) -> None:
    """Make or replace a file as a whole. Raises OSError; what was there before is then still there."""
    with aside(path) as partial:
        partial.write_bytes(content)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A new name, beside `path`, of a file or folder to be made within; at the end it takes the place of `path`.

    Raises OSError, also if the folder that it shall be in is not there: whoever may make that one says so (`folder`). If the
    block fails, nothing of it is left. A folder that is replaced is for a moment under REPLACED only.
    """
    clear(path.parent)
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        yield partial
        if partial.is_dir():
            _share(partial)
        sync(partial)
        if path.is_dir() and not path.is_symlink():
            _replace_folder(partial, path)
        else:
            partial.replace(path)
        _sync(path.parent)
    finally:
        remove(partial)


def folder(path: Path, above: bool = True) -> None:
    """Make a folder that is there after a power cut, too, and those above it where they may be made. Raises OSError."""
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=above, exist_ok=True)
    for one in made:
        _sync(one.parent)


def flush(file: IO[Any]) -> None:
    """Have on the disk what was written to an open file. Raises OSError."""
    file.flush()
    with _refusals(file.name):
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Have on the disk what is in a file, or in a folder and all below it. Raises OSError."""
    if path.is_dir():
        for one in path.iterdir():
            sync(one)
    _sync(path)


def clear(parent: Path, names: str = f".*.{'[0-9a-f]' * 12}{PARTIAL}") -> None:
    """Delete what writers that died have left in a folder, once a process; `names`: as in a shell."""
    if (parent, names) in _cleared:
        return
    _cleared.add((parent, names))
    for left in parent.glob(names):
        with suppress(OSError):  # its writer may be at work
            changed = max(one.stat().st_mtime for one in (left, *left.rglob("*")))
            if time.time() - changed > OLD_S:
                remove(left)


def remove(path: Path) -> None:
    """Delete a file or a folder with all in it, if it is there; what cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _share(folder: Path) -> None:
    """Let those read its files who may read the folder: safetensors writes them for their owner alone, whatever the umask."""
    readable = folder.stat().st_mode & 0o444
    for file in folder.rglob("*"):
        with suppress(OSError):  # a file system without rights
            file.chmod(file.stat().st_mode | readable)


def _replace_folder(partial: Path, path: Path) -> None:
    replaced = path.with_name(f"{REPLACED}{path.name}")
    remove(replaced)
    path.rename(replaced)
    try:
        partial.rename(path)
    except OSError:
        replaced.rename(path)
        raise
    _sync(path.parent)
    remove(replaced)


def _sync(path: Path) -> None:
    with _refusals(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _refusals(path: object) -> Iterator[None]:
    global _told
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        if not _told:
            _told = True
            log.warning(
                "the file system of %s refuses to sync (%s): all goes on, but a power cut may lose what was written last",
                path,
                error.strerror,
            )
