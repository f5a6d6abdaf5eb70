"""What a model writes in one turn: which part is thought, which is said, and where the answer ends.

Thoughts are not spoken: no stop string counts in them, and no action. The engine listens while tokens come, the dialogue reads
the finished text, both by the rules here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

THINK = ("<think>", "</think>")
"""The tags that prompts ask for, and that most families think in."""


class Decoder(Protocol):
    """What a listener needs of a tokenizer."""

    def decode(self, token_ids: list[int]) -> str: ...


class Reading(NamedTuple):
    """An answer taken apart."""

    thoughts: str | None
    """What stands between tags of thought; None if there are none."""
    said: str
    """The rest."""
    thinking: bool
    """Whether the answer ends inside its thoughts."""

    @property
    def marked(self) -> str:
        """The answer with its thoughts in <think> tags, whichever tags the model used."""
        if self.thoughts is None:
            return self.said
        # Thoughts in other tags may speak of these, as the prompt does that asks for them: they end no thoughts there.
        thoughts = self.thoughts.replace(THINK[1], " ")
        if self.thinking:
            return f"{self.said}{THINK[0]}{thoughts}"
        return f"{THINK[0]}{thoughts}{THINK[1]}{self.said}"


@dataclass(frozen=True, slots=True)
class Stop:
    """What ends an answer besides its end tokens, and where that does not count."""

    strings: tuple[str, ...] = ()
    """Strings that end an answer where they are said; the tokens that complete one are kept."""
    thoughts: tuple[tuple[str, str], ...] = ()
    """(opening, closing) tags of thoughts."""
    thinking: bool = False
    """Whether the prompt itself opens thoughts, in the first of these tags."""

    @property
    def listens(self) -> bool:
        """Whether text has to be read at all while tokens come."""
        return bool(self.strings or self.thoughts)

    @property
    def reach(self) -> int:
        """Most tokens that the longest of these texts can be spread over: a token is at least a byte."""
        texts = [*self.strings, *(tag for pair in self.thoughts for tag in pair)]
        return max((len(text.encode()) for text in texts), default=0) + 1

    def read(self, text: str) -> Reading:
        """Take a finished answer apart."""
        said: list[str] = []
        thoughts: list[str] = []
        closing = self.thoughts[0][1] if self.thinking else ""
        while True:
            if closing:
                inside, found, text = text.partition(closing)
                thoughts.append(inside)
                if not found:
                    return Reading("".join(thoughts), "".join(said), True)
            opened = [(text.find(tags[0]), tags) for tags in self.thoughts if tags[0] in text]
            if not opened:
                said.append(text)
                return Reading("".join(thoughts) if thoughts else None, "".join(said), False)
            place, tags = min(opened)
            said.append(text[:place])
            text, closing = text[place + len(tags[0]) :], tags[1]


class Listener:
    """Follows an answer token by token. Holds whether it is inside thoughts, and where what is said began."""

    def __init__(self, stop: Stop, tokenizer: Decoder) -> None:
        self._stop, self._tokenizer = stop, tokenizer
        self._closing = stop.thoughts[0][1] if stop.thinking else ""
        self._since = 0
        """First token that still counts: what came before has opened or closed thoughts."""

    def ends(self, ids: Sequence[int], end_ids: Sequence[int]) -> bool:
        """Whether the last of `ids` ends the answer; to be asked once for every token.

        An end token that closes thoughts (gpt-oss ends its analysis so) ends those alone.
        """
        tail = self._tokenizer.decode(list(ids[max(self._since, len(ids) - self._stop.reach) :]))
        if self._closing:
            if self._closing not in tail:
                return ids[-1] in end_ids
            # The token that completes a tag may begin what follows.
            self._closing, self._since = "", len(ids) - 1
            return False
        opened = [tags[1] for tags in self._stop.thoughts if tags[0] in tail]
        if opened:
            self._closing, self._since = opened[0], len(ids) - 1
            return False
        return ids[-1] in end_ids or any(text in tail for text in self._stop.strings)
