"""`python -m agents.audit run=runs/<name> methods=[run,grpo]`: the credit of methods, measured against true advantages.

Groups of episodes are played, and their states valued by continuations; then each method credits the same episodes. What was
played is kept, so that an audit that was stopped goes on, and other methods are measured by the same truth.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from agents.config.audited import OWN, trainings
from agents.config.commands import AuditConfig, TrainConfig
from agents.config.loading import load_audit
from agents.config.secrets import shown
from agents.models import zoo
from agents.runs.preflight import preflight
from algorithms import base
from envs.common import disk
from envs.common.text import printable

if TYPE_CHECKING:
    from agents.auditing.branching import Continuing
    from agents.auditing.opening import Opened
    from agents.auditing.playing import Store
    from agents.auditing.valuing import Valued
    from agents.rollout.collect import Collected
    from agents.runs.checkpoint import Checkpoint
    from envs.base import TextEnv

OF_TRUTH = (
    *("env", "model", "engine", "run", "seed", "episodes", "split", "gamma"),
    *("continuations", "allocation", "tokens", "cuts", "futures", "step_budget", "token_budget"),
)
"""Settings that decide what is played, and so what is true."""


@dataclass(frozen=True)
class Asked:
    """An audit, and the training that each method's credit is that of."""

    config: AuditConfig
    trainings: dict[str, TrainConfig]

    @classmethod
    def of(cls, words: list[str]) -> Asked:
        config = load_audit(words)
        return cls(config, trainings(config, words))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from agents.config import help as usage
    from agents.runs.failures import command

    return command(
        arguments, lambda words: usage.text("audit", words), Asked.of, lambda asked: audit(asked, Console(markup=False))
    )


def audit(asked: Asked, console: Console) -> dict[str, Any]:
    """Play, value, credit and compare; returns and writes the results. Raises AuditError, ConfigError."""
    from agents.auditing.opening import opened
    from agents.auditing.playing import Store
    from agents.rollout.build import make_env
    from agents.runs import checkpoint
    from agents.runs.failures import Interrupted

    any_training = next(iter(asked.trainings.values()))
    nothing = replace(any_training.evaluation, before=False, after=False, every=0)
    preflight(replace(any_training, evaluation=nothing))
    env = make_env(any_training)
    config = asked.config
    saved = None if config.run is None else checkpoint.of_run(Path(config.run), config.checkpoint)
    store = Store(folder_of(config, env, saved).absolute())
    with opened(config, asked.trainings, env, saved, console) as policy, asyncio.Runner() as runner:
        try:
            return runner.run(_audit(asked, env, policy, store, console))
        except KeyboardInterrupt as raised:
            kept = f"what was played is kept in {printable(str(store.folder))}"
            raise Interrupted(f"stopped; {kept}, and the same command goes on") from raised


async def _audit(asked: Asked, env: TextEnv, opened: Opened, store: Store, console: Console) -> dict[str, Any]:
    from agents.auditing import page, plots, report
    from agents.auditing.comparing import of_truth
    from agents.auditing.valuing import valued

    config, folder = asked.config, store.folder
    await opened.publish()
    found = await valued(config, opened.sampler, env, store, console)
    methods = await _compared(asked, env, opened, store, found, console)
    results = {
        "policy": config.run or shown(config.model.name),
        "iteration": opened.iteration,
        "environment": env.name,
        "split": config.split,
        "split_hash": env.split_hash(config.split),
        "episodes": config.episodes,
        "group_size": config.rollout.group_size,
        "left_out": found.left_out,
        "success": sum(one.success for one in found.trajectories) / len(found.trajectories),
        "gamma": config.gamma,
        "seed": config.seed,
        "truth": of_truth(found),
        "methods": methods,
        "costs": store.costs,
    }
    disk.write(folder / "audit.json", json.dumps(results, indent=1, allow_nan=False).encode())
    plots.plot(results, folder / "plots")
    disk.write(folder / "audit.html", page.document(results).encode())
    report.show(results, console)
    console.print(printable(f"written: {folder / 'audit.html'}, audit.json and plots beside it"), soft_wrap=True)
    return results


async def _compared(
    asked: Asked, env: TextEnv, opened: Opened, store: Store, found: Valued, console: Console
) -> list[dict[str, Any]]:
    """What is found of each method, as plain values."""
    from rich.progress import Progress

    from agents.auditing import opening, playing, shown
    from agents.auditing.branching import branched
    from agents.auditing.comparing import as_plain, compare, of_gradients, under_other_futures
    from agents.auditing.methods import collected, credit, to_learn_from

    config, sampler = asked.config, opened.sampler
    compares = any("greedy" in base.get(training.algo["name"]).needs for training in asked.trainings.values())
    greedy = await playing.greedy(sampler, found.trajectories, store) if compares else []

    async def continued(training: TrainConfig, played: Collected, label: str) -> tuple[Collected, Continuing]:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            return await branched(config, training, played, sampler, store, partial(playing.watch, progress, label))

    async def earlier(training: TrainConfig, label: str) -> AsyncIterator[Collected]:
        of_run = config.run and opening.of_run(config.run, opened.iteration, config.fit)
        async for iteration in of_run or opening.played(config, env, sampler, store, console):
            yield (await continued(training, collected(*to_learn_from(iteration)), label))[0]

    credits, compared = {}, {}
    for name, training in asked.trainings.items():
        learned = opened.learned if name == OWN else None
        console.print(f"credit: {name}")
        played, took = await continued(training, collected(found.trajectories, greedy), f"branches: {name}")
        past = earlier(training, f"branches to learn from: {name}")
        made = await credit(training, opened.policy, sampler, env, played, took, past, opened.before, learned)
        compared[name] = compare(config, found, made.credited)
        compared[name].again = await under_other_futures(config, training, found, made, greedy, sampler, env)
        credits[name] = made.credited
        shown.write(store.folder / name, training, opened.policy, found, made.credited)
    if config.gradients:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            told, any_training = playing.watching(progress, "gradients"), next(iter(asked.trainings.values()))
            cosines = of_gradients(config, any_training, found, credits, opened.policy, sampler, env, told)
        for name, cosine in cosines.items():
            compared[name].cosine = cosine
    return [
        {"name": name, "method": asked.trainings[name].algo["name"], "cost": credits[name].cost, **as_plain(one)}
        for name, one in compared.items()
    ]


def folder_of(config: AuditConfig, env: TextEnv, saved: Checkpoint | None) -> Path:
    """The folder of an audit: the same for what is measured by the same truth, whatever the methods."""
    about: dict[str, Any] = {name: value for name, value in asdict(config).items() if name in OF_TRUTH}
    about["group_size"], about["drop"] = config.rollout.group_size, config.rollout.out_of_context
    about["tasks"] = env.split_hash(config.split)
    if saved is not None:
        about["checkpoint"] = saved.digest
    else:
        about["warmstart"] = asdict(config.warmstart)
        if (model := Path(zoo.place(config.model.name))).is_dir():
            about["files"] = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in model.iterdir())
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:8]
    if config.out:
        return Path(config.out) / digest
    if config.run:
        return Path(config.run) / f"audit-{digest}"
    return Path("runs") / "audits" / f"{config.env.name}-{config.model.name.replace('/', '--')}-{digest}"


if __name__ == "__main__":
    sys.exit(main())
