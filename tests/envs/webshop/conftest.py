"""The official small catalogue and what was recorded with it, where they are: WEBSHOP_DATA, or beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

OFFICIAL = Path(os.environ.get("WEBSHOP_DATA") or Path(__file__).parents[4] / "shared/data/webshop")


@pytest.fixture(scope="session")
def webshop_data() -> Path:
    """The folder with items_shuffle_1000.json and the recorded episodes; the test is skipped without it."""
    if not (OFFICIAL / "items_shuffle_1000.json").is_file():
        pytest.skip(f"no official catalogue at {OFFICIAL} (set WEBSHOP_DATA)")
    return OFFICIAL
