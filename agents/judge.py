"""`python -m agents.judge env=... judge=...`: how good a judge of subgoals is, measured against the environment's own rules.

Every form of the question is measured on the same episodes. What a language model answered is kept, so that a measurement
that was stopped goes on where it was, and one that is repeated costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from agents.config.commands import EvaluateConfig, JudgeRunConfig
from agents.config.loading import load_judge
from agents.config.sections import EvalConfig
from envs.common import disk
from envs.common.structured import ConfigError

if TYPE_CHECKING:
    from agents.models.policy import Policy
    from agents.rollout.sampler import Sampler


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from agents.config import help as usage
    from agents.runs.failures import command

    return command(
        arguments, lambda words: usage.text("judge", words), load_judge, lambda config: measure(config, Console(markup=False))
    )


def measure(config: JudgeRunConfig, console: Console) -> dict[str, Any]:
    """Play, judge and compare, form by form; returns and writes the results. Raises ConfigError."""
    from agents.evaluate import restore, which
    from agents.rollout.build import fresh_policy, open_sampler
    from agents.runs.failures import Interrupted

    playing = _playing(config)
    policy, restored = restore(playing) if config.run else (fresh_policy(playing), None)
    saved = restored and which(restored)
    sampler = open_sampler(playing, policy)
    try:
        return asyncio.run(_measure(config, playing, policy, saved, sampler, console))
    except KeyboardInterrupt as raised:
        kept = "what was answered is kept, except by judge=policy"
        raise Interrupted(f"stopped; {kept}, and the same command goes on") from raised
    finally:
        sampler.close()


async def _measure(
    config: JudgeRunConfig,
    playing: EvaluateConfig,
    policy: Policy,
    saved: dict[str, Any] | None,
    sampler: Sampler,
    console: Console,
) -> dict[str, Any]:
    from agents import judges
    from agents.judges.measuring import report
    from agents.judges.measuring.asked import measured
    from agents.judges.measuring.forms import forms
    from agents.judges.measuring.measure import filtered
    from agents.judges.measuring.playing import episodes, told
    from agents.rollout.build import make_env
    from envs.trajectory_file import write

    to_measure, env = forms(config), make_env(playing)
    if not any(map(env.subgoals, env.tasks(config.split))):
        raise ConfigError(f"environment '{env.name}' knows no subgoals by rules: there is nothing to measure against")
    folder = _folder(config, env.split_hash(config.split), saved)
    folder.mkdir(parents=True, exist_ok=True)
    played = await episodes(config, env, sampler, console)
    results: dict[str, Any] = {
        "environment": env.name,
        "split": config.split,
        "split_hash": env.split_hash(config.split),
        "policy": config.run or "random",
        "checkpoint": saved,
        "faults": config.episodes - len(played),
        "judge": {key: getattr(config.judge, key) for key in ("kind", "model", "noise", "concurrency", "window")},
        **filtered(played, [env.subgoals(trajectory.task_id) for trajectory in played]),
        "forms": [],
    }
    for number, form in enumerate(to_measure, 1):
        read = told(config, played, form)
        judge = judges.build(form.judge(config.judge), playing, env, sampler, policy)
        found = await measured(config, judge, env, sampler.player.prompt, read, form, folder, console)
        results["forms"].append(found)
        write(folder / f"form-{number}.jsonl.gz", read)
        disk.write(folder / "results.json", json.dumps(results, indent=1).encode())
    report.show(results, console)
    plot = report.plot(results, folder / "scores.png")
    console.print(
        f"written: {folder / 'results.json'}, {plot}, and each form's episodes with verdicts beside it", soft_wrap=True
    )
    return results


def _playing(config: JudgeRunConfig) -> EvaluateConfig:
    """How the episodes are played, in the words of an evaluation."""
    return EvaluateConfig(
        env=config.env,
        model=config.model,
        engine=config.engine,
        evaluation=EvalConfig(split=config.split),
        run=config.run,
        checkpoint=config.checkpoint,
        seed=config.seed,
        device=config.device,
        threads=config.threads,
    )


def _folder(config: JudgeRunConfig, split_hash: str, saved: dict[str, Any] | None) -> Path:
    """A folder for what is measured: the same for the same measurement, another for any other."""
    about = {key: value for key, value in asdict(config).items() if key not in ("out", "device", "threads")}
    if saved:
        about["checkpoint"] = saved["sha256"]
    digest = hashlib.sha256(json.dumps([about, split_hash], sort_keys=True, default=str).encode()).hexdigest()[:8]
    judge = Path(config.judge.model).name if config.judge.model else config.judge.kind
    return Path(config.out) / f"{config.env.name}-{judge}-{digest}"


if __name__ == "__main__":
    sys.exit(main())
