"""MiniHack is an extra: without it these tests are skipped."""

from __future__ import annotations

import pytest

pytest.importorskip("nle", reason="MiniHack is not installed: pip install 'stepcredit[minihack]'")
