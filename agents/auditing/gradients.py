"""How far a method's policy gradient points where the true one does: sum over sampled tokens of credit times grad log pi.

The same episodes, tokens and probabilities; only the credit differs. Gradients are kept as random projections, an episode each,
so that they can be compared for models of any size, and resampled. Of a loss nothing else is in them: no clip, entropy or KL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.auditing.measures import Estimate, estimate
from agents.models.policy import Policy
from agents.training.experience import Experience
from agents.training.passes import logprobs, passes
from algorithms.base import Floats

SIZE = 1 << 15
"""Of a projection: inner products of gradients are kept up to about 1/sqrt(SIZE) of their lengths, 0.006."""


@dataclass(eq=False)
class Projection:
    """A fixed random map of a policy's gradient to SIZE numbers: each weight's entry is added to or taken off one of them."""

    parameters: list[torch.nn.Parameter]
    places: list[Tensor]
    signs: list[Tensor]

    @classmethod
    def of(cls, policy: Policy, seed: int) -> Projection:
        generator = torch.Generator().manual_seed(seed)
        parameters = [p for _, p in policy.trainable()]
        places = [torch.randint(SIZE, (p.numel(),), generator=generator, dtype=torch.int32) for p in parameters]
        signs = [torch.randint(2, (p.numel(),), generator=generator, dtype=torch.int8) * 2 - 1 for p in parameters]
        return cls(parameters, [x.to(policy.device) for x in places], [x.to(policy.device) for x in signs])

    def __call__(self, gradients: tuple[Tensor | None, ...]) -> Tensor:
        """[SIZE] float32 on the CPU."""
        total = torch.zeros(SIZE, device=self.places[0].device)
        for gradient, place, sign in zip(gradients, self.places, self.signs, strict=True):
            if gradient is not None:
                total.index_add_(0, place.long(), gradient.detach().reshape(-1).float() * sign)
        return total.cpu()


def projected(
    policy: Policy,
    experience: Experience,
    credits: Mapping[str, Floats],
    temperature: float,
    tokens_per_microbatch: int,
    seed: int,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, NDArray[np.float32]]:
    """[N, SIZE] for each of `credits` [T] by name: the gradient of each episode, projected. Tokens without credit have 0."""
    project, count = Projection.of(policy, seed), len(experience.trajectories)
    values = {name: torch.from_numpy(credit).float() for name, credit in credits.items()}
    found = {name: np.zeros((count, SIZE), dtype=np.float32) for name in credits}
    with policy.training():
        for episode in range(count):
            for batch in passes(experience, experience.rows([episode]), policy, tokens_per_microbatch):
                logp = logprobs(policy, batch, temperature)[0]
                asked = [name for name, value in values.items() if bool(value[batch.tokens].any())]
                for name in asked:
                    weight = values[name][batch.tokens].to(logp.device)
                    again = name != asked[-1]
                    gradient = torch.autograd.grad(logp, project.parameters, weight, retain_graph=again, allow_unused=True)
                    found[name][episode] += project(gradient).numpy()
            told(episode + 1, count)
    return found


def cosines(
    method: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32], share: float, weights: Floats
) -> dict[str, Estimate]:
    """The cosine of a method's gradient and the true one, as it is and freed of the truth's error.

    first, second: [N, SIZE] gradients with the true advantages of each round of continuations, whose errors are uncorrelated,
    so that their inner product is that of the true gradient with itself; share: the first one's weight. weights: [B, N] of
    the episodes, those as they were played first.
    """

    def product(x: NDArray[np.float32], y: NDArray[np.float32]) -> Floats:
        """[B] inner product of two sums over episodes."""
        return ((weights @ (x @ y.T).astype(np.float64)) * weights).sum(axis=1)

    truth = share * first + (1 - share) * second
    along, size = product(method, truth), product(method, method)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = {"cosine": product(truth, truth), "cosine_corrected": product(first, second)}
        return {
            name: estimate(along / np.sqrt(np.where((size > 0) & (square > 0), size * square, np.nan)))
            for name, square in squares.items()
        }
