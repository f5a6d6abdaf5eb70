"""Engines over a vLLM that is really there. `make test-vllm` runs these tests; where vLLM is not installed they are skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.config.sections import EngineConfig, VLLMConfig
from agents.models.policy import Policy
from agents.rollout.engines.vllm import VLLMEngine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed: make test-vllm"))


@pytest.fixture(scope="module")
def opened() -> Iterator[Callable[..., VLLMEngine]]:
    """Opens engines, which are closed after the module's last test."""
    engines: list[VLLMEngine] = []

    def open_engine(policy: Policy, **settings: Any) -> VLLMEngine:
        of_engine = {name: settings.pop(name) for name in ("max_batch",) if name in settings}
        engines.append(VLLMEngine.open(policy, EngineConfig(name="vllm", vllm=VLLMConfig(**settings), **of_engine)))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.close()
