"""What a process does to a folder, step by step, and the folder as a power cut at any moment could have left it.

The file system that is assumed promises what ext4, XFS and Btrfs do: a file's content is on the disk once it is synced, and
without that it may be lost, cut, or zeros of its length. Changes of names in a folder reach the disk in their order, of which
any number may be lost until the folder is synced. Different files and folders know nothing of each other.

`record` must run in a process of its own: what it hooks into Python stays. What is written by others than Python is seen too,
since the folder is looked through at every step.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

NAMES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate")
"""Python's own announcements (`sys.audit`) of what may change a folder. Each comes before the change."""
ROOT = 0
"""Node of the folder that is watched, whose own name is on the disk."""


@dataclass(frozen=True)
class File:
    """A file at a moment; contents by their SHA-256, None for none."""

    synced: str | None
    now: str | None


@dataclass(frozen=True)
class Folder:
    """A folder at a moment: its names, each with the node it stands for, as last synced and after every change since."""

    states: tuple[Mapping[str, int], ...]


@dataclass(frozen=True)
class Moment:
    """What is known of the disk before a step."""

    step: str
    nodes: Mapping[int, File | Folder]
    mark: Any
    """What was said last by `Journal.mark`."""


@dataclass
class Journal:
    """The steps of a process. Holds state while it records."""

    root: Path
    moments: list[Moment] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    _nodes: dict[int, File | Folder] = field(default_factory=lambda: {ROOT: Folder(({},))})
    _seen: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Of each node: inode, size, times."""
    _renamed: list[tuple[Path, Path, int]] = field(default_factory=list)
    """From where, to where, and which node."""
    _mark: Any = None

    # -- recording ------------------------------------------------------------------------------------------------------------

    def record(self, work: Callable[[], Any]) -> Any:
        """Call `work` and note what happens below `root`, which must be an empty folder."""
        lock, busy, sync = threading.RLock(), threading.local(), os.fsync
        self._seen[ROOT] = (self.root.stat().st_ino,)

        def step(what: str, then: Callable[[], None] = lambda: None) -> None:
            with lock:
                busy.inside = True
                try:
                    self._look(what)
                    then()
                finally:
                    busy.inside = False

        def announced(event: str, arguments: tuple[Any, ...]) -> None:
            if event not in NAMES or not self.moments or getattr(busy, "inside", False):
                return
            if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            paths = [path for path in _paths(event, arguments) if path.is_relative_to(self.root)]
            if not paths:
                return

            def then() -> None:
                if event == "os.rename" and len(paths) == 2 and (node := self._at(paths[0])) is not None:
                    self._renamed.append((paths[0], paths[1], node))

            step(f"{event.removeprefix('os.')} {' to '.join(str(path.relative_to(self.root)) for path in paths)}", then)

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            inode = os.fstat(descriptor).st_ino
            step(
                f"sync {os.readlink(f'/proc/self/fd/{descriptor}').removeprefix(f'{self.root}/')}", lambda: self._synced(inode)
            )

        self.moments.append(Moment("beginning", dict(self._nodes), None))
        sys.addaudithook(announced)
        os.fsync = fsync  # type: ignore[assignment]
        try:
            return work()
        finally:
            os.fsync = sync
            step("end")
            self.moments = self.moments[1:]

    def mark(self, what: Any) -> None:
        """Say something of all moments from now on."""
        self._mark = what

    def _look(self, what: str) -> None:
        """Take in what has changed, as the moment before a step."""
        moved = {}
        for source, target, node in [*self._renamed]:
            if not source.exists() and target.exists() and target.stat().st_ino == self._seen[node][0]:
                moved[target] = node
                self._renamed.remove((source, target, node))
        self._take(ROOT, self.root, moved)
        self.moments.append(Moment(what, dict(self._nodes), self._mark))

    def _take(self, node: int, path: Path, moved: Mapping[Path, int]) -> None:
        folder = self._nodes[node]
        assert isinstance(folder, Folder)
        known, found = folder.states[-1], dict[str, int]()
        for entry in sorted(os.scandir(path), key=lambda one: one.name):
            state = entry.stat(follow_symlinks=False)
            child = moved.get(Path(entry.path), known.get(entry.name))
            if child is None or self._seen[child][0] != state.st_ino:
                child = len(self._nodes)
                self._nodes[child] = Folder(({},)) if entry.is_dir(follow_symlinks=False) else File(None, None)
                self._seen[child] = (state.st_ino, -1)
            found[entry.name] = child
            if entry.is_dir(follow_symlinks=False):
                self._seen[child] = (state.st_ino,)
                self._take(child, Path(entry.path), moved)
            elif self._seen[child] != (seen := (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)):
                self._seen[child] = seen
                file = self._nodes[child]
                assert isinstance(file, File)
                self._nodes[child] = File(file.synced, self._kept(Path(entry.path).read_bytes()))
        if found != known:
            self._nodes[node] = Folder((*folder.states, found))

    def _synced(self, inode: int) -> None:
        for node, seen in self._seen.items():
            if seen[0] == inode and self._is_there(node):
                one = self._nodes[node]
                self._nodes[node] = File(one.now, one.now) if isinstance(one, File) else Folder(one.states[-1:])

    def _is_there(self, wanted: int, node: int = ROOT) -> bool:
        one = self._nodes[node]
        return node == wanted or (isinstance(one, Folder) and any(self._is_there(wanted, n) for n in one.states[-1].values()))

    def _at(self, path: Path) -> int | None:
        node = ROOT
        for name in path.relative_to(self.root).parts:
            folder = self._nodes[node]
            if not isinstance(folder, Folder) or name not in folder.states[-1]:
                return None
            node = folder.states[-1][name]
        return node

    def _kept(self, content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        self.contents.setdefault(name, content)
        return name


def _paths(event: str, arguments: tuple[Any, ...]) -> Iterator[Path]:
    """What an announcement is about. Names may be relative to an open folder, which comes after them."""
    count = 2 if event in ("os.rename", "os.link") else 1
    folders = [one for one in arguments[count:] if isinstance(one, int)] if event != "open" else []
    if event == "os.mkdir":
        folders = folders[1:]  # the first is the mode
    for number, name in enumerate(arguments[:count]):
        if isinstance(name, (str, bytes, os.PathLike)):
            path, place = Path(os.fsdecode(name)), folders[number] if number < len(folders) else -1
            yield Path(os.readlink(f"/proc/self/fd/{place}"), path) if place >= 0 else path.absolute()


# -- after the cut -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """A moment at which the power fails, and what becomes of what was not synced."""

    moment: int
    fate: str
    """lost: names and contents. empty, zeros: only contents. unnamed: only names. kept: nothing is lost, as by a kill. A
    number: seed of chance."""


def cuts(journal: Journal, seeds: int = 2) -> Iterator[Cut]:
    """Every moment with every fate."""
    for number in range(len(journal.moments)):
        for fate in ("lost", "empty", "zeros", "unnamed", "kept", *map(str, range(seeds))):
            yield Cut(number, fate)


def after(journal: Journal, cut: Cut) -> dict[Path, bytes | None]:
    """What is found below the folder afterwards: contents of files by path, None for a folder."""
    nodes, draw = journal.moments[cut.moment].nodes, Random(f"{cut.moment} {cut.fate}")
    found: dict[Path, bytes | None] = {}

    def find(path: Path, folder: Folder) -> None:
        if cut.fate in ("lost", "unnamed"):
            names = folder.states[0]
        elif cut.fate in ("empty", "zeros", "kept"):
            names = folder.states[-1]
        else:
            names = draw.choice(folder.states)
        for name, number in names.items():
            node = nodes[number]
            if isinstance(node, Folder):
                found[path / name] = None
                find(path / name, node)
            else:
                found[path / name] = _content(journal, node, cut.fate, draw)

    root = nodes[ROOT]
    assert isinstance(root, Folder)
    find(Path(), root)
    return found


def _content(journal: Journal, file: File, fate: str, draw: Random) -> bytes:
    synced, now = (journal.contents[one] if one else b"" for one in (file.synced, file.now))
    if file.synced == file.now or fate in ("lost", "empty"):
        return synced
    if fate in ("unnamed", "kept"):
        return now
    # Of a file that was added to, what was synced before stays.
    stays = len(synced) if now.startswith(synced) else 0
    zeros = now[:stays] + bytes(len(now) - stays)
    if fate == "zeros":
        return zeros
    cut = now[: stays + draw.randrange(len(now) - stays + 1)]
    return draw.choice([synced, cut, zeros, now])


def lay(found: Mapping[Path, bytes | None], folder: Path) -> None:
    """Make a folder of what is found."""
    folder.mkdir(parents=True)
    for path, content in found.items():
        if content is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
