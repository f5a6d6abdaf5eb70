"""The cache folder, and what is in it: written whole or not at all, and read only if it is what was written.

A cache that is damaged is made again, and one that cannot be written is done without: it costs time and a warning, never a run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from envs.common import disk

PROOF = "sha256.json"
"""In a folder: the hash of each of its other files."""
_DIGEST = hashlib.sha256().digest_size
_ELSEWHERE = "STEPCREDIT_CACHE names another folder"

log = logging.getLogger("stepcredit.cache")
_opened: dict[Path, Path] = {}
"""Where the folders are that this process uses, by where they should be. They are proved once."""
_spare: list[tempfile.TemporaryDirectory[str]] = []
"""Instead of folders that cannot be written; deleted when the process ends."""


def cache_folder() -> Path:
    """The folder; STEPCREDIT_CACHE overrides ~/.cache/stepcredit. Without a home it is below the folder of temporary files."""
    given = os.environ.get("STEPCREDIT_CACHE")
    try:
        return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "stepcredit"
    except RuntimeError:  # there is no home
        return Path(tempfile.gettempdir()) / f"stepcredit-{os.getuid()}"


def keep(file: Path, content: bytes) -> None:
    """Write `content` for `kept`, in any number of processes at once. Where it cannot be written, says so and goes on."""
    _sweep(file.parent)
    try:
        disk.folder(file.parent)
        disk.write(file, hashlib.sha256(content).digest() + content)
    except OSError as error:
        log.warning("%s cannot be kept (%s): the next run will make it again; %s", file, error.strerror, _ELSEWHERE)


def kept(file: Path) -> bytes | None:
    """What `keep` wrote; None if there is nothing, or it is damaged."""
    try:
        found = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s): it is made again", file, error.strerror)
        return None
    content = found[_DIGEST:]
    if hashlib.sha256(content).digest() == found[:_DIGEST]:
        return content
    log.warning("%s is damaged: it is made again", file)
    return None


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder `folder` as `make` fills an empty one, or wherever it is instead; made if it is not there, or damaged.

    All its files are proved when a process asks for it first. Of processes that make it at once, one does and the others wait.
    Where it cannot be written it is made in a temporary folder for this process alone, with a warning. Raises what `make` does.
    """
    found = _opened.get(folder)
    if found is None or not found.is_dir():
        found = _opened[folder] = folder if _is_proved(folder) else _make(folder, make)
    return found


def _make(folder: Path, make: Callable[[Path], None]) -> Path:
    try:
        disk.folder(folder.parent)
        _sweep(folder.parent)
        with _alone(folder):
            if not _is_proved(folder):  # or another process has made it meanwhile
                if folder.exists():
                    log.warning("%s is damaged, or of an older version: it is made again", folder)
                with disk.aside(folder) as partial:
                    _fill(partial, make)
            return folder
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): it is made for this process alone; %s", folder, error.strerror or error, _ELSEWHERE
        )
    _spare.append(tempfile.TemporaryDirectory(prefix="stepcredit-"))
    instead = Path(_spare[-1].name) / folder.name
    _fill(instead, make)
    return instead


def _sweep(folder: Path) -> None:
    """Delete what writers that died have left in a folder of the cache, those of earlier versions too."""
    for names in ("*.partial", ".*.unfinished"):
        disk.clear(folder, names)


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    folder.mkdir()
    make(folder)
    hashes = {path.name: _hash(path) for path in sorted(folder.iterdir())}
    (folder / PROOF).write_text(json.dumps(hashes, indent=1))


def _is_proved(folder: Path) -> bool:
    try:
        hashes = json.loads((folder / PROOF).read_bytes())
        return bool(hashes) and all(_hash(folder / name) == wanted for name, wanted in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock that other processes wait for; it is let go even if this one is killed."""
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # of a file system without locks: two may make it, and the last one's stays
            log.debug("%s: no lock (%s)", folder, error)
        yield
