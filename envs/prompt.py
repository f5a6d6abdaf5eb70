"""How a model sees an environment, as text: opening, turns, a rebuilt window, and how an answer becomes an action.

`agents.rollout.dialogue` decides which of these texts are sent and how they become tokens (chat template or plain); an
environment only says what the texts are. The defaults work for any environment; a subclass rewords them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)
_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Window:
    """What a prompt says that is rebuilt for one step (context=window)."""

    task: str
    """The task's own line."""
    history: Sequence[tuple[str, str]]
    """The last k (observation, action) pairs, oldest first."""
    step: int
    """Steps taken so far."""
    observation: str
    admissible: Sequence[str] | None
    valid: bool = True
    """Whether the last action was possible."""
    subgoal: str = ""
    """What the last turn named, if turns name subgoals."""


class Prompt:
    """Texts of an environment. `thinking` asks for `<think>..</think>` before `<action>..</action>`."""

    hierarchy: bool = False
    """Set by env.hierarchy: ask for `<switch>..</switch>` and `<subgoal>..</subgoal>` before `<action>..</action>`."""

    stop: tuple[str, ...] = ("</action>",)
    """Strings that end an answer; the string itself is kept."""
    refusal: str = "Your last answer was not a possible action."
    """What a growing conversation says to an answer that was no possible action."""
    answer_lead: str = "The answer is: "
    """What a model is made to have said when its probability of a task's true answer (TextEnv.answer) is taken."""
    turns_read: int | None = None
    """How many turns of an episode the tokenizer of a model made from scratch is built from; None: all. Give a number if
    `lexicon` lists the words of later turns."""

    def __init__(self, thinking: bool = False) -> None:
        self.thinking = thinking

    def role(self) -> str:
        """One line that says what the agent is."""
        return "You are an agent in a text environment."

    def answer_format(self) -> str:
        """How to answer, for models that answer in free text."""
        if self.hierarchy:
            first = "First reason step by step inside <think> </think> tags. Then give" if self.thinking else "Give"
            return (
                "Pursue one short-term subgoal at a time: a small goal that a few actions can reach, neither the whole task "
                f"nor a single action. {first} exactly three blocks: <switch>KEEP</switch> to go on with your subgoal, or "
                "<switch>SWITCH</switch> to choose another one, as in the first turn; the subgoal, word for word the same if "
                "you keep it, inside <subgoal> </subgoal> tags; and exactly one action inside <action> </action> tags."
            )
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
        note = "" if valid else f"{self.refusal}\n"
        return f"{note}{observation}{self.listing(admissible)}"

    def window(self, now: Window) -> str:
        """The whole prompt, rebuilt for one step (context=window)."""
        parts = [self.role(), f"Task: {now.task}"]
        if now.history:
            first = now.step - len(now.history) + 1
            lines = [f"[{first + i}] observation: {o}\n[{first + i}] action: {a}" for i, (o, a) in enumerate(now.history)]
            parts.append(f"You have taken {now.step} steps. The last {len(now.history)}:\n" + "\n".join(lines))
        if now.subgoal:
            parts.append(f"Your subgoal: {now.subgoal}")
        if not now.valid:
            parts.append("Your last answer was not a possible action.")
        parts.append(f"Step {now.step + 1}. Current observation: {now.observation}{self.listing(now.admissible)}")
        parts.append(self.answer_format())
        return "\n".join(parts)

    def rebuilt(self, now: Window, task: str, past: str, present: str, seen: Callable[[str], str] = str) -> str:
        """A window in an environment's words: what it calls the task, the last turns and the present; `seen` gives an
        observation as a prompt shows it that states the task by itself."""
        parts = [self.role(), f"{task}: {now.task}"]
        if now.history:
            first = now.step - len(now.history) + 1
            parts.append(f"Steps taken so far: {now.step}. The last {len(now.history)} of them, {past}:")
            parts += [f"{first + i}. {seen(text)}\n   > {action}" for i, (text, action) in enumerate(now.history)]
        if now.subgoal:
            parts.append(f"Your subgoal: {now.subgoal}")
        if not now.valid:
            parts.append("Your last answer was none of the possible actions.")
        parts.append(f"Step {now.step + 1}, {present}{seen(now.observation)}{self.listing(now.admissible)}")
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

    def plain_actions(self, actions: Sequence[str]) -> Sequence[str]:
        """How such a model writes each of `actions`, which are all that are possible in one state; the results must differ."""
        return actions

    def legend(self, observation: str) -> str:
        """What the symbols of an observation's map mean; "" if it has no map, or explains the symbols itself."""
        return ""

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        """(stock phrases, further words) of this environment's language, for a tokenizer made for it."""
        return (), ()

    def task(self, observation: str) -> str:
        """The task's own line, taken from the first observation."""
        return observation.strip().splitlines()[-1] if observation.strip() else ""

    def parse(self, text: str) -> str | None:
        """The action in a free-text answer, or None if the answer has no well-formed one (invalid, never an error).

        Thoughts stand in `<think> </think>`, whichever tags the model itself thinks in; an action that is only considered in
        them is none.
        """
        if self.thinking and not _THINK.search(text):
            return None
        found = _ACTION.findall(_THOUGHTS.sub("", text))
        if not found:
            return None
        action = " ".join(found[-1].split())
        return action or None
