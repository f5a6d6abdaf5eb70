"""launcher=torchrun: starts the ranks of a training, and watches them.

Rank 0 is the run, with its folder, console and exit code; the others follow it. Where torchrun or a cluster has started the
ranks, nothing is started here.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agents.config.commands import TrainConfig
from agents.runs.children import Child, Children
from envs.common.text import printable

INTERVAL = 0.2
"""Seconds between looks at the ranks."""
GRACE = 20.0
"""Seconds that the others are given to end by themselves when one has failed."""
LAST_LINES = 15
"""Of a failed rank's output, which are shown."""


def is_rank() -> bool:
    """Whether this process is one of several that somebody has started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def starts(config: TrainConfig) -> bool:
    """Whether this process is to start ranks, and wait for them."""
    return config.launcher.name == "torchrun" and not is_rank()


def launch(config: TrainConfig, words: Sequence[str]) -> int:
    """Run `python -m agents.train words` as ranks on this machine; returns the exit code of rank 0, or of one that failed."""
    count = config.launcher.processes or _gpus(config.device) or 1
    with tempfile.TemporaryDirectory(prefix="stepcredit-ranks-") as folder, Children() as children:
        logs = [Path(folder) / f"rank{number}.log" for number in range(count)]
        port = _free_port()
        ranks = [_start(children, words, number, count, port, logs[number]) for number in range(count)]
        failed = _watch(ranks)
        if failed is not None and failed > 0:
            print(printable(_told(ranks[failed], failed, logs[failed])), file=sys.stderr)
    code = ranks[0].returncode
    return code if code > 0 else 1 if any(rank.returncode for rank in ranks) else 0


def _start(children: Children, words: Sequence[str], number: int, count: int, port: int, log: Path) -> Child:
    environment: Mapping[str, str] = {
        **os.environ,
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if number == 0:
        return children.start("agents.train", words, env=environment)
    with log.open("wb") as file:
        return children.start("agents.train", words, env=environment, stdout=file, stderr=file)


def _watch(ranks: Sequence[Child]) -> int | None:
    """Wait until all have ended; ends those that are left when one has failed. Returns the number of the first that failed."""
    failed: int | None = None
    since = 0.0
    while any(rank.poll() is None for rank in ranks):
        if failed is None:
            failed = next((number for number, rank in enumerate(ranks) if rank.poll()), None)
            since = time.monotonic()
        elif time.monotonic() - since > GRACE:
            for rank in ranks:
                rank.kill()
        time.sleep(INTERVAL)
    return failed if failed is not None else next((number for number, rank in enumerate(ranks) if rank.returncode), None)


def _told(rank: Child, number: int, log: Path) -> str:
    """Why a rank ended that is not rank 0, which speaks for itself."""
    code = rank.returncode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"error: rank {number} {how}, and the training with it", *(f"  {line}" for line in lines)])


def _gpus(device: str) -> int:
    import torch

    return 0 if device == "cpu" else torch.cuda.device_count()


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
