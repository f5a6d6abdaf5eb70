"""Engines by name: what `engine.name` may be. Plug-ins: entry-point group `stepcredit.engines`.

A class that follows agents.rollout.engines.base.Engine is registered as "module:attribute", so that a name is checked before
anything heavy is imported; its `open` makes an engine.
"""

from __future__ import annotations

from typing import Any

from envs.common.registry import Registry

_registry: Registry[Any] = Registry("engine", "stepcredit.engines", lazy=True)
register, names, get = _registry.register, _registry.names, _registry.get
register("hf", "agents.rollout.engines.hf:HFEngine")
register("scripted", "agents.rollout.engines.scripted:ScriptedEngine")
register("vllm", "agents.rollout.engines.vllm:VLLMEngine")
