"""This suite, through its public settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from envs import registry
from envs.base import Split, StepResult, TextEnv
from envs.prompt import Prompt
from loops.clock import CLOCK
from loops.work import ANSWER, BUDGET, EPISODES, GROUP_SIZE, GROUPS, longest, observation, opening


@dataclass
class ScriptedConfig:
    max_steps: int = 8


class Scripted(TextEnv):
    """Says the same at each turn whatever is done. Every second episode is won."""

    name = "bench-loop"

    def __init__(self, config: ScriptedConfig) -> None:
        super().__init__(config.max_steps)
        self.won, self.task, self.turn = False, 0, 0

    def tasks(self, split: Split) -> Sequence[str]:
        return [str(number) for number in {"train": range(GROUPS), "eval": range(2, 3), "test": range(3, 4)}[split]]

    def start(self, task_id: str, rng: Any) -> StepResult:
        CLOCK.reset()
        self.won, self.task, self.turn = bool(CLOCK.resets % 2), int(task_id), 0
        return StepResult(opening(self.task), "0", admissible_actions=None)

    def act(self, action: str) -> StepResult:
        self.turn += 1
        over = self.turn == self.max_steps
        if over:
            CLOCK.answered()
        text = "" if over else observation(self.task, self.turn)
        won = over and self.won
        return StepResult(text, str(self.turn), float(won), terminated=over, success=won, score=float(won))


class ScriptedPrompt(Prompt):
    """The texts as they are."""

    stop = ()

    def opening(self, observation: str, admissible: Sequence[str] | None) -> str:
        return observation

    def turn(self, observation: str, admissible: Sequence[str] | None, valid: bool) -> str:
        return observation


def run(folder: Path, turns: int, engine: str, settings: Sequence[str]) -> None:
    """This suite, until the clock ends the process."""
    from agents.config.loading import load
    from agents.runs.folder import RunFolder
    from agents.runs.metrics import read_metrics
    from agents.train import train
    from envs import trajectory_file

    registry.register("bench-loop", "stepcredit/BenchLoop-v0", Scripted, ScriptedConfig, ScriptedPrompt)
    model, runs = folder / "model", folder / f"runs-{engine}-{turns}"

    def counted() -> dict[str, float]:
        rows = [row for row in read_metrics(runs / "it" / "metrics.jsonl") if row["iteration"] > 1]
        episodes = trajectory_file.read(RunFolder(runs / "it").trajectories(2))
        tokens = sum(len(step.prompt_ids) + len(step.response_ids) for one in episodes for step in one.steps)
        return {
            "tokens": tokens,
            "rollout_tokens": median(row["tokens/rollout"] for row in rows),
            "update_tokens": median(row["update/padded_tokens"] for row in rows),
        }

    CLOCK.ended = counted
    overrides = [
        *("env=bench-loop", f"env.max_steps={turns}", "env.context=full", "algo=grpo", "loss.aggregation=token-mean"),
        *("model=hub", f"model.name={model}", "model.dtype=float32", f"model.max_length={longest(model, turns)}"),
        *(f"engine={engine}", f"engine.max_tokens={ANSWER}", "engine.ignore_end=true", "engine.constrained=none"),
        *(f"rollout.groups={GROUPS}", f"rollout.group_size={GROUP_SIZE}", f"optim.minibatch_episodes={EPISODES}"),
        *("optim.lr=1e-6", f"optim.tokens_per_microbatch={BUDGET}", "shaping=none", "warmstart.enabled=false", "threads=1"),
        *("evaluation.before=false", "evaluation.after=false", "evaluation.every=0", "checkpoint.every=0"),
        *(f"iterations={CLOCK.cycles + 1}", f"out={runs}", "run=it", "device=cpu", *settings),
    ]
    train(load(overrides))
