"""The script that counts what continuations take: its counts agree with each other, and holding a prefix saves tokens."""

from __future__ import annotations

import asyncio
from contextlib import closing

from agents.config.loading import load
from agents.rollout.build import fresh_policy, make_env, open_sampler
from scripts.bench.branching import SMALL, measure


def test_every_step_is_counted_and_what_is_held_is_computed_once() -> None:
    config = load([*SMALL, "env.max_steps=5", "env.train_games=4", "model.tiny.hidden=32"])
    with closing(open_sampler(config, fresh_policy(config))) as sampler:
        length, rows = asyncio.run(measure(sampler, make_env(config).tasks("train")[0], 3, 1.0))
    assert length == 5
    assert list(rows) == [
        "3 whole episodes",
        *(f"3 from step {n}" for n in (0, 1, 2, 3, 4)),
        "3 from every step",
        "the same, nothing held",
    ]
    every, alone = rows["3 from every step"], rows["the same, nothing held"]
    assert every["steps"] == alone["steps"] == sum(rows[f"3 from step {n}"]["steps"] for n in range(5))
    assert every["sampled"] == sum(rows[f"3 from step {n}"]["sampled"] for n in range(5))
    assert every["replayed"] == 3 * (0 + 1 + 2 + 3 + 4)
    assert every["computed"] + every["reused"] >= alone["computed"]
    assert every["computed"] < sum(rows[f"3 from step {n}"]["computed"] for n in range(5)) < alone["computed"]
