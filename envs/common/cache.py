"""Where things that are computed once are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder; STEPCREDIT_CACHE overrides ~/.cache/stepcredit."""
    return Path(os.environ.get("STEPCREDIT_CACHE") or Path.home() / ".cache" / "stepcredit")
