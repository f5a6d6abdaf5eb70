"""The card itself, and the tests that need one."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from gpureport.setup import ROOT, Note, Setup


def machine(setup: Setup, note: Note) -> None:
    """Card, versions, and what a large product of matrices and a copy reach on it."""
    import torch
    import transformers

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cores": os.cpu_count(),
        "device": platform.processor() or platform.machine(),
    }
    if setup.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("torch sees no CUDA device; --device cpu rehearses the report")
        facts = torch.cuda.get_device_properties(0)
        found |= {"device": facts.name, "memory_gib": facts.total_memory / 2**30, "cuda": torch.version.cuda}
    note(found)
    size, dtype = (256, torch.float32) if setup.small else (8192, torch.bfloat16)
    a, b = (torch.randn(size, size, device=setup.device, dtype=dtype) for _ in range(2))
    seconds = _timed(lambda: a @ b, setup.device)
    found["matmul_tflops"] = 2 * size**3 / seconds / 1e12
    seconds = _timed(lambda: a.copy_(b), setup.device)
    found["copy_gbs"] = 2 * a.nbytes / seconds / 1e9
    note(found)


def _timed(work: Callable[[], Any], device: str, repeats: int = 20) -> float:
    import torch

    for _ in range(3):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def tests(setup: Setup, note: Note) -> None:
    """tests/gpu; without a card they skip themselves, and only their collection is rehearsed."""
    report = setup.work / "tests.xml"
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", "0" if setup.small else "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not report.exists():
        raise SystemExit(f"pytest ended with code {done.returncode}: {(done.stdout + done.stderr).strip()[-400:]}")
    cases = ElementTree.parse(report).getroot().findall(".//testcase")
    failed = [case.get("name", "") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    note({"passed": len(cases) - len(failed) - skipped, "failed": failed, "skipped": skipped, "said": done.stdout[-1500:]})
