"""`python -m agents.evaluate run=runs/<name>`: success of a checkpoint, or of a model as it is, on a named split.

Episodes are appended to a file as they end; an evaluation that was stopped goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.config.commands import EvaluateConfig
from agents.config.loading import load_evaluate, to_dict
from agents.config.secrets import masks, shown, unresolved
from agents.models import zoo
from agents.runs.preflight import preflight
from envs.common import disk
from envs.common.text import printable
from envs.trajectory import CONTEXT

if TYPE_CHECKING:
    from agents.models.policy import Policy
    from agents.rollout.engines.beam import BeamEngine
    from agents.rollout.sampler import Sampler
    from agents.runs.checkpoint import Checkpoint
    from agents.runs.evaluation import Rate
    from agents.runs.paired import Earlier

REPEATS = 3
"""Of each task, where nothing else is asked for: one sampling seed alone does not show what another one would give."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from agents.config import help as usage
    from agents.runs.failures import command

    return command(
        arguments, lambda words: usage.text("evaluate", words), load_evaluate, lambda config: evaluate(config, Console())
    )


def evaluate(config: EvaluateConfig, console: Console) -> dict[str, Any]:
    """Play the split, `repeats` times a task and temperature; returns and writes the results."""
    from agents.models.sources import in_words
    from agents.rollout.build import fresh_policy, open_sampler
    from agents.runs.failures import Interrupted

    e = config.evaluation
    e = replace(e, repeats=e.repeats or REPEATS) if e.beams is None else replace(e, repeats=1, temperature=e.temperature[:1])
    config = replace(config, evaluation=e)  # a search finds the same answers each time, at any temperature
    place = Path(config.out or config.run or config_out(config)).absolute()  # wherever an environment changes to
    preflight(config)
    against = _earlier(config)  # refused before a model is loaded
    policy, restored = restore(config) if config.run else (fresh_policy(config), None)
    saved = restored and which(restored)
    engine, searched = _searching(config, policy, restored)
    sampler = open_sampler(config, policy, engine)
    if saved:
        console.print(printable(f"checkpoint: {config.run}, iteration {saved['iteration']}"), soft_wrap=True, markup=False)
    console.print(f"weights: {in_words(policy, config.model)}", soft_wrap=True)
    if sampler.player.dialogue.summary:
        console.print(f"dialogue: {sampler.player.dialogue.summary}", soft_wrap=True, markup=False)
    if searched:
        console.print(f"answers: {searched}", soft_wrap=True, markup=False)
    try:
        return asyncio.run(_evaluate(config, place, against, sampler, policy.tokenizer, saved, searched, console))
    except KeyboardInterrupt as raised:
        raise Interrupted("stopped; the episodes that have ended are kept, and the same command goes on with them") from raised
    finally:
        sampler.close()


