"""NetHack's level compiler, called without a shell, and the proof that a game has the level that was compiled.

MiniHack's own script splits paths at blanks and tells nobody when it fails; NetHack then plays an ordinary dungeon. Here each
stage is checked, the result is looked for in the library that the game reads, and that library is read again at every start.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from envs.base import TaskError

SECONDS = 60
"""For the compiler; a level takes a few milliseconds."""
PARTS = ("dungeon", "mylevel.lev")
"""What makes a game begin in the level: a dungeon whose first level is "mylevel", and that level."""


def compile_level(text: str, folder: Path) -> str | None:
    """Make "mylevel.lev" in `folder` of a level's description (des); None, or what the compiler does not like about it."""
    source = folder / "mylevel.des"
    source.write_text(text, encoding="latin-1")
    try:
        done = _run("lev_comp", [source.name], folder)
    finally:
        source.unlink()
    if (folder / "mylevel.lev").exists() and not done.returncode:
        return None
    made = sorted(path.stem for path in folder.glob("*.lev"))
    said = (done.stdout + done.stderr).strip()
    return said or f"it must make a level called 'mylevel' (LEVEL: \"mylevel\"); it makes: {', '.join(made) or 'none'}"


def install(text: str, game: Path) -> str:
    """Put the level of a description into the library that the game in folder `game` reads; returns what `check` wants.

    Raises TaskError, with the folder, wherever the game would play something else.
    """
    import minihack

    try:
        lib = game / "lib"
        lib.mkdir(exist_ok=True)
        for source in sorted((Path(minihack.__file__).parent / "lib").iterdir()):
            (lib / source.name).write_bytes(source.read_bytes())
        if (said := compile_level(text, lib)) is not None:
            raise TaskError(f"NetHack's level compiler fails in {lib}: {said}")
        library, made = game / "nhdat", lib / "nhdat"
        done = _run("dlb", ["cf", made.name, *sorted(path.name for path in lib.iterdir() if path != made)], lib)
        if done.returncode or not made.exists():
            raise TaskError(f"NetHack's librarian fails in {lib}: {(done.stdout + done.stderr).strip() or done.returncode}")
        made.replace(library)
        holds = library.read_bytes()
        parts = {part: (lib / part).read_bytes() for part in PARTS}
        if missing := [part for part, content in parts.items() if not content or content not in holds]:
            raise TaskError(f"the level was compiled, but {library} does not hold it ({', '.join(missing)})")
    except OSError as error:
        raise TaskError(
            f"a level cannot be compiled in {game}: {error}. TMPDIR must name a folder that can be written to, "
            "and the programs of the nle package must be executable"
        ) from error
    return hashlib.sha256(holds).hexdigest()


def check(game: Path, wanted: str) -> None:
    """Raises TaskError if the library of the game in folder `game` is not the one that `install` made."""
    library = game / "nhdat"
    try:
        if hashlib.sha256(library.read_bytes()).hexdigest() == wanted:
            return
        what = "is another file now"
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    raise TaskError(
        f"{library} held the compiled level and {what}: NetHack would play something else. Who cleans up that folder while "
        "games run? Let TMPDIR name one that nobody does"
    )


class Compiled:
    """Before a class of MiniHack's: its levels are compiled and checked here."""

    nethack: Any
    compiled: str

    def _patch_nhdat(self, des_file: str) -> None:
        """Called by MiniHack with the name of one of its des files, or with a level's description."""
        import minihack

        text = des_file
        if des_file.endswith(".des") and "\n" not in des_file:
            text = (Path(minihack.__file__).parent / "dat" / des_file).read_text(encoding="latin-1")
        self.compiled = install(text, Path(self.nethack._vardir))

    def check(self) -> None:
        """Raises TaskError if the game would not play the level."""
        check(Path(self.nethack._vardir), self.compiled)


def _run(program: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """One of the programs that nle brings, in a folder. Names within it keep odd characters of its path out of their sight."""
    try:
        import nle
    except ImportError as error:
        raise ImportError(f"MiniHack needs packages: pip install 'stepcredit[minihack]' ({error})") from error
    command = [str(Path(nle.__file__).absolute().parent / "nethackdir" / program), *arguments]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, encoding="latin-1", timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise TaskError(f"{command[0]} takes more than {SECONDS} s in {folder}") from error
