"""Metrics that show whether a run is healthy, and from which value on one of them is worth a look; docs/reading-a-run.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.reporting.reading import Run

PATIENCE = 3
"""Iterations at the end whose values are looked at together: a single one may be chance."""


@dataclass(frozen=True)
class Signal:
    """A metric to look at."""

    metric: str
    meaning: str
    healthy: str
    odd: Callable[[Sequence[float]], bool] = lambda values: False
    """Whether these values, of a run so far, ask for a look."""


@dataclass(frozen=True)
class Seen:
    """A signal of a run."""

    signal: Signal
    points: list[tuple[float, float]]
    """(iteration, value)."""

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.points]

    @property
    def odd(self) -> bool:
        return self.signal.odd(self.values)


def _lately(condition: Callable[[float], bool]) -> Callable[[Sequence[float]], bool]:
    """In each of the last iterations."""
    return lambda values: len(values) >= PATIENCE and all(map(condition, values[-PATIENCE:]))


def _ever(values: Sequence[float]) -> bool:
    return any(value > 0 for value in values)


SIGNALS = (
    Signal("update/grad_norm", "norm of the gradient before clipping", "steady, not 0", _lately(lambda x: x == 0)),
    Signal("update/entropy", "entropy of a sampled choice, nats", "falls slowly, not to 0", _lately(lambda x: x < 1e-3)),
    Signal("update/kl_to_sampler", "distance from the policy that sampled", "small, without jumps"),
    Signal("update/clip_fraction", "tokens whose ratio was clipped", "below 0.2", _lately(lambda x: x > 0.2)),
    Signal("update/kl_to_reference", "distance from the policy at the start of RL", "grows slowly"),
    Signal("update/mismatch_max", "log-probabilities: sampling against training, largest difference", "steady"),
    Signal("update/effective_share", "effective share of the samples", "above 0.5", _lately(lambda x: x < 0.5)),
    Signal("update/stale_max", "age of the oldest sampled token, in versions of the weights", "at most rollout.overlap"),
    Signal("update/skipped_steps", "optimizer steps left out: infinite gradient", "0", _ever),
    Signal("train/alike", "groups whose episodes all have the same return", "below 1", _lately(lambda x: x == 1)),
    Signal("credit/zero_episodes", "episodes without any credit", "below 1", _lately(lambda x: x == 1)),
    Signal("credit/lone_steps", "steps that are alone in their group", "not near 1", _lately(lambda x: x > 0.95)),
    Signal(
        "critic/explained", "share of the returns' variance that the critic explains", "rises from 0", _lately(lambda x: x < 0)
    ),
    Signal("progress/explained", "the same, of the progress estimator", "rises from 0", _lately(lambda x: x < 0)),
    Signal("implicit_prm/accuracy", "pairs that the reward model orders correctly", "above 0.5", _lately(lambda x: x < 0.5)),
    Signal("calm/failed", "questions to the judge that failed", "0", _ever),
    Signal("train/valid", "actions that the environment accepted", "near 1, or rising", _lately(lambda x: x < 0.5)),
    Signal("train/cut_answers", "answers cut off at engine.max_tokens", "near 0", _lately(lambda x: x > 0.2)),
    Signal("train/cut_off/context", "episodes that outgrew the context", "0", _lately(lambda x: x > 0)),
    Signal("train/faults", "episodes that a fault cut off", "0", _lately(lambda x: x > 0)),
    Signal("env/set_aside", "tasks that are played no more, because they failed again and again", "0", _ever),
    Signal("engine/restarts", "times that the engine was started anew", "0", _ever),
)


def seen(run: Run) -> list[Seen]:
    """The signals that a run has numbers for."""
    return [Seen(signal, points) for signal in SIGNALS if (points := run.points(signal.metric))]