async def _evaluate(
    config: EvaluateConfig,
    place: Path,
    against: Earlier | None,
    sampler: Sampler,
    tokenizer: Any,
    saved: dict[str, Any] | None,
    searched: str | None,
    console: Console,
) -> dict[str, Any]:
    from rich.progress import Progress

    from agents.rollout.build import make_env
    from agents.rollout.planner import evaluation_episodes
    from agents.runs.evaluation import attempts, by_type, pass_at, rate, spread
    from agents.runs.metrics import finite
    from agents.runs.random_policy import random_policy
    from agents.runs.signals import Signals
    from envs.trajectory import Trajectory
    from envs.trajectory_file import append, read, repair

    e, env = config.evaluation, make_env(config)
    episodes = evaluation_episodes(e, env, config.seed)
    split_hash = env.split_hash(e.split)
    identity = _identity(config, split_hash, saved)[:12]
    out = place if config.out else place / f"evaluation-{e.split}-{identity}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    # An `out` of the user's is one file for whatever is evaluated; episodes may only be joined with their like.
    episodes_file = out.with_name(f"{out.stem}-{identity}.episodes.jsonl" if config.out else f"{out.stem}.episodes.jsonl")
    done: dict[str, Trajectory] = {}
    if episodes_file.exists():
        repair(episodes_file)  # a kill may have cut its last line off
        done = {t.group_id: t for t in read(episodes_file) if t.error is None}  # faults are played again
        console.print(printable(f"going on with {len(done)} episodes of {episodes_file}"), soft_wrap=True, markup=False)
    results: dict[str, Any] = {
        "split": e.split,
        "split_hash": split_hash,
        "tasks": len(env.tasks(e.split)[: e.episodes]),
        "repeats": e.repeats,
        "run": config.run,
        "checkpoint": saved,
        "model": shown(config.model.name),
        "environment": env.name,
        "searched": searched,
        "temperatures": {},
        "random": {},
        "warnings": [],
    }

    def warn(message: str) -> None:
        results["warnings"].append(message)
        console.print(f"warning: {message}", style="yellow", soft_wrap=True, markup=False)

    signals, sampler.faults.say = Signals(config, tokenizer, warn), warn
    with Progress(console=console, transient=True) as progress:
        for temperature in e.temperature:
            planned = [replace(one, group_id=f"{one.group_id}@{temperature:g}") for one in episodes]
            names = [one.group_id for one in planned]
            missing = [one for one in planned if one.group_id not in done]
            bar = progress.add_task(f"temperature {temperature:g}", total=len(names), completed=len(names) - len(missing))

            def ended(trajectory: Trajectory, bar: Any = bar) -> None:
                append(episodes_file, [trajectory])
                done[trajectory.group_id] = trajectory
                progress.advance(bar)

            await sampler.play(missing, temperature, ended)
            played = [done[name] for name in names]
            by_seed = [played[at : at + results["tasks"]] for at in range(0, len(played), results["tasks"])]
            outcomes = {task: [int(success) for success in tried] for task, tried in attempts(played).items()}
            kinds = {**by_type(played, env.task_type), "all": rate(played)}
            results["temperatures"][f"{temperature:g}"] = {
                "types": {kind: _numbers(r) for kind, r in kinds.items()},
                "spread": asdict(spread(by_seed)),
                "answers": finite(signals.measure([one for one in played if one.error is None])),
                "pass@k": {str(k): pass_at(played, k) for k in range(1, len(by_seed) + 1)},
                "attempts": {"fewest": min(map(len, outcomes.values()), default=0)},
                "outcomes": outcomes,
            }
            if against:
                results["temperatures"][f"{temperature:g}"]["against"] = against.compared(f"{temperature:g}", outcomes)
            signals.look(played, f"the evaluation at temperature {temperature:g}")
        floor = await random_policy(sampler, episodes)
        results["random"] = {"skipped": floor.skipped} if floor.rate is None else _numbers(floor.rate)
    disk.write(out, json.dumps(results, indent=1, allow_nan=False).encode())
    show(results, console)
    console.print(printable(f"written: {out} (episodes: {episodes_file})"), soft_wrap=True, markup=False)
    return results


def _earlier(config: EvaluateConfig) -> Earlier | None:
    """The evaluation that this one is compared with, if there is one. Raises ConfigError."""
    from agents.rollout.build import make_env
    from agents.runs.paired import Earlier

    if config.against is None:
        return None
    env, e = make_env(config), config.evaluation
    like = {"environment": env.name, "split": e.split, "split_hash": env.split_hash(e.split)}
    return Earlier.read(Path(config.against), like, [f"{temperature:g}" for temperature in e.temperature])


def _numbers(of: Rate) -> dict[str, Any]:
    """A rate as JSON holds it: null where there is no number."""
    from agents.runs.metrics import finite

    means = finite({"score": of.score, "steps": of.steps, "success": of.success})
    return {**asdict(of), **means, "interval95": of.interval}


def show(results: dict[str, Any], console: Console) -> None:
    """The results as a table a temperature."""
    for temperature, found in results["temperatures"].items():
        how = f"answers {results['searched']}" if results.get("searched") else f"temperature {temperature}"
        title = f"{results['environment']}, split {results['split']}, {how}"
        outgrown = any(r.get("cut_off", {}).get(CONTEXT) for r in found["types"].values())
        # Without a frame the longest task types of the environments here stand on one line of 80 columns.
        table = Table(title=Text(title), box=box.SIMPLE, show_edge=False, padding=0)
        table.add_column("type", overflow="fold")
        faults = not outgrown or any(r["faults"] for r in found["types"].values())
        columns = ["success", "95% interval", "episodes", *["too\nlong"] * outgrown, *["faults"] * faults, "score", "steps"]
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        for kind, r in found["types"].items():
            if kind == "all":
                table.add_section()
            table.add_row(Text(printable(kind)), *_cells(r, outgrown, faults))
        if "episodes" in (floor := results.get("random", {})):
            table.add_section()
            table.add_row("random actions", *_cells(floor, outgrown, faults))
        console.print(table)
        for line in _beside(found, results):
            console.print(line, soft_wrap=True, markup=False)


def _cells(r: dict[str, Any], outgrown: bool, faults: bool) -> list[str]:
    """A rate's row; with the episodes that outgrew the context, and with faults, where the table has such columns."""
    low, high = r["interval95"]
    success, score = ("-" if r[name] is None else f"{r[name]:.3f}" for name in ("success", "score"))
    steps = "-" if r["steps"] is None else f"{r['steps']:.1f}"
    counts = [str(r.get("cut_off", {}).get(CONTEXT, 0))] * outgrown + [str(r["faults"])] * faults
    return [success, f"{low:.3f} - {high:.3f}", str(r["episodes"]), *counts, score, steps]


