"""How a model sees an environment, as text: opening, turns, a rebuilt window, and how an answer becomes an action.

`agents.prompting` decides which of these texts are sent and how they become tokens (chat template or plain); an environment
only says what the texts are. The defaults work for any environment; a subclass rewords them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)
_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)


class Prompt:
    """Texts of an environment. `thinking` asks for <think>..</think> before <action>..</action>."""

    stop: tuple[str, ...] = ("</action>",)
    """Strings that end an answer; the string itself is kept."""

    def __init__(self, thinking: bool = False) -> None:
        self.thinking = thinking

    def role(self) -> str:
        """One line that says what the agent is."""
        return "You are an agent in a text environment."

    def answer_format(self) -> str:
        """How to answer, for models that answer in free text."""
        if self.thinking:
            return (
                "First reason step by step about the situation inside <think> </think> tags. "
                "Then give exactly one action inside <action> </action> tags."
            )
        return "Give exactly one action inside <action> </action> tags."

    def opening(self, observation: str, admissible: Sequence[str] | None) -> str:
        """First message of a growing conversation (context=full)."""
        return f"{self.role()}\n{self.answer_format()}\n\n{self.turn(observation, admissible, valid=True)}"

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool) -> str:
        """A later message of a growing conversation."""
        note = "" if valid else "Your last answer was not a possible action.\n"
        return f"{note}{observation}{self.listing(admissible)}"

    def window(
        self,
        task: str,
        history: Sequence[tuple[str, str]],
        step: int,
        observation: str,
        admissible: Sequence[str] | None,
        valid: bool = True,
    ) -> str:
        """The whole prompt rebuilt for step `step` (from 0): `history` holds the last k (observation, action) pairs."""
        parts = [self.role(), f"Task: {task}"]
        if history:
            first = step - len(history) + 1
            lines = [f"[{first + i}] observation: {o}\n[{first + i}] action: {a}" for i, (o, a) in enumerate(history)]
            parts.append(f"You have taken {step} steps. The last {len(history)}:\n" + "\n".join(lines))
        if not valid:
            parts.append("Your last answer was not a possible action.")
        parts.append(f"Step {step + 1}. Current observation: {observation}{self.listing(admissible)}")
        parts.append(self.answer_format())
        return "\n".join(parts)

    def listing(self, admissible: Sequence[str] | None) -> str:
        """The admissible actions as a line, or nothing where they cannot be listed."""
        if not admissible:
            return ""
        return "\nAdmissible actions: " + ", ".join(f"'{a}'" for a in admissible)

    def plain(self, observation: str) -> str:
        """The observation as a model reads it that is trained on bare observations: no role, no format, no list of actions."""
        return observation

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        """(stock phrases, further words) of this environment's language, for a tokenizer made for it."""
        return (), ()

    def task(self, observation: str) -> str:
        """The task's own line, taken from the first observation."""
        return observation.strip().splitlines()[-1] if observation.strip() else ""

    def parse(self, text: str) -> str | None:
        """The action in a free-text answer, or None if the answer has no well-formed one (invalid, never an error)."""
        if self.thinking and not _THINK.search(text):
            return None
        found = _ACTION.findall(text)
        if not found:
            return None
        action = " ".join(found[-1].split())
        return action or None
