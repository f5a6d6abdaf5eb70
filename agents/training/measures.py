"""What is measured of an iteration's episodes and of evaluations, as metrics by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from agents.rollout.collect import Collected, returns_alike
from agents.rollout.planner import Episode
from agents.rollout.sampler import Sampler
from agents.runs.evaluation import Rate, by_type, mean, rate
from agents.runs.random_policy import random_policy
from agents.runs.signals import Signals
from agents.training.packing import rebuild_tokens
from envs.base import TextEnv
from envs.trajectory import CONTEXT


def of_rollout(played: Collected, signals: Signals, tokens: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Of an iteration's episodes. tokens: of the engine's `stats.take`."""
    summary = rate(played.sampled)
    ended = [t for t in played.sampled if t.error is None]
    metrics = {
        "train/success": summary.success,
        "train/score": summary.score,
        "train/reward": mean(t.total_reward for t in ended),
        "train/steps": summary.steps,
        **{f"train/{name}": value for name, value in signals.measure(ended).items()},
        **_apart(summary, "train/{}"),
        "train/retried": float(sum(t.attempt for t in played.all)),
        "train/dropped": float(sum(map(len, played.dropped))),
        "train/too_old": float(played.late),
        "tokens_per_s": tokens["sampled"] / max(seconds, 1e-9),
        "tokens/prefill": float(tokens["prefill"]),
        "tokens/sampled": float(tokens["sampled"]),
        "tokens/rollout": float(tokens["computed"]),
        "tokens/reused": float(tokens["reused"]),
        "engine/restarts": float(tokens["restarts"]),
        "tokens/rebuild_rollout": float(rebuild_tokens(played.all)),
    }
    groups = [*played.groups, *played.dropped]
    if max(map(len, groups)) > 1:
        metrics["train/alike"] = mean(map(returns_alike, groups))
    budgets = [float(t.turn_budget or t.token_budget or 0) for t in ended]
    if any(budgets):
        metrics["train/budget"] = mean(budgets)
    if played.greedy:
        metrics["train/greedy_faults"] = float(rate(played.greedy).faults)
    return metrics


def of_branches(played: Collected, took: Mapping[str, int]) -> dict[str, float]:
    """Of what was branched from an iteration's episodes, none of which is in a rate of theirs. took: of `branched.take`."""
    counts = {f"branch/{name}": float(value) for name, value in took.items()}
    leaves = {} if played.grown is None else {"branch/leaves": float(len(played.learned))}
    return {**counts, **leaves, "branch/success": rate(played.branched).success}


async def of_evaluation(
    sampler: Sampler, episodes: Sequence[Episode], temperatures: Sequence[float], env: TextEnv, signals: Signals, when: str
) -> dict[str, float]:
    """Success in the episodes of an evaluation at each temperature. when: in words, for warnings."""
    metrics: dict[str, float] = {}
    started = time.perf_counter()
    for temperature in temperatures:
        played = await sampler.play(episodes, temperature)
        at = f"@{temperature:g}"
        # The totals come last: a task type may have the name of one.
        for kind, result in by_type(played, env.task_type).items():
            metrics[f"eval/{kind}{at}"] = result.success
        metrics |= {f"eval/success{at}": rate(played).success, **_apart(rate(played), f"eval/{{}}{at}")}
        signals.look(played, f"the evaluation {when}, temperature {temperature:g},")
    metrics["time/evaluation"] = time.perf_counter() - started
    return metrics


async def of_random_actions(sampler: Sampler, episodes: Sequence[Episode], say: Callable[[str], None]) -> dict[str, float]:
    """What random actions reach in the episodes of an evaluation; {} where that is not measured, which is said."""
    found = await random_policy(sampler, episodes)
    if found.rate is None:
        say(f"success of random actions is not measured: {found.skipped}")
        return {}
    return {
        "eval/random_success": found.rate.success,
        "eval/random_score": found.rate.score,
        "eval/random_faults": float(found.rate.faults),
        "time/random": found.seconds,
    }


def _apart(of: Rate, name: str) -> dict[str, float]:
    """Counts of episodes that were cut off, by reason, and of faults, which are in no rate."""
    cut_off = {CONTEXT: 0, "time_limit": 0, **of.cut_off}
    return {name.format("faults"): float(of.faults)} | {
        name.format(f"cut_off/{reason}"): float(number) for reason, number in cut_off.items()
    }
