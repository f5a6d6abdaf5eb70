"""A process reward model that is fitted to what branches say of steps (after GroundedPRM, arXiv 2510.14942).

Where a method has continuations played from before and after a step, they say what the step changed; a step that the
environment's rules call wrong is worth less than that, since continuations may mend it. The model learns these labels, and says
every step's reward. The model itself is left to the trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from algorithms.base import Algorithm, Batch, Floats
from algorithms.shaping import StepModel
from algorithms.shaping.critique import wrong_by_rules
from algorithms.shaping.step_estimator import StepEstimator
from envs.common.structured import NonNegative


@dataclass
class GroundedPRM(StepEstimator):
    """What a step changed, as a model learns it from the steps that branches measured."""

    penalty: NonNegative = 1.0
    """Taken off the label of a step whose action was refused, or that led back; in units of the environment's reward."""
    reads_branches: ClassVar[bool] = True

    def check(self, method: Algorithm) -> None:
        """Raises ValueError for a method that has no branches played from before steps."""
        if "state_values" not in method.needs:
            raise ValueError(
                "penalty and the rest mean nothing with a method that plays no branches, of which the model learns; allowed "
                "with it: algo=grounded_prm, or algo=vineppo with algo.shaped_at.grounded_prm=advantage"
            )

    async def shape(self, batch: Batch) -> Floats:
        """[S] the model's number for each step, after it was fitted. Faulted episodes take no part.

        metrics: share of steps that were measured, and that the rules call wrong; mean squared error of the model before it was
        fitted, which has not seen these steps.
        """
        if self.model is None:
            raise ValueError("shaping grounded_prm has no model; the trainer sets it before the first iteration")
        model: StepModel = self.model
        label = self.labels(batch)
        known = ~np.isnan(label)
        measured = max(1, int(known.sum()))

        def gradient(numbers: Floats) -> Floats:
            return np.where(known, 2 * (numbers - np.nan_to_num(label)) / measured, 0.0)

        before, after, self.metrics = model.fit(batch, gradient, self.epochs)
        self.metrics["measured"] = float(known.sum() / max(1, int(batch.included.sum())))
        self.metrics["loss"] = float(((before - label)[known] ** 2).mean()) if known.any() else 0.0
        return np.where(batch.included, after, np.nan)

    def labels(self, batch: Batch) -> Floats:
        """[S] r + gamma V(after) - V(before), less the penalty where the rules call the step wrong; nan if not measured."""
        if batch.state_values is None:
            raise ValueError(
                "shaping grounded_prm needs batch.state_values, the mean return of continuations from before steps"
            )
        last = np.append(np.diff(batch.episode) != 0, True)[: len(batch.episode)]
        after = np.where(last, 0.0, np.append(batch.state_values[1:], 0.0)[: len(batch.episode)])
        wrong = np.concatenate([np.zeros(0, dtype=bool), *(wrong_by_rules(one) for one in batch.trajectories)])
        found: Floats = batch.reward + self.discount * after - batch.state_values - self.penalty * wrong
        return np.where(batch.included, found, np.nan)
