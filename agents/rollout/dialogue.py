"""From an environment's texts to the ids a model reads, and from sampled ids back to an action: the one place for the dialogue.

Tokens in, tokens out: a conversation grows by appending ids; what was sampled is never decoded and tokenized again. `Plain`
sends bare observations; `Chat` wraps them in a model's own chat template, which agents.models.template takes apart. Rollouts,
the warm start and evaluations all speak through these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from agents.models.answers import THINK, Stop
from agents.models.plaintext import encode, inside, pieces, spelled
from agents.models.policy import PolicyError
from agents.models.template import Template
from agents.models.tokenizer import ACT
from agents.rollout.constraint import ActionTries
from agents.rollout.turns import BARS, TAGS, Plan
from algorithms.batch import Part
from envs.prompt import Prompt, Window

_ODD = re.compile(r"[^\S ]|^ | $|  |<|\[/?[A-Z]+\]")
"""Actions that reading an answer might change: white space that is not one blank, and what may be a tag."""


class Dialogue(Protocol):
    """What a rollout needs to speak with a model."""

    stop_ids: tuple[int, ...]
    """Tokens that end an answer; the first is the one that ends an answer written here."""
    stop: Stop
    tries: ActionTries
    summary: str
    """What a user should know of the dialogue, in a line; "" if nothing."""

    def opening(self, observation: str, admissible: Sequence[str] | None) -> list[int]:
        """Ids that begin a growing conversation."""

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool, response_ids: Sequence[int]) -> list[int]:
        """Ids that follow `response_ids` and lead to the next response."""

    def window(self, now: Window) -> list[int]:
        """Ids of a whole prompt, rebuilt for one step."""

    def noted(self, note: str) -> tuple[list[int], int]:
        """Ids by which the message of a whole prompt (`opening`, `window`) also says `note`, on a further line at its end, and
        how many of the prompt's ids stand behind them."""

    def spell(self, action: str, admissible: Sequence[str] | None, plan: Plan | None = None) -> list[int]:
        """The response ids that say `action`, after the `plan` where turns have one, without the one that ends a response."""

    def action(self, response_ids: Sequence[int], admissible: Sequence[str] | None) -> tuple[str, bool]:
        """The text to execute, and whether the response was well formed."""

    def said(self, action: str, admissible: Sequence[str] | None) -> str:
        """How a rebuilt prompt shows that `action` was taken."""

    def parts(self, response_ids: Sequence[int]) -> tuple[list[int], Plan]:
        """The part (algorithms.batch.Part) of each token of a turn in three parts, and what it says before it acts."""

    def answered(self, answer: str) -> tuple[list[int], list[int]]:
        """The ids of a response that gives a task's answer: what leads to it, and the answer itself."""


