"""The client of a model on this machine: that of a sampling engine, asked through its chat template."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from agents.judges.client import ClientError, Draw, Reply
from agents.models.policy import Policy
from agents.models.template import Template
from agents.rollout.engines.base import Engine, Request, Sampling, new_session

DIALOGUE = 2
"""Part of a model's name: to be raised whenever a question or an answer is read otherwise, so that no old answer counts."""

_SAMPLED = 512


class Local:
    """An engine's model. identity: None where its weights change. owned: the engine is closed with it."""

    def __init__(self, engine: Engine, template: Template, max_tokens: int, identity: str | None, owned: bool = False) -> None:
        self.identity = identity
        self._engine, self._template, self._owned = engine, template, owned
        self._sampling = Sampling(temperature=0.0, max_tokens=max_tokens, stop=template.stop, stop_ids=template.stop_ids)

    async def ask(self, prompt: str, draw: Draw | None = None) -> Reply:
        """The likeliest answer, or one that is sampled, without its thoughts. Raises ClientError if the question is longer than
        the model can read, or out of memory."""
        ids = self._template.opening(prompt)
        session = new_session()
        sampling = self._sampling if draw is None else replace(self._sampling, temperature=draw.temperature)
        try:
            done = await self._engine.generate(Request(session, ids, sampling, seed=0 if draw is None else draw.number))
        except torch.OutOfMemoryError as error:
            raise ClientError("other", f"out of memory for a question of {len(ids)} tokens") from error
        finally:
            self._engine.release(session)
        if not done.ids:
            raise ClientError("context", f"a question of {len(ids)} tokens is longer than the model can read")
        return Reply(self._template.read(done.ids).said, len(ids), len(done.ids))

    async def close(self) -> None:
        if self._owned:
            self._engine.close()


def fingerprint(policy: Policy, max_tokens: int) -> str:
    """Names a model by its weights (some values of each tensor), its chat template and the length of its answers."""
    digest = hashlib.sha256(repr((DIALOGUE, policy.tokenizer.chat_template, str(policy.dtype), max_tokens)).encode())
    for name, tensor in policy.causal.state_dict().items():
        sample = tensor.detach().reshape(-1)[:_SAMPLED].float().cpu().numpy()
        digest.update(name.encode() + str(tuple(tensor.shape)).encode() + sample.tobytes())
    return f"model {digest.hexdigest()}"
