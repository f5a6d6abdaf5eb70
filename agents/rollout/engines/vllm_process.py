"""vLLM in a process of its own: what starts it, speaks with it and ends it, and the loop that runs there.

Messages go through a socket in both directions, sent and received by threads: neither a hung child nor a learner at work ever
blocks the event loop. The child ends when its parent does, however that ended.
"""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.rollout.engines.vllm_core import ENVIRONMENT, Core, Job, Loaded, Spec
from envs.common.ending import left_to_parent

PATIENCE_S = 10.0
"""For a child that was killed to be gone."""
MEMORY = "/dev/shm"
"""Where files are kept in memory, on machines that have it."""
READY = "ready"
"""What is heard first: vLLM has started, and needs weights."""


class Ended(NamedTuple):
    """What is heard last: why vLLM runs no more."""

    why: str
    error: Exception | None = None


class Child:
    """A child process with vLLM. Holds the process, the two threads that speak with it and the weights on their way to it."""

    def __init__(self, spec: Spec, gpu: int | None, hear: Callable[[Child, Any], None]) -> None:
        """Returns at once; see `wait`. hear: is told what `Core` returns, and at last `Ended`, in a thread of its own."""
        mine, theirs = socket.socketpair()
        environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._folders = [  # of weights on their way: in memory where that can be
            tempfile.TemporaryDirectory(prefix="stepcredit-weights-", dir=place)
            for place in (MEMORY, None)
            if place is None or os.access(place, os.W_OK)
        ]
        arguments = [str(theirs.fileno()), str(os.getpid()), spec.folder, *(folder.name for folder in self._folders)]
        self._process = subprocess.Popen(
            [sys.executable, *["-P"] * sys.flags.safe_path, "-m", "agents.rollout.engines.vllm_process", *arguments],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for the trainer; and the whole group can be ended
        )
        theirs.close()
        self.heard_at = time.monotonic()
        """When it last gave a sign of life."""
        self._connection = Connection(mine.detach())
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._hear = hear
        self._begun = threading.Event()
        self._ended: Ended | None = None
        self._parcel: Parcel | None = None
        for run in (self._write, self._read):
            threading.Thread(target=run, name=f"vllm {run.__name__}", daemon=True).start()
        self._send(spec)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> str:
        """Until vLLM can be given weights; returns why it cannot, "" if it can."""
        if not self._begun.wait(seconds):
            return f"it was not ready after {seconds:g} s"
        return self._ended.why if self._ended else ""

    def submit(self, job: Job) -> None:
        self._send(("submit", job))

    def drop(self, numbers: Sequence[int]) -> None:
        self._send(("drop", numbers))

    def rest(self) -> None:
        self._send(("rest",))

    def load(self, version: int, tensors: Mapping[str, Tensor], aliases: Mapping[str, str]) -> None:
        """Send weights; `Loaded` is heard when they are in use."""
        self._parcel = Parcel(tensors, [Path(folder.name) for folder in self._folders])
        self._send(("load", version, self._parcel.path, aliases))

    def close(self) -> None:
        """End it and what it started, at once."""
        self._outbox.put(None)
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._log.close()
        self._parcel = None
        for folder in self._folders:
            folder.cleanup()

    def _send(self, message: Any) -> None:
        """Returns at once. A message that a dead child does not get is lost."""
        self._outbox.put(pickle.dumps(message))

    def _received(self) -> None:
        if self._parcel is not None:
            self._parcel.close()
            self._parcel = None

    def _write(self) -> None:
        with suppress(OSError):
            while (message := self._outbox.get()) is not None:
                self._connection.send_bytes(message)

    def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                message = pickle.loads(self._connection.recv_bytes())
                self.heard_at = time.monotonic()
                if message == READY:
                    self._begun.set()
                    continue
                if isinstance(message, Loaded):
                    self._received()
                self._hear(self, message)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._ended = Ended(f"its process ended ({_ending(self._process.returncode)}){self._last_words()}")
        self._begun.set()
        self._hear(self, self._ended)
        self._connection.close()

    def _last_words(self) -> str:
        """Of one that ended by an error: the last line that it wrote, which names it."""
        if (self._process.returncode or 0) <= 0:
            return ""
        with suppress(ValueError, OSError):
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            if lines:
                return f": {lines[-1][:500]}"
        return ""


def _ending(code: int | None) -> str:
    if code is None:
        return "it does not say how"
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


class Parcel:
    """Tensors in a file for a process on the same machine, in the first of some folders that has room. To be closed."""

    def __init__(self, tensors: Mapping[str, Tensor], folders: Sequence[Path]) -> None:
        """Raises OSError if none has."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        size = sum(tensor.nbytes for tensor in whole.values())
        for folder in folders:
            self.path = folder / "weights.safetensors"
            if shutil.disk_usage(folder).free < 1.2 * size:
                continue
            try:
                save_file(whole, self.path)
            except SafetensorError:  # another process had the room first
                self.close()
            else:
                return
        places = " or ".join(str(folder.parent) for folder in folders)
        raise OSError(f"{size / 2**30:.2g} GiB of weights on their way to vLLM have no room in {places}")

    def close(self) -> None:
        self.path.unlink(missing_ok=True)


def unpacked(path: Path, aliases: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a parcel by name; aliases: further names of some of them."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dictionary)
            yield name, file.get_tensor(name)
        for name, of in aliases.items():
            yield name, file.get_tensor(of)


def main(descriptor: int, parent: int, folders: Sequence[str]) -> None:
    """The child: answers messages, and steps while there is anything to step for. folders: what the parent might leave."""
    left_to_parent()
    threading.Thread(target=_end_with, args=(parent, folders), daemon=True).start()
    connection = Connection(descriptor)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
        core = Core(connection.recv())
        connection.send(READY)
        while True:
            while connection.poll(0 if core.busy else None):
                name, *arguments = connection.recv()
                if name == "load":
                    version, path, aliases = arguments
                    connection.send(core.load(version, unpacked(path, aliases)))
                else:
                    getattr(core, name)(*arguments)
            if core.busy:
                connection.send((core.version, core.step()))
    _end(folders)


def _end_with(parent: int, folders: Sequence[str]) -> None:
    """End as soon as the parent has, whatever is going on here."""
    while os.getppid() == parent:
        time.sleep(1)
    _end(folders)


def _end(folders: Sequence[str]) -> None:
    """End this process and those that vLLM started, and remove what a killed parent leaves: maybe gigabytes of memory."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
