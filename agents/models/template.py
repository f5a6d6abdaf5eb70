"""What a chat template does, found by rendering marked messages: where a model's turn begins, where it ends, where it thinks.

No family is known by name. The template's own text is tokenized as the template means it; whatever stands inside a message
stays text, also where it spells a control token. A conversation grows by what the template writes between an answer and the
next; `differences` says where that is not what the template would render of the whole conversation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date as Date
from itertools import takewhile
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from agents.models.answers import THINK, Reading, Stop
from agents.models.plaintext import encode, inside, pieces, spelled
from agents.models.policy import PolicyError

CHANNELS = (
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel>", "<channel|>"),
    (" to=self<|message|>", "<|eom|>"),
)
"""Thoughts that no pair of like tags encloses; known where a template writes them."""
THOUGHTS_STAY = (
    "thoughts of earlier turns, empty ones too, stay in a growing conversation as the model wrote and read them, though the "
    "chat template leaves them out (so does env.context=window)"
)
_TAG = r"<[^<>\s]+>|\[[^\[\]\s]+\]"
FIRST, ANSWER, SECOND, THOUGHT = "\x02first\x03", "\x02answer\x03", "\x02second\x03", "\x02thought\x03"

THOUGHTFUL: tuple[dict[str, Any], ...] = (
    {"content": ANSWER, **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), THOUGHT)},
    {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]},
    {"content": {"blocks": [{"type": "thoughts", "text": THOUGHT}, {"type": "response", "text": ANSWER}]}},
)
"""Ways in which templates are handed an answer with its thoughts."""


class Template:
    """A tokenizer's chat template, taken apart.

    `thinking` is told to templates that ask for it (enable_thinking, thinking); `arguments` are further ones and overrule it.
    `system` begins every conversation; without one the template writes its own, if any. `date` stands for today's. `end_ids`
    are further tokens that end a turn. Raises PolicyError where conversations cannot be built from the template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        thinking: bool = False,
        system: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        date: str = "2025-01-01",
        end_ids: Iterable[int] = (),
    ) -> None:
        if not tokenizer.chat_template:
            raise PolicyError(
                "this tokenizer has no chat template: choose an instruction-tuned model, or for a policy model.prompt=plain"
            )
        self.tokenizer = tokenizer
        try:
            self._source = str(tokenizer.get_chat_template())
        except ValueError:  # several, none of them the one for ordinary conversations
            raise PolicyError(
                f"this tokenizer has chat templates for {', '.join(sorted(tokenizer.chat_template))} and none called default: "
                "save the one that is meant as tokenizer.chat_template, in a copy of the model's folder"
            ) from None
        self._thinking = thinking
        try:
            today = Date.fromisoformat(date)
        except ValueError:
            raise PolicyError(f"model.date is '{date}'; it must be a day, for example 2025-01-01") from None
        self._arguments = self._told(thinking, arguments or {}, today)
        self._system = system
        self._in_parts = False
        self._take_apart()
        self._shown = self._trimming()
        self._control = self._control_tokens()
        end, self._end_text = self._end_of_turn()
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys([end, *self._eos(), *end_ids]))
        """Tokens that end a turn; the first is the one that the template writes."""
        tags = self._thought_tags()
        begun = self.to_answer.rpartition(tags[0])
        self.stop = Stop(
            strings=(self._end_text,) if self._end_text else (),
            thoughts=tuple(dict.fromkeys([tags, THINK])),
            thinking=bool(begun[1]) and tags[1] not in begun[2],
        )
        """Where thoughts stand, and the text that ends a turn if no token does."""
        self.lead = self._lead(tags)
        """What an answer without thoughts begins with."""

    # -- conversations --------------------------------------------------------------------------------------------------

    def opening(self, text: str) -> list[int]:
        """Ids from the beginning of a conversation to its first answer."""
        return self._ids(self.before, self._shown(text), self.to_answer)

    def noted(self, note: str) -> tuple[list[int], int]:
        """Ids by which the message of an opening also says `note`, on a further line at its end, and how many of the opening's
        ids stand behind them, whatever it says."""
        ids = [i for part in pieces(f"\n{note.strip()}", self._control) for i in inside(self.tokenizer, part)]
        one, other = (self._ids(self.before, text, self.to_answer) for text in "ab")
        alike = (a == b for a, b in zip(reversed(one), reversed(other)))
        return ids, sum(1 for _ in takewhile(bool, alike))

    def following(self, text: str, response_ids: Sequence[int]) -> list[int]:
        """Ids from the end of an answer to the next one: the rest of the turn that `response_ids` leave open, and `text`."""
        after, text = self.after, self._shown(text)
        if self._end_text and self.tokenizer.decode(list(response_ids)).rstrip().endswith(self._end_text):
            after = after.lstrip().removeprefix(self._end_text)
        last = response_ids[-1] if response_ids else None
        if last in self.stop_ids:
            closing = self.encode(after)
            if last in closing:
                return self._ids(after, text, self.to_next)[closing.index(last) + 1 :]
        return self._ids(after, text, self.to_next, goes_on=True)

    def read(self, response_ids: Sequence[int]) -> Reading:
        """An answer taken apart into thoughts and what is said, without its end."""
        ids = list(response_ids)
        while ids and ids[-1] in self.stop_ids:
            ids.pop()
        # Special tokens are kept: in some vocabularies the tags of thoughts are such.
        text = str(self.tokenizer.decode(ids))
        if self._end_text:
            text = text.rstrip().removesuffix(self._end_text)
        reading = self.stop.read(text)
        said = reading.said
        if self._control.search(self.lead):  # gpt-oss names role and channel between thoughts and answer
            said = said.rpartition(self.lead)[2]
        return reading._replace(said=self._control.sub("", said))

    def encode(self, text: str) -> list[int]:
        """Ids of text that may hold control tokens."""
        return encode(self.tokenizer, text)

    def written(self, before: str, text: str, after: str) -> list[int]:
        """Ids of an answer that goes on from the prompt: the template's words around `text`."""
        prompt = self.encode(self.to_answer)
        found = self._ids(self.to_answer + before, text, after)
        return found[len(prompt) :] if found[: len(prompt)] == prompt else self._ids(before, text, after, goes_on=True)

    def render(self, messages: Sequence[Mapping[str, Any]], answer_follows: bool = True) -> str:
        """The template's own rendering of a conversation of user and assistant messages."""
        said = [{"role": "system", "content": self._system}, *messages] if self._system else list(messages)
        if self._in_parts:
            said = [{**m, "content": _in_parts(m["content"])} for m in said]
        return str(
            self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=answer_follows, **self._arguments)
        )

    @property
    def tail(self) -> str:
        """What stands between an answer and the token that ends it: Llama 2 sets a blank."""
        return "" if self._end_text else self.after[: len(self.after) - len(self.after.lstrip())]

    def differences(self) -> list[str]:
        """How a growing conversation differs from the template's rendering of the same messages; empty where it does not."""
        if (self._thinking or self.stop.thinking) and not self._keeps_thoughts():
            return [THOUGHTS_STAY]
        users, answers = ["one", "two", "three"], ["<action>first</action>", "<action>second</action>"]
        grown = self.before + users[0] + self.to_answer
        for answer, user in zip(answers, users[1:], strict=True):
            ended = str(self.tokenizer.decode(self.stop_ids[0])) if self._end_text else ""
            grown += self.lead + answer + ended + self.after + user + self.to_next
        messages = [_said("user", users[0])]
        for answer, user in zip(answers, users[1:], strict=True):
            messages += [_said("assistant", answer), _said("user", user)]
        official = self.render(messages)
        if grown == official:
            return []
        thoughtful = any(tag in grown + official for tags in self.stop.thoughts for tag in tags)
        if thoughtful and _without_thoughts(grown, self.stop) == _without_thoughts(official, self.stop):
            return [THOUGHTS_STAY]
        place = next((i for i, (a, b) in enumerate(zip(grown, official)) if a != b), min(len(grown), len(official)))
        return [
            f"the template writes {official[place : place + 40]!r} where the conversation has {grown[place : place + 40]!r}"
        ]

    def _keeps_thoughts(self) -> bool:
        """Whether thoughts of an earlier turn are rendered."""
        opening, closing = self.stop.thoughts[0]
        answer = _said("assistant", f"{opening}\n{THOUGHT}\n{closing}\n\n{ANSWER}")
        try:
            return THOUGHT in self.render([_said("user", FIRST), answer, _said("user", SECOND)])
        except (TemplateError, TypeError, KeyError):
            return False

    def summary(self) -> str:
        """What a user should know of the dialogue, in a line."""
        end = self._end_text or self.tokenizer.convert_ids_to_tokens(self.stop_ids[0])
        parts = [f"turns end with {end}"]
        if self.stop.thinking:
            parts.append(f"the prompt opens the model's thoughts ({''.join(self.stop.thoughts[0])})")
        return "; ".join([*parts, *self.differences()])

    # -- taking apart ---------------------------------------------------------------------------------------------------

    def _told(self, thinking: bool, arguments: Mapping[str, Any], date: Date) -> dict[str, Any]:
        """What the template is told: each name only if the template knows it."""

        def known(name: str) -> bool:
            return re.search(rf"\b{re.escape(name)}\b", self._source) is not None

        unknown = [name for name in arguments if not known(name)]
        if unknown:
            raise PolicyError(
                f"model.chat_template_kwargs.{unknown[0]} is nothing that this model's chat template asks for"
                + ("; it asks for enable_thinking" if known("enable_thinking") else "")
            )
        told: dict[str, Any] = dict.fromkeys(("enable_thinking", "thinking"), thinking)
        told["strftime_now"] = date.strftime
        return {name: value for name, value in told.items() if known(name)} | dict(arguments)

    def _take_apart(self) -> None:
        """Find the template's own words around the messages of a conversation."""
        messages = [_said("user", FIRST), _said("assistant", ANSWER), _said("user", SECOND)]
        try:
            self.before, self.to_answer = self._attempt(messages[:1]).split(FIRST)
            before, rest = self._attempt(messages).split(FIRST)
            _, rest = rest.split(ANSWER)
            self.after, self.to_next = rest.split(SECOND)
        except ValueError:
            raise PolicyError("this chat template changes its messages; conversations cannot be built from it") from None
        self.grows = before == self.before
        """Whether a conversation begins the same once it goes on; Mistral moves a system message to the last user's turn."""
        if self._system and self._system.strip() not in self.before:
            raise PolicyError("this model's chat template leaves out system messages: leave model.system away")

    def _trimming(self) -> Callable[[str], str]:
        """What the template does with white space around a user's message: Llama 3 and Gemma take it away."""
        found = self.render([_said("user", f" {FIRST} ")])
        for keep in (str.strip, str.rstrip, str.lstrip):
            if found == self.before + keep(f" {FIRST} ") + self.to_answer:
                return keep
        return str

    def _attempt(self, messages: list[dict[str, str]]) -> str:
        """A rendering; templates for pictures too want the text of a message as one of its parts."""
        error: Exception | None = None
        for self._in_parts in (False, True):
            try:
                found = self.render(messages)
            except (TemplateError, TypeError, KeyError) as raised:
                error = error or raised
                continue
            if all(message["content"] in found for message in messages):
                return found
        if error is not None:
            hint = "; this family may have no system message: leave model.system away" if self._system else ""
            raise PolicyError(f"this model's chat template refuses the conversation: {error}{hint}") from error
        raise PolicyError("this chat template changes its messages; conversations cannot be built from it")

    def _end_of_turn(self) -> tuple[int, str]:
        """The token that the template writes after an answer; where that is no token, eos and the text that ends a turn."""
        after = self.after.lstrip()
        ids = self.encode(after)
        if ids and ids[0] in self.tokenizer.get_added_vocab().values():
            return ids[0], ""
        eos = self._eos()
        if not eos:
            raise PolicyError("neither this model's chat template nor its tokenizer says which token ends a turn")
        # What may change from turn to turn (a number), and further lines, are no part of it.
        words = re.split(r"[\d\n]", after)[0].rstrip()
        return eos[0], words or (after.split()[0] if after else "")

    def _eos(self) -> list[int]:
        eos = self.tokenizer.eos_token_id
        return [] if eos is None else [int(eos)]

    def _thought_tags(self) -> tuple[str, str]:
        """The tags that this family thinks in; <think> if the template knows of none."""
        for tags in (*CHANNELS, THINK):
            if all(tag in self._source for tag in tags):
                return tags
        begun = re.search(rf"({_TAG})\s*\Z", self.to_answer)
        closing = f"{begun[1][0]}/{begun[1][1:]}" if begun else ""
        if begun and closing in self._source and closing not in self.after:  # what is closed after an answer is the turn
            return begun[1], closing
        for answer in THOUGHTFUL:
            try:
                rendered = self.render([_said("user", FIRST), {"role": "assistant", **answer}], answer_follows=False)
            except (TemplateError, TypeError, KeyError):
                continue
            if found := re.search(rf"({_TAG})\s*{THOUGHT}\s*({_TAG})", rendered):
                return found[1], found[2]
        return THINK

    def _lead(self, tags: tuple[str, str]) -> str:
        """From the prompt to an answer without thoughts, as the template writes it; else thoughts that are open are closed."""
        prompt = self.render([_said("user", FIRST)])
        try:
            answered = self.render([_said("user", FIRST), _said("assistant", ANSWER)], answer_follows=False)
        except (TemplateError, TypeError, KeyError):
            answered = ""
        if answered.startswith(prompt):
            return answered[len(prompt) :].partition(ANSWER)[0]
        return f"\n{tags[1]}\n\n" if self.stop.thinking else ""

    def _control_tokens(self) -> re.Pattern[str]:
        """Tokens that mean something to the model besides their text: special ones, and what the template writes."""
        own = self.before + self.to_answer + self.after + self.to_next
        special = set(self.tokenizer.all_special_tokens)
        tokens = {
            token.content
            for token in self.tokenizer.added_tokens_decoder.values()
            if token.special or token.content in special or token.content in own
        }
        return spelled(tokens - set(THINK))

    def _ids(self, before: str, text: str, after: str, goes_on: bool = False) -> list[int]:
        """Ids of the template's words around a message. A control token inside the message is cut in two: it stays text."""
        parts = pieces(text, self._control)
        parts[0] = before + parts[0]
        parts[-1] += after
        first = inside(self.tokenizer, parts[0]) if goes_on else self.encode(parts[0])
        return first + [i for part in parts[1:] for i in inside(self.tokenizer, part)]


def _in_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _without_thoughts(text: str, stop: Stop) -> str:
    for opening, closing in stop.thoughts:
        text = re.sub(rf"{re.escape(opening)}.*?{re.escape(closing)}", "", text, flags=re.DOTALL)
    return "".join(text.split())  # templates set blank lines around thoughts
