"""A question about a whole episode in words: which of its steps were wrong, and what an answer to it says (CAPO,
arXiv 2508.02298: a critic that lists wrong steps in one pass).

As in `question`, everything that is not ours is quoted, and only the model's answer is ever read. Asking is left to `asking`.
"""

from __future__ import annotations

from agents.judges.question import DATA, LONGEST_LINE, LONGEST_OBSERVATION, enclosed
from agents.judges.quoting import quoted, quoted_line
from agents.judges.transitions import done
from algorithms.shaping.answers import parse_answer, read
from envs.trajectory import Trajectory

WHOLE = 24_000
"""Characters of all observations of an episode together; each gets the same share."""
SHORTEST = 120
"""Characters of an observation that are shown at least."""
KEY = "wrong"

CRITIC = (
    "You are a critic of games that are played in text. You read what a player saw and did in one episode, and find out which "
    "of the steps were wrong: impossible, without any use for the task, or a way back to where the player had been before."
)


def critique(trajectory: Trajectory, task: str, legend: str = "") -> str:
    """The whole prompt. legend: what the symbols of a map mean."""
    count = len(trajectory.steps)
    parts = [
        CRITIC,
        *([f"The symbols on the map: {quoted_line(legend, LONGEST_OBSERVATION)}"] if legend else []),
        f"The task of the player: {quoted_line(task, LONGEST_LINE)}",
        f"The episode has {count} steps, numbered from 1. An action is an attempt: what is seen after it shows what it did.",
        "Answer with one Python dictionary that lists the numbers of the wrong steps, and nothing else: "
        f'{{"{KEY}": [<numbers>]}}, or {{"{KEY}": []}} if none was wrong.',
        DATA,
        _transcript(trajectory),
        "Now give the dictionary.",
    ]
    return "\n\n".join(parts)


def _transcript(trajectory: Trajectory) -> str:
    longest = max(SHORTEST, WHOLE // (len(trajectory.steps) + 1))
    lines = []
    for number, step in enumerate(trajectory.steps, 1):
        lines += [f"Before step {number}, the player sees:", _indented(step.observation, longest)]
        lines.append(f"Step {number}, the player's action:\n  {quoted_line(done(step), LONGEST_LINE)}")
    lines += ["At the end, the player sees:", _indented(trajectory.final_observation or "(nobody saw it)", longest)]
    return enclosed("\n".join(lines))


def _indented(observation: str, longest: int) -> str:
    return "\n".join(f"  {line}" for line in quoted(observation, longest).split("\n"))


def wrong_steps(answer: str, steps: int) -> tuple[int, ...] | None:
    """Numbers, from 0, of the steps that an answer calls wrong, as far as there are such; None: it cannot be read."""
    dictionary = parse_answer(answer)
    said = {str(key).strip().casefold(): value for key, value in (dictionary or {}).items()}
    if KEY not in said:
        return None
    value = said[KEY]
    reading = read({KEY: value}) if not isinstance(value, str) else []
    if not reading and value not in (None, [], ()):
        return None
    return tuple(sorted({number - 1 for number, _ in reading if 0 < number <= steps}))
