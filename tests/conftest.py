"""What all tests share: how many run beside each other, and a cache for what is slow to make."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A worker a core: more threads would only take turns. Set before anything imports torch, and inherited by commands under test.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# By itself hypothesis fails an example that takes more than 200 ms, and data that are slow to draw.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

MOST_WORKERS = 8
"""Each holds torch and a model or two, about 1 GB."""


@pytest.hookimpl(optionalhook=True)  # pytest-xdist need not be installed
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: the cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST_WORKERS)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for all tests and workers of this session: a warm start or a converted model in it is made once.

    Two workers that need the same at the same time both make it; the project's caches are renamed into place when complete.
    """
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(shared_cache: Path) -> Iterator[None]:
    """No test reads or writes the user's cache; those that need an empty one set their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPCREDIT_CACHE", str(shared_cache))
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder whose file system has room for a megabyte; the test is skipped where none may be mounted."""
    place = tmp_path / "small disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
