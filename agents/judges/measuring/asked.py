"""One form of the question, put to a judge: its verdicts on all episodes, what they are worth, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from agents import judges
from agents.config.commands import JudgeRunConfig
from agents.judges.measuring.forms import Form
from agents.judges.measuring.matching import Match, match
from agents.judges.measuring.measure import latency, score, total
from agents.judges.proposal import Proposals
from envs.base import TextEnv
from envs.prompt import Prompt
from envs.trajectory import Trajectory

AT_ONCE = 16
"""Episodes whose questions are asked together."""


@dataclass(slots=True)
class _Said:
    """What a judge said of each step of each episode, and what that took."""

    verdicts: list[list[tuple[str, ...]]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    """Of each call."""


async def measured(
    config: JudgeRunConfig,
    judge: judges.Judge,
    env: TextEnv,
    prompt: Prompt,
    episodes: Sequence[Trajectory],
    form: Form,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Results of one form, which `judge` is asked in. Writes the verdicts into the steps, as `judged`."""
    said = await _judged(judge, episodes, form, folder, console)
    known = [env.subgoals(trajectory.task_id) for trajectory in episodes]
    matches = _matches(config, env, prompt, episodes, form) if form.subgoals == "proposed" else {}
    for trajectory, verdicts in zip(episodes, said.verdicts, strict=True):
        meant = {m.proposed: m.nearest for m in matches.get(_task(prompt, trajectory), []) if m.taken}
        for step, names in zip(trajectory.steps, verdicts, strict=True):
            step.judged = [meant.get(name, name) for name in names]
    judged = [[step.judged or [] for step in trajectory.steps] for trajectory in episodes]
    return {
        "form": str(form),
        **asdict(form),
        "scores": {n: s.as_dict() for n, s in score(episodes, judged, known, config.seed).items()},
        "cost": said.metrics,
        "seconds": latency(said.seconds),
        "proposed": {task: [asdict(one) for one in found] for task, found in matches.items()},
    }


async def _judged(judge: judges.Judge, episodes: Sequence[Trajectory], form: Form, folder: Path, console: Console) -> _Said:
    """Asks the judge. How long calls took is also kept in the folder: a repeated measurement makes none."""
    times = folder / "seconds.jsonl"
    said = _Said()
    metrics: list[dict[str, float]] = []
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(f"{form}", total=len(episodes))
            for start in range(0, len(episodes), AT_ONCE):
                said.verdicts += await judge.judge(episodes[start : start + AT_ONCE])
                metrics.append(dict(judge.metrics))
                with times.open("a") as file:
                    file.write(json.dumps({"form": str(form), "seconds": judge.seconds}) + "\n")
                progress.update(bar, completed=len(said.verdicts))
    finally:
        await judge.close()
    said.metrics = total(metrics)
    lines = [json.loads(line) for line in times.read_text().splitlines()]
    said.seconds = [second for line in lines if line["form"] == str(form) for second in line["seconds"]]
    return said


def _matches(
    config: JudgeRunConfig, env: TextEnv, prompt: Prompt, episodes: Sequence[Trajectory], form: Form
) -> dict[str, list[Match]]:
    """By task, in words: its proposed subgoals, and which of the rules' they are."""
    proposals = Proposals(judges.proposals_file(form.judge(config.judge), env.name, config.model.name))
    known = {_task(prompt, trajectory): env.subgoals(trajectory.task_id) for trajectory in episodes}
    return {task: match(proposals.get(task) or (), names, config.match) for task, names in known.items()}


def _task(prompt: Prompt, trajectory: Trajectory) -> str:
    return prompt.task(trajectory.steps[0].observation) if trajectory.steps else ""
