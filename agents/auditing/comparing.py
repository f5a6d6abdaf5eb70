"""The second half of an audit: the credit of methods against the truth, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from agents.auditing import again
from agents.auditing.gradients import cosines, projected
from agents.auditing.measures import Estimate, Measured, measure, of_tokens, reliability, resampled
from agents.auditing.methods import TOTAL, Credited, Made, copies, gathered
from agents.auditing.playing import Told
from agents.auditing.truth import Truth
from agents.auditing.valuing import Valued
from agents.config.commands import AuditConfig, TrainConfig
from agents.models.policy import Policy
from agents.rollout.sampler import Sampler
from agents.runs.metrics import finite
from algorithms.base import Bools, Floats
from algorithms.branching import BRANCHED
from envs.base import TextEnv
from envs.common.seeding import derive
from envs.trajectory import Trajectory


@dataclass(eq=False)
class Compared:
    """A method against the truth."""

    steps: Measured
    tokens: Measured | None
    """Over the choices within steps, where their truth was measured."""
    parts: dict[str, Measured]
    """Of each part of the credit alone, over steps, where it has several."""
    again: dict[str, Estimate] | None = None
    """Bias and deviation; None where the method learns rewards from the very episodes that it credits, where each future would
    have to be branched, or nobody asked."""
    cosine: dict[str, Estimate] | None = None
    """Of its policy gradient with the true one; None where nobody asked."""


def compare(config: AuditConfig, found: Valued, credited: Credited) -> Compared:
    """Credit against truth, decision by decision."""

    def against(truth: Truth, name: str) -> Measured:
        credit, defined = on(truth, credited, name, found.chosen)
        return measure(truth, credit, defined, found.groups, config.resamples, config.seed)

    parts = [name for name, values in credited.values.items() if name != TOTAL and np.nan_to_num(values).any()]
    return Compared(
        steps=against(found.steps, TOTAL),
        tokens=None if found.tokens is None else against(found.tokens, TOTAL),
        parts={name: against(found.steps, name) for name in parts} if len(parts) > 1 else {},
    )


def on(truth: Truth, credited: Credited, name: str, chosen: Bools) -> tuple[Floats, Bools]:
    """Credit [D] of the truth's decisions, and whether they have any. chosen: [T]."""
    values, defined = np.nan_to_num(credited.values[name]), np.isfinite(credited.values[name])
    if credited.level == "step":
        steps = truth.decisions.step
        return values[steps], defined[steps]
    return of_tokens(values, defined & chosen, truth.decisions.tokens)


async def under_other_futures(
    config: AuditConfig,
    training: TrainConfig,
    found: Valued,
    method: Made,
    greedy: Sequence[Trajectory],
    sampler: Sampler,
    env: TextEnv,
) -> dict[str, Estimate] | None:
    """Bias and deviation of a method's credit; None where its models would have to learn anew in each future, or branches would
    have to be played anew: with those of another future its credit would lack their chance."""
    made, audited = method.credit, len(found.trajectories)
    learns = any(one.learns or one.asks for one in made.shapings.values())
    if not len(found.again) or learns or made.method.needs & BRANCHED:
        return None
    others: list[Trajectory] = []
    numbers: list[list[int]] = []
    for place, futures in zip(found.again.tolist(), found.futures, strict=True):
        episode = int(found.steps.decisions.episode[place])
        itself = futures == [found.trajectories[episode]]
        numbers.append([episode] if itself else list(range(audited + len(others), audited + len(others) + len(futures))))
        others += [] if itself else futures
    experience = gathered([*copies([*found.trajectories, *others]), *greedy], training, sampler, env, made.method.reads)
    for name in made.shapings:
        await made.shape(name, experience)
    await made.observe(experience)
    chosen = experience.chosen.numpy()
    credits = again.credited_again(made.method, experience, audited, chosen, found.again, numbers, config.gamma)
    return again.measure(credits, found.steps, _drawn(config, found))


def of_gradients(
    config: AuditConfig,
    training: TrainConfig,
    found: Valued,
    credits: Mapping[str, Credited],
    policy: Policy,
    sampler: Sampler,
    env: TextEnv,
    told: Told,
) -> dict[str, dict[str, Estimate]]:
    """For each method the cosine of its policy gradient with the true one. training: any of the audit's; all play alike."""
    experience = gathered(found.trajectories, training, sampler, env)
    truth = found.steps
    sizes = np.diff(truth.decisions.tokens, axis=1)[:, 0]
    known = np.repeat(truth.known, sizes)
    columns = {name: np.nan_to_num(one.values[TOTAL]) for name, one in credits.items()}
    columns = {name: np.repeat(c, sizes) if credits[name].level == "step" else c for name, c in columns.items()}
    columns |= {f"round {number}": np.repeat(one, sizes) for number, one in enumerate(truth.rounds)}
    columns = {name: np.where(known, column, 0.0) for name, column in columns.items()}
    optim, temperature = config.optim, config.engine.temperature
    seed = derive(config.seed, "audit", "projection")
    vectors = projected(policy, experience, columns, temperature, optim.tokens_per_microbatch, seed, told)
    weights = _drawn(config, found)
    rounds = vectors["round 0"], vectors["round 1"]
    return {name: cosines(vectors[name], *rounds, truth.values.share, weights) for name in credits}


def _drawn(config: AuditConfig, found: Valued) -> Floats:
    """Weights of all episodes in the resamples."""
    return resampled(found.groups, np.ones(len(found.groups), dtype=bool), config.resamples, config.seed)


def of_truth(found: Valued) -> dict[str, Any]:
    """What is known of the truth itself."""

    def told(truth: Truth) -> dict[str, float | None]:
        over_all, within = reliability(truth, len(found.trajectories))
        known = truth.known
        size = np.sqrt(max(0.0, float((truth.advantage**2 - truth.variance)[known].mean()))) if known.any() else np.nan
        return finite(
            {
                "decisions": float(known.sum()),
                "unknown": float((~known).sum()),
                "reliability": over_all,
                "reliability_within": within,
                "size": float(size),
                "error": float(np.sqrt((truth.error[known] ** 2).mean())) if known.any() else np.nan,
            }
        )

    counts = found.steps.values.counts.sum(axis=0)
    return {
        "states": found.states,
        "continuations": int(counts.sum()),
        "fewest": int(counts.min()),
        "most": int(counts.max()),
        "steps": told(found.steps),
        "tokens": None if found.tokens is None else told(found.tokens),
    }


def as_plain(value: Any) -> Any:
    """Numbers in dataclasses as JSON holds them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: as_plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: as_plain(one) for name, one in value.items()}
    return [as_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
