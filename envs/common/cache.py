"""The cache folder, and files in it: written whole or not at all, and read only if they are what was written."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

_DIGEST = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """The folder; STEPCREDIT_CACHE overrides ~/.cache/stepcredit."""
    return Path(os.environ.get("STEPCREDIT_CACHE") or Path.home() / ".cache" / "stepcredit")


def keep(file: Path, content: bytes) -> None:
    """Write `content` for `kept`, in any number of processes at once. Where it cannot be written, says so and goes on."""
    partial = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(hashlib.sha256(content).digest() + content)
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        print(
            f"cannot keep {file} ({error.strerror}): the next run will make it again; STEPCREDIT_CACHE names another folder",
            file=sys.stderr,
        )


def kept(file: Path) -> bytes | None:
    """What `keep` wrote; None if there is nothing, or it is damaged."""
    try:
        found = file.read_bytes()
    except OSError:
        return None
    content = found[_DIGEST:]
    return content if hashlib.sha256(content).digest() == found[:_DIGEST] else None
