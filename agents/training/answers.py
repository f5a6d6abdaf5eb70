"""What the policy thinks of a task's true answer from step to step: its log-probability, teacher-forced in place of an action.

What the answer is the environment says, how it is given the dialogue; what follows from it is left to the method (igpo).
"""

from __future__ import annotations

import numpy as np
import torch

from agents.models.policy import Policy
from agents.models.temperature import Temperature
from agents.training.experience import Experience
from agents.training.packing import Row, answering
from agents.training.passes import logprobs, passes
from algorithms.base import Floats


@torch.no_grad()
def answer_logprobs(experience: Experience, model: Policy, tokens_per_microbatch: int, temperature: Temperature) -> Floats:
    """[S] mean log-probability of the answer's tokens before each step; nan where no answer is known.

    Among all tokens, also where sampling was constrained. Raises ValueError if nobody said what the answers are.
    """
    if experience.true_answers is None:
        raise ValueError("the experience has no true_answers: whoever gathers it asks the environment and the dialogue")
    rows: list[Row] = []
    lengths: list[int] = []  # [S] tokens of the answer
    for trajectory, (lead, answer) in zip(experience.trajectories, experience.true_answers, strict=True):
        if answer:
            rows += answering(trajectory, sum(lengths), lead, answer)
        lengths += [len(answer)] * len(trajectory.steps)
    count = np.array(lengths, dtype=np.int64)
    found = torch.zeros(int(count.sum()), dtype=torch.float64)
    for batch in passes(experience, rows, model, tokens_per_microbatch, forced=True):
        found[batch.tokens] = logprobs(model, batch, temperature)[0].double().cpu()
    total = np.bincount(np.repeat(np.arange(len(count)), count), found.numpy(), len(count))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
