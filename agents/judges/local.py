"""A speaker on this machine: the model of a sampling engine, asked through its chat template."""

from __future__ import annotations

import hashlib
from itertools import count

import torch
from transformers import PreTrainedTokenizerBase

from agents.engines.base import Engine, Request, Sampling
from agents.judges.speaker import Said, SpeakerError
from agents.policy import Policy
from envs.structured import ConfigError

_MARK = "\x02question\x03"
_SAMPLED = 512


class Local:
    """An engine's model. identity: None where its weights change. owned: the engine is closed with it."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        identity: str | None,
        owned: bool = False,
    ) -> None:
        if not tokenizer.chat_template:
            raise ConfigError("the judge's model has no chat template and cannot be asked: choose an instruction-tuned model")
        self.identity = identity
        self._engine, self._tokenizer, self._owned = engine, tokenizer, owned
        message = [{"role": "user", "content": _MARK}]
        rendered = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        before, found, after = rendered.partition(_MARK)
        if not found:
            raise ConfigError("the chat template of the judge's model changes its messages; choose another model")
        self._before, self._after = self._ids(before), self._ids(after)
        self._sampling = Sampling(temperature=0.0, max_tokens=max_tokens, stop_ids=(int(tokenizer.eos_token_id),))
        self._sessions = count()

    async def ask(self, prompt: str) -> Said:
        """The likeliest answer. Raises SpeakerError if the question is longer than the model can read, or out of memory."""
        # Whatever the model's special tokens are, in a question they are plain text: only the template's own change roles.
        ids = [*self._before, *self._ids(prompt, split_special_tokens=True), *self._after]
        session = f"judge-{next(self._sessions)}"
        try:
            done = await self._engine.generate(Request(session, ids, self._sampling, seed=0))
        except torch.OutOfMemoryError as error:
            raise SpeakerError("other", f"out of memory for a question of {len(ids)} tokens") from error
        finally:
            self._engine.release(session)
        if not done.ids:
            raise SpeakerError("context", f"a question of {len(ids)} tokens is longer than the model can read")
        text = self._tokenizer.decode(done.ids, skip_special_tokens=True)
        return Said(str(text), len(ids), len(done.ids))

    async def close(self) -> None:
        if self._owned:
            self._engine.close()

    def _ids(self, text: str, split_special_tokens: bool = False) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=split_special_tokens).input_ids
        return found


def fingerprint(policy: Policy, max_tokens: int) -> str:
    """Names a model by its weights (some values of each tensor), its chat template and the length of its answers."""
    digest = hashlib.sha256(repr((policy.tokenizer.chat_template, str(policy.dtype), max_tokens)).encode())
    for name, tensor in policy.causal.state_dict().items():
        sample = tensor.detach().reshape(-1)[:_SAMPLED].float().cpu().numpy()
        digest.update(name.encode() + str(tuple(tensor.shape)).encode() + sample.tobytes())
    return f"model {digest.hexdigest()}"
