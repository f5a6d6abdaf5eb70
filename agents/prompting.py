"""From an environment's texts to the ids a model reads, and from sampled ids back to an action.

Tokens in, tokens out: a conversation grows by appending ids; what was sampled is never decoded and tokenised again. `Plain`
sends bare observations to a model trained here; `Chat` wraps them in a model's own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from agents.constraint import ActionTries
from agents.policy import PolicyError
from agents.tokenizer import ACT
from envs.prompt import Prompt, Window


class Prompter(Protocol):
    """What a rollout needs to speak with a model."""

    stop_ids: tuple[int, ...]
    stop: tuple[str, ...]
    tries: ActionTries

    def opening(self, observation: str, admissible: Sequence[str] | None) -> list[int]:
        """Ids that begin a growing conversation."""

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool, response_ids: Sequence[int]) -> list[int]:
        """Ids that follow `response_ids` and lead to the next response."""

    def window(self, now: Window) -> list[int]:
        """Ids of a whole prompt, rebuilt for one step."""

    def spell(self, action: str, admissible: Sequence[str] | None) -> list[int]:
        """The response ids that say `action`, without the one that ends a response."""

    def action(self, response_ids: Sequence[int], admissible: Sequence[str] | None) -> tuple[str, bool]:
        """The text to execute, and whether the response was well formed."""

    def said(self, action: str, admissible: Sequence[str] | None) -> str:
        """How a rebuilt prompt shows that `action` was taken."""


class Plain:
    """Bare observations, each followed by a marker after which the model writes an action and an end token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> None:
        self._tokenizer, self._prompt = tokenizer, prompt
        self._bos = [tokenizer.bos_token_id]
        self._act = [tokenizer.convert_tokens_to_ids(ACT)]
        self._end = int(tokenizer.eos_token_id)
        self.stop_ids: tuple[int, ...] = (self._end,)
        self.stop: tuple[str, ...] = ()
        # The same few sentences come up again and again.
        self._ids = lru_cache(maxsize=65536)(lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids))
        self.tries = ActionTries(self._encode, self._end, prompt.plain_actions)

    def _encode(self, text: str) -> list[int]:
        return list(self._ids(text))

    def spell(self, action: str, admissible: Sequence[str] | None) -> list[int]:
        return self.tries.spell(action, admissible or [])

    def opening(self, observation: str, admissible: Sequence[str] | None) -> list[int]:
        return self._bos + self._encode(self._prompt.plain(observation)) + self._act

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool, response_ids: Sequence[int]) -> list[int]:
        return self._encode(self._prompt.plain(observation)) + self._act

    def window(self, now: Window) -> list[int]:
        past = [self._prompt.plain(o) + " " + a for o, a in now.history]
        return self._bos + self._encode("\n".join([now.task, *past, self._prompt.plain(now.observation)])) + self._act

    def action(self, response_ids: Sequence[int], admissible: Sequence[str] | None) -> tuple[str, bool]:
        if admissible:
            spelled = self.tries.action(admissible, response_ids)
            if spelled is not None:
                return spelled, True
        ended = bool(response_ids) and response_ids[-1] == self._end
        text = self._tokenizer.decode(list(response_ids), skip_special_tokens=True).strip()
        return text, ended and bool(text)

    def said(self, action: str, admissible: Sequence[str] | None) -> str:
        return self.tries.words(action, admissible or [])


class Chat:
    """A model's chat template around an environment's texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> None:
        if not tokenizer.chat_template:
            raise PolicyError("this tokenizer has no chat template: use model.prompt=plain or an instruction-tuned model")
        self._tokenizer, self._prompt = tokenizer, prompt
        # The template's own words between a response and the next one, found by rendering marked messages once.
        first, answer, second = "\x02first\x03", "\x02answer\x03", "\x02second\x03"
        rendered = self._render(
            [{"role": "user", "content": first}, {"role": "assistant", "content": answer}, {"role": "user", "content": second}]
        )
        try:
            self._before, rest = rendered.split(first)
            _, rest = rest.split(answer)
            self._after_answer, self._to_answer = rest.split(second)
        except ValueError:
            raise PolicyError("this chat template changes its messages; conversations cannot be built from it") from None
        self._first_to_answer = self._render([{"role": "user", "content": first}]).split(first)[1]
        self._end = int(tokenizer.eos_token_id)
        self._end_text = tokenizer.eos_token
        self.stop_ids: tuple[int, ...] = (self._end,)
        self.stop = prompt.stop
        self.tries = ActionTries(self._encode, self._end, lambda actions: [f"<action>{action}</action>" for action in actions])

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def spell(self, action: str, admissible: Sequence[str] | None) -> list[int]:
        return self.tries.spell(action, admissible or [])

    def _render(self, messages: list[dict[str, Any]]) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def opening(self, observation: str, admissible: Sequence[str] | None) -> list[int]:
        return self._whole(self._prompt.opening(observation, admissible))

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool, response_ids: Sequence[int]) -> list[int]:
        glue = self._after_answer
        if response_ids and response_ids[-1] == self._end and glue.lstrip().startswith(self._end_text):
            glue = glue.lstrip()[len(self._end_text) :]
        return self._encode(glue + self._prompt.turn(observation, admissible, valid) + self._to_answer)

    def window(self, now: Window) -> list[int]:
        return self._whole(self._prompt.window(now))

    def action(self, response_ids: Sequence[int], admissible: Sequence[str] | None) -> tuple[str, bool]:
        text = self._tokenizer.decode(list(response_ids), skip_special_tokens=True)
        action = self._prompt.parse(text)
        return (text.strip(), False) if action is None else (action, True)

    def said(self, action: str, admissible: Sequence[str] | None) -> str:
        return action

    def _whole(self, text: str) -> list[int]:
        return self._encode(self._before + text + self._first_to_answer)
