"""What ranks do in a training: rank 0 is the run, and the others do their part of what it does with the learner's models."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from agents.config.commands import TrainConfig
from agents.models import ranks
from agents.models.sources import choose_device
from agents.rollout.build import fresh_policy
from agents.training.learner import Learner


@contextmanager
def joined(config: TrainConfig) -> Iterator[None]:
    """Within: this process is one of the ranks."""
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    ranks.join(device, config.launcher.timeout_s)
    yield  # after an error nobody is told anything: the others may wait in the middle of an update, and lose the connection
    ranks.release()
    ranks.leave()


def follow(config: TrainConfig) -> None:
    """Do the part of a rank that is not 0, to the end of the training."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # rank 0 hears it, saves, and lets go of the others
    policy = fresh_policy(config)
    ranks.alike(policy.model)
    ranks.follow({"learner": Learner(policy, config), "policy": policy})
