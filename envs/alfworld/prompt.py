"""How a model sees ALFWorld: the role, the first message, a window rebuilt at every step, and the words of its language."""

from __future__ import annotations

from collections.abc import Sequence

from envs.alfworld import vocabulary
from envs.alfworld.texts import BANNER, TASK
from envs.prompt import Prompt, Window

_PHRASES = (
    "you are in the middle of a room. looking quickly around you, you see",
    "your task is to:",
    "you arrive at",
    "you see",
    "you see nothing",
    "is closed",
    "is open. in it,",
    "you open the",
    "you close the",
    "you pick up the",
    "you move the",
    "you clean the",
    "you heat the",
    "you cool the",
    "you turn on the",
    "you are facing the",
    "next to it, you see",
    "you are carrying:",
    "you are not carrying anything",
    "there's nothing special about",
    "nothing happens",
    "go to",
    "pick up",
)
_WORDS = (
    *("put", "some", "find", "two", "and", "it", "them", "in", "on", "look", "at", "under", "with", "hot", "cold", "sliced"),
    *("take", "from", "move", "to", "open", "close", "clean", "heat", "cool", "slice", "use", "examine", "inventory", "help"),
    *("using", "this", "is", "normal", "nothing"),
)


class ALFWorldPrompt(Prompt):
    """Texts of ALFWorld. "help" is never listed: it tells what the listing tells better."""

    refusal = "That was none of the possible actions."
    turns_read = 16

    def role(self) -> str:
        """One line that says what the agent is."""
        return "You act in a simulated household through text commands and have to complete a task in it."

    def plain(self, observation: str) -> str:
        """The observation without the engine's banner."""
        return observation.removeprefix(BANNER).strip()

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool) -> str:
        """A message of a growing conversation."""
        note = "" if valid else f"{self.refusal}\n"
        return f"{note}{self.plain(observation)}{self.listing(admissible)}"

    def task(self, observation: str) -> str:
        """The task's own words, taken from the first observation."""
        _, found, task = observation.partition(TASK)
        return task.splitlines()[0].strip() if found and task else ""

    def window(self, now: Window) -> str:
        """The whole prompt, rebuilt for one step: task, last turns, what is seen, what can be done."""
        return self.rebuilt(now, "The task", "what you saw and what you did", "you see now: ", self._scene)

    def listing(self, admissible: Sequence[str] | None) -> str:
        """The possible actions, one a line, or nothing where they cannot be listed."""
        if not admissible:
            return ""
        return "\nPossible actions:\n" + "\n".join(action for action in admissible if action != "help")

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        """(stock phrases, further words) of all games, official ones included."""
        return _PHRASES, [*vocabulary.names("full"), *vocabulary.types(), *_WORDS]

    def _scene(self, observation: str) -> str:
        """An observation for a prompt that states the task by itself."""
        return self.plain(observation).partition(TASK)[0].strip()
