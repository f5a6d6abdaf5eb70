"""A language model as it is to be read: one policy may speak with its adapter or without it, or with a frozen one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from agents.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Voice:
    """A language model, and within what it is read."""

    policy: Policy
    within: Callable[[], AbstractContextManager[None]] = nullcontext
