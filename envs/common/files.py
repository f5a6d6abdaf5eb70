"""Files that others give."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from envs.common.text import first_line


class DamagedFileError(ValueError):
    """A file does not hold what was written there. The message names it, and says what to do."""


def read_json(path: Path, cure: str) -> Any:
    """What a JSON file holds; cure: what to do where it cannot be read as JSON. Raises DamagedFileError, OSError."""
    try:
        return json.loads(regular(path).read_bytes())
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged ({first_line(error)}): {cure}") from error


def regular(path: str | Path) -> Path:
    """`path`, be it a file, a folder or nothing. Raises OSError for a pipe, socket or device, which may never end."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe, socket or device, and no file", str(path))
    return path
