"""Texts of an environment, of which a model made from scratch gets its vocabulary: play that is the same on every machine.

Each task is played as the environment's oracle demonstrates it, if there is one, and with drawn actions, both to the end of
the episode. Where actions are not listed, they are drawn among those of oracles, what an observation puts in brackets or
quotes, and its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from agents.rollout import turns
from envs import answers
from envs.base import NoOracle, TextEnv, Unsolvable
from envs.common.seeding import generator
from envs.prompt import Prompt

TASKS = 64
"""Train tasks that are played."""
TURNS = 10_000
"""Turns after which no further task is begun."""
STRAY = 0.1
"""How often a drawn action is not a listed one, so that the answer to such actions is read too."""
_MARKED = re.compile(r"""\[[^\[\]\n]+\]|(?<=')[^'\n]+(?=')|(?<=")[^"\n]+(?=")|(?<=`)[^`\n]+(?=`)""")


def corpus(env: TextEnv, prompt: Prompt) -> Iterator[str]:
    """What a model would read and write on some train tasks.

    Of an episode that breaks down what came before is read; rollouts will count it. Raises what the first one raised if nothing
    could be read at all.
    """
    turns = 0
    broken: Exception | None = None
    known: dict[str, None] = {}
    for task_id in env.tasks("train")[:TASKS]:
        if turns >= TURNS:
            return
        shown = [] if prompt.turns_read else _demonstration(env, task_id)
        known.update(dict.fromkeys(shown))
        for actions in (shown, None) if shown else (None,):
            try:
                for texts in _episode(env, prompt, task_id, actions, list(known)):
                    turns += 1
                    yield from texts
            except Exception as error:  # of any environment
                broken = broken or error
    if broken is not None and not turns:
        raise broken


def _episode(
    env: TextEnv, prompt: Prompt, task_id: str, shown: Sequence[str] | None, known: Sequence[str]
) -> Iterator[Iterable[str]]:
    """The texts of each turn of an episode: of a demonstration, or of one whose actions are drawn."""
    rng = generator(0, "corpus", task_id)
    observation, info = answers.reset(env, 0, task_id)
    yield [prompt.task(observation), *(turns.texts(env.subgoals(task_id)) if prompt.hierarchy else ())]
    ended = False
    for turn in range(prompt.turns_read or env.max_steps + 1):
        listed = info["admissible_actions"]
        yield [prompt.plain(observation), *(prompt.plain_actions(listed) if listed else ())]
        if ended or listed == [] or (shown is not None and turn == len(shown)):
            return
        if shown is not None:
            action = shown[turn]
        elif not prompt.turns_read:
            action = _drawn(rng, observation, listed, known)
        elif listed:
            action = listed[int(rng.integers(len(listed)))]
        else:  # the lexicon has what is said where actions are not listed
            return
        if action not in (listed or ()):
            yield prompt.plain_actions([action])
        observation, _, terminated, truncated, info = answers.step(env, action)
        ended = terminated or truncated


def _drawn(rng: np.random.Generator, observation: str, listed: Sequence[str] | None, known: Sequence[str]) -> str:
    if listed and rng.random() >= STRAY:
        return listed[int(rng.integers(len(listed)))]
    guesses = [kind for kind in (known, _MARKED.findall(observation), observation.split()) if kind] or [["look"]]
    kind = guesses[int(rng.integers(len(guesses)))]
    return kind[int(rng.integers(len(kind)))]


def _demonstration(env: TextEnv, task_id: str) -> list[str]:
    """What the oracle would do; [] where there is none, or it cannot win."""
    try:
        rng = generator(0, "corpus", "oracle", task_id)
        return list(env.imperfect_demonstration(task_id, rng, detours=0.5, suboptimal=False))
    except (NoOracle, Unsolvable):
        return []
