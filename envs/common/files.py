"""Files that others give."""

from __future__ import annotations

import errno
from pathlib import Path


def regular(path: str | Path) -> Path:
    """`path`, be it a file, a folder or nothing. Raises OSError for a pipe, socket or device, which may never end."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe, socket or device, and no file", str(path))
    return path