class Plain:
    """Bare observations, each followed by a marker after which the model writes an action and ends it.

    A model made here has tokens for marker and end. For any other, a base model say, an action stands on a line of its own
    behind a `>`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Prompt,
        end_ids: Iterable[int] = (),
        stop: Sequence[str] | None = None,
    ) -> None:
        self._tokenizer, self._prompt = tokenizer, prompt
        # The same few sentences come up again and again.
        self._ids = lru_cache(maxsize=65536)(self._tokenize)
        self._control = spelled(tokenizer.all_special_tokens)
        self._bos = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        eos = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self._own = own = ACT in tokenizer.get_vocab()
        line = [] if own else self._encode("\n")
        self._act = [int(tokenizer.convert_tokens_to_ids(ACT))] if own else self._encode("\n>")
        self._lead = "" if own else " "
        self._line = line
        ends = [*(line if len(line) == 1 else []), *eos, *end_ids]
        if not ends:
            raise PolicyError("this tokenizer has neither a token for the end of a text nor one for the end of a line")
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(ends))
        self.summary = ""
        self.stop = Stop(strings=(*(stop or ()), *(() if own else ("\n",))))
        self.tries = ActionTries(lambda words: self._encode(self._lead + words), self.stop_ids[0], prompt.plain_actions)

    def _tokenize(self, text: str, begins: bool = False) -> tuple[int, ...]:
        ids: list[int] = []
        for piece in pieces(text, self._control):
            whole = self._own or (begins and not ids)
            ids += (encode if whole else inside)(self._tokenizer, piece)
        return tuple(ids)

    def _encode(self, text: str, begins: bool = False) -> list[int]:
        return list(self._ids(text, begins))

    def spell(self, action: str, admissible: Sequence[str] | None, plan: Plan | None = None) -> list[int]:
        before = [] if plan is None else self._encode(self._lead + BARS.written(plan).rstrip())
        return before + self.tries.spell(action, admissible or [])

    def opening(self, observation: str, admissible: Sequence[str] | None) -> list[int]:
        return self._bos + self._encode(self._prompt.plain(observation), begins=True) + self._act

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool, response_ids: Sequence[int]) -> list[int]:
        ended = not self._line or "\n" in self._tokenizer.decode(list(response_ids[-1:]))
        return ([] if ended else self._line) + self._encode(self._prompt.plain(observation)) + self._act

    def window(self, now: Window) -> list[int]:
        past = [self._prompt.plain(o) + " " + a for o, a in now.history]
        pursued = [now.subgoal] if now.subgoal else []
        text = "\n".join([now.task, *past, *pursued, self._prompt.plain(now.observation)])
        return self._bos + self._encode(text, begins=True) + self._act

    def noted(self, note: str) -> tuple[list[int], int]:
        return self._line + self._encode(note), len(self._act)

    def action(self, response_ids: Sequence[int], admissible: Sequence[str] | None) -> tuple[str, bool]:
        if self._prompt.hierarchy:
            parts, _ = self.parts(response_ids)
            response_ids = [token for token, part in zip(response_ids, parts, strict=True) if part == Part.ACTION]
        if admissible:
            spelled = self.tries.action(admissible, response_ids)
            if spelled is not None:
                return spelled, True
        text = self._tokenizer.decode(list(response_ids), skip_special_tokens=True)
        ended = bool(response_ids) and (response_ids[-1] in self.stop_ids or any(s in text for s in self.stop.strings))
        if self._line:
            text = text.partition("\n")[0]
        return _listed(text.strip(), admissible), ended and bool(text.strip())

    def said(self, action: str, admissible: Sequence[str] | None) -> str:
        return self.tries.words(action, admissible or [])

    def parts(self, response_ids: Sequence[int]) -> tuple[list[int], Plan]:
        return BARS.read(response_ids, self._tokenizer.decode)

    def answered(self, answer: str) -> tuple[list[int], list[int]]:
        lead = self._lead + self._prompt.answer_lead
        return _apart(self._encode(lead), self._encode(lead + answer))


class Chat:
    """A model's chat template around an environment's texts. Thoughts are asked for where the prompt asks for them."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Prompt,
        end_ids: Iterable[int] = (),
        stop: Sequence[str] | None = None,
        system: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        date: str = "2025-01-01",
    ) -> None:
        self._prompt = prompt
        self.template = t = Template(tokenizer, prompt.thinking, system, arguments, date, end_ids)
        self.summary = t.summary()
        self.stop_ids = t.stop_ids
        self.stop = replace(t.stop, strings=(*t.stop.strings, *(prompt.stop if stop is None else stop)))
        lead = t.lead
        if prompt.thinking and t.stop.read(lead).thoughts is None:
            lead = f"{THINK[0]}\n\n{THINK[1]}\n\n{lead}"  # an answer that was asked for thoughts is not valid without
        self._answer_lead = lead
        self.tries = ActionTries(
            lambda words: t.written(f"{lead}<action>", words.removeprefix("<action>"), t.tail),
            self.stop_ids[0],
            lambda actions: [f"<action>{action}</action>" for action in actions],
        )

    def spell(self, action: str, admissible: Sequence[str] | None, plan: Plan | None = None) -> list[int]:
        if plan is None:
            return self.tries.spell(action, admissible or [])
        text = f"{TAGS.written(plan)}<action>{action}</action>".removeprefix("<switch>")
        return self.template.written(f"{self._answer_lead}<switch>", text, self.template.tail)

    def opening(self, observation: str, admissible: Sequence[str] | None) -> list[int]:
        return self.template.opening(self._prompt.opening(observation, admissible))

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool, response_ids: Sequence[int]) -> list[int]:
        return self.template.following(self._prompt.turn(observation, admissible, valid), response_ids)

    def window(self, now: Window) -> list[int]:
        return self.template.opening(self._prompt.window(now))

    def noted(self, note: str) -> tuple[list[int], int]:
        return self.template.noted(note)

    def action(self, response_ids: Sequence[int], admissible: Sequence[str] | None) -> tuple[str, bool]:
        if admissible and any(_ODD.search(a) for a in admissible):
            # Such actions are told apart by their tokens alone: in an answer white space is one blank, and tags mean something.
            spelled = self.tries.action(admissible, response_ids)
            if spelled is not None:
                return spelled, True
        reading = self.template.read(response_ids)
        action = self._prompt.parse(reading.marked)
        return (reading.said.strip(), False) if action is None else (_listed(action, admissible), True)

    def said(self, action: str, admissible: Sequence[str] | None) -> str:
        return action

    def parts(self, response_ids: Sequence[int]) -> tuple[list[int], Plan]:
        decode = self.template.tokenizer.decode
        text = decode(list(response_ids))
        thought = (text.rfind(closing) + len(closing) for _, closing in self.template.stop.thoughts if closing in text)
        return TAGS.read(response_ids, decode, start=max(thought, default=0))

    def answered(self, answer: str) -> tuple[list[int], list[int]]:
        lead = self._answer_lead + self._prompt.answer_lead
        return _apart(self.template.written(lead, "", ""), self.template.written(lead, answer, ""))


def _listed(action: str, admissible: Sequence[str] | None) -> str:
    """The listed action that `action` means: itself, or the first that differs from it by white space alone."""
    if not admissible or action in admissible:
        return action
    words = action.split()
    return next((one for one in admissible if one.split() == words), action)


def _apart(lead: Sequence[int], whole: Sequence[int]) -> tuple[list[int], list[int]]:
    """`whole`, which begins with the text of `lead`, as the ids that both have in common and the rest, at least the last one: a
    tokenizer may join the end of one text with the beginning of the next."""
    common = next((i for i, (a, b) in enumerate(zip(lead, whole)) if a != b), min(len(lead), len(whole)))
    common = min(common, max(0, len(whole) - 1))
    return list(whole[:common]), list(whole[common:])
