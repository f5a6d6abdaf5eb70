"""vLLM in this process, which makes its steps in the event loop between the environments' ones: the same order in every run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from agents.rollout.engines.vllm_core import Core, Job, Spec
from agents.rollout.engines.vllm_process import Ended


class Here:
    """vLLM as part of this process. Holds it, and the task that makes its steps while there is anything to step for."""

    alive = True

    def __init__(self, spec: Spec, hear: Callable[[Here, Any], None]) -> None:
        """hear: is told what `Core` returns, and `Ended` where a step of it fails."""
        self._core, self._hear = Core(spec), hear
        self._driver: asyncio.Task[None] | None = None

    def submit(self, job: Job) -> None:
        self._core.submit(job)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.get_running_loop().create_task(self._drive())

    def drop(self, numbers: Sequence[int]) -> None:
        self._core.drop(numbers)

    def rest(self) -> None:
        self._core.rest()

    def load(self, version: int, tensors: Mapping[str, Tensor], aliases: Mapping[str, str]) -> None:
        named = {**tensors, **{name: tensors[of] for name, of in aliases.items()}}
        self._hear(self, self._core.load(version, named.items()))

    def close(self) -> None:
        self._core.close()

    async def _drive(self) -> None:
        try:
            while self._core.busy:
                self._hear(self, (self._core.version, self._core.step()))
                # Episodes that got their response take their environment step and come back with the next request.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        except Exception as error:
            self._hear(self, Ended(f"{type(error).__name__}: {error}", error))
