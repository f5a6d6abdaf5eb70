"""Chance that is drawn anew in the middle of an episode, as continuations from one state need it: a function of the seed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, pairwise

from envs.base import TextEnv
from envs.checker.determinism import compare
from envs.checker.playing import Play, Record, replaying
from envs.checker.problems import Problems

SEEDS = range(8)
AGAIN = (
    "let chance(rng) hand all chance over to `rng`: the default does so where everything is drawn from the generator that "
    "start() got, one number after the other"
)


def check_chance(maker: Callable[[], TextEnv], plays: list[Play], records: list[list[Record]], problems: Problems) -> None:
    """Of a stochastic environment: after `reseed` the same actions lead to the same for equal seeds, not for all of them."""
    one, two = maker(), maker()
    if not one.stochastic:
        return
    same = True
    for play, found in zip(plays, records):
        with problems.on(f"{play}: reseed() fails", AGAIN):
            for seed in SEEDS:
                first, second = (_reseeded(env, play, seed) for env in (one, two))
                if not first:  # it says that it cannot: whoever continues its episodes is told
                    return
                compare(
                    play, first, second, f"when it was reseeded by {seed} in its middle in another instance", AGAIN, problems
                )
                same = same and first == found[: len(first)]
    if same and _varies(records):
        problems.add(
            f"after reseed() chance does what it would have done anyway ({len(SEEDS)} seeds in each of {len(plays)} episodes)",
            AGAIN,
        )


def _reseeded(env: TextEnv, play: Play, seed: int) -> list[Record]:
    """The episode with the same actions, reseeded before the second half of them; [] if it cannot be."""
    found: list[Record] = []
    for record in replaying(env, play):
        if len(found) == len(play.actions or ()) // 2 and env.reseed(seed) == "fixed":
            return []
        found.append(record)
    return found


def _varies(records: list[list[Record]]) -> bool:
    """Whether equal states and actions went on differently: then chance was seen at work."""
    outcomes: dict[tuple[str, str, str], tuple[str, float]] = {}
    for before, after in chain.from_iterable(pairwise(found) for found in records):
        place = str(before["info"]["task_id"]), str(before["info"]["state_key"]), str(after["action"])
        outcome = str(after["info"]["state_key"]), after["reward"]
        if outcomes.setdefault(place, outcome) != outcome:
            return True
    return False
