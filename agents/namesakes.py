"""Other people's packages that have the names of this project's, and stand in their place: told at the start, with the way out.

A folder `envs` or `algorithms` beside the user's own program comes before what is installed, and so does a distribution that
brings a package of that name.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]


def refuse(*names: str) -> None:
    """Raise ImportError if Python would import another package under one of the names of this project's."""
    for name in names:
        place = _place(name)
        if place is not None and not (place.exists() and os.path.samefile(place, ROOT / name)):
            if _is_one(place.parent, _pythonpath()):
                cure = "rename it, or take that folder out of the environment variable PYTHONPATH"
            elif not sys.flags.safe_path and _is_one(place.parent, sys.path[:1]):
                cure = "rename it, or start Python with -P (python -P -m agents.train ...), which leaves that folder out"
            else:
                cure = (
                    "install stepcredit in a virtual environment of its own (python -m venv), without what brings the other one"
                )
            # With this name runpy tells it in one line, without a traceback.
            raise ImportError(f"the package '{name}' in {place} stands in the place of stepcredit's: {cure}", name="agents")


def _pythonpath() -> list[str]:
    value = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    return value.split(os.pathsep) if value else []


def _is_one(folder: Path, entries: list[str]) -> bool:
    """Whether an entry of a search path, where "" is the current folder, names the folder."""
    places = [Path(entry or os.curdir) for entry in entries]
    return folder.exists() and any(place.exists() and place.samefile(folder) for place in places)


def _place(name: str) -> Path | None:
    """The folder that `import name` reads; None where it is found in none."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module that was made by hand
        return None
    if spec is None:
        return None
    return Path(next(iter(spec.submodule_search_locations or ()), spec.origin or name))