def _beside(found: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """What is to be known beside a table."""
    whole, lines = found["types"]["all"], []
    if cut_off := {reason: number for reason, number in whole.get("cut_off", {}).items() if number}:
        words = {CONTEXT: "too long for the context", "time_limit": "out of time"}
        counts = ", ".join(f"{number} {words.get(reason, reason)}" for reason, number in sorted(cut_off.items()))
        lines.append(f"of the {whole['episodes']} episodes were cut off, and are lost: {counts}")
    if whole["faults"]:
        lines.append(
            f"faults: {whole['faults']} episodes were cut off by a crash or a hang and are in no rate; the same command plays "
            "them again"
        )
    if skipped := results.get("random", {}).get("skipped"):
        lines.append(f"random actions: not measured, {skipped}")
    if results["repeats"] > 1:
        known = [f"pass@{k} {p:.3f}" for k, p in found["pass@k"].items() if p is not None]
        unknown = [f"pass@{k}" for k, p in found["pass@k"].items() if p is None]
        if unknown:
            fewest = found["attempts"]["fewest"]
            known.append(f"{', '.join(unknown)} not known: a task has only {fewest} episodes without a fault")
        lines.append("  ".join(known))
        lines.append(_spread(found["spread"]))
    if against := found.get("against"):
        lines.append(
            f"against {against['file']}: {against['first']:.3f} and {against['second']:.3f} on {against['tasks']} tasks, a "
            f"difference of {against['difference']:+.3f} (95% interval {against['low']:+.3f} to {against['high']:+.3f}), "
            f"p = {against['p']:.2g} (exact sign-flip test, task by task)"
        )
    return lines


def _spread(of: dict[str, Any]) -> str:
    """How much a success rate depends on chance, in words."""
    rates = ", ".join("-" if rate is None else f"{rate:.3f}" for rate in of["by_seed"])
    moves = {"other sampling seeds": of["of_seeds"], "other tasks": of["of_tasks"]}
    known = " and ".join(f"{moved:.3f} with {cause}" for cause, moved in moves.items() if moved is not None)
    return f"by sampling seed: {rates}" + (f"; one of these moves by {known} (standard deviation)" if known else "")


def _searching(
    config: EvaluateConfig, policy: Policy, restored: Checkpoint | None
) -> tuple[BeamEngine, str] | tuple[None, None]:
    """The engine that searches answers, and in words how, if they are to be searched. Raises CheckpointError."""
    if config.evaluation.beams is None or restored is None:
        return None, None
    from agents.training.searching import searching

    engine, name = searching(config, policy, restored)
    number, score = config.evaluation.beams, config.evaluation.beam_score
    return engine, f"searched with {number} beam{'s' * (number > 1)} by the {score} of shaping {name}"


def which(saved: Checkpoint) -> dict[str, Any]:
    """Which checkpoint it is: its iteration, and the SHA-256 of its manifest."""
    return {"iteration": saved.iteration, "sha256": saved.digest}


def restore(config: EvaluateConfig) -> tuple[Policy, Checkpoint]:
    """The policy of a run's checkpoint, and the checkpoint.

    Its vocabulary is that of the environment it was trained on. Raises CheckpointError, with the checkpoints that exist.
    """
    from agents.config.compose import read_saved
    from agents.config.overrides import assignment
    from agents.rollout.build import fresh_policy
    from agents.runs import checkpoint

    run = Path(config.run or "")
    saved = checkpoint.of_run(run, config.checkpoint)
    given: Any = OmegaConf.create(unresolved(to_dict(config)))
    hidden = [name for name in masks(read_saved(run / "config.yaml")) if OmegaConf.select(given, name) is not None]
    again = [assignment(name, str(OmegaConf.select(given, name))) for name in hidden]
    policy = fresh_policy(load_evaluate([assignment("run", run), f"device={config.device}", *again]))
    policy.model.load_state_dict(saved.tensors)
    return policy, saved


def config_out(config: EvaluateConfig) -> Path:
    """Where the results of a model without a run go."""
    return Path("runs") / "evaluations" / f"{config.env.name}-{config.model.name.replace('/', '--')}"


def _identity(config: EvaluateConfig, split_hash: str, saved: dict[str, Any] | None) -> str:
    """What makes two evaluations the same: their episodes may then be joined."""
    about = {k: v for k, v in asdict(config).items() if k not in ("against", "out", "device", "threads")}
    about["checkpoint"] = saved["sha256"] if saved else ""
    folder = Path(zoo.place(config.model.name))
    if not config.run and folder.is_dir():
        about["files"] = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir())
    return hashlib.sha256(json.dumps([about, split_hash], sort_keys=True, default=str).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
