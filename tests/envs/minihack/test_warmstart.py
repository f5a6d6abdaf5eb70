"""Every MiniHack configuration trains as it ships: tasks without an oracle are passed over, and no search is endless."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import train
from agents.config.compose import ROOT
from agents.config.loading import load
from agents.training.demonstrations import PATIENCE
from envs.base import NoOracle
from tests.agents.parts import opened

SMALL = [
    *("iterations=1", "rollout.groups=1", "rollout.group_size=2", "env.max_steps=6", "evaluation.every=0"),
    *("evaluation.before=false", "evaluation.after=false", "warmstart.steps=2", "warmstart.demonstrations=3", "device=cpu"),
]
ENVIRONMENTS = ["minihack", *(f"minihack/{file.stem}" for file in sorted(Path(ROOT, "env/minihack").glob("*.yaml")))]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_trains_as_it_ships(environment: str, tmp_path: Path) -> None:
    # Not all can be won in six steps, as they can in as many as ship.
    long = environment.split("/")[-1] in ("corridor", "mazewalk")
    steps = [one for one in SMALL if "max_steps" not in one] if long else SMALL
    assert train.main([f"env={environment}", f"out={tmp_path}", "run=one", *steps, "tracker=console"]) == 0


def test_levels_without_an_oracle_are_passed_over() -> None:
    config = load(["env=minihack/room", "env.levels=[Room-Monster-5x5,Room-5x5]", "warmstart.suboptimal_share=0", "device=cpu"])
    with opened(config) as parts:
        made = parts.demonstrations(parts.env.tasks("train"), 4)
        assert len(made) == 4


def test_a_split_without_any_oracle_says_so_and_does_not_try_for_ever() -> None:
    config = load(["env=minihack/room", "env.levels=[Room-Monster-5x5]", "device=cpu"])
    with opened(config) as parts:
        tried: list[str] = []
        tasks = parts.env.tasks("train")

        class Counted(tuple[str, ...]):
            def __getitem__(self, place):  # type: ignore[no-untyped-def, override]
                tried.append(tasks[place])
                return tasks[place]

        with pytest.raises(NoOracle, match=r"Room-Monster-5x5 has no oracle to clone: set warmstart\.enabled=false"):
            parts.demonstrations(Counted(tasks), 3)
        assert len(tried) == PATIENCE
