"""The audited episodes with a method's credit and the truth beside it, written as a run's folder is, and as a page.

So `python -m agents.replay <folder>` shows them; nothing of the page is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.auditing.methods import Credited
from agents.auditing.truth import Truth
from agents.auditing.valuing import Valued
from agents.config import loading
from agents.config.commands import TrainConfig
from agents.models.policy import Policy
from agents.replay import page, reading
from agents.runs.folder import RunFolder
from envs.common import disk
from envs.trajectory import Step

PAGE = Path("replay") / "iteration_000001.html"
"""Of a method, in its folder."""


def write(folder: Path, training: TrainConfig, policy: Policy, found: Valued, credited: Credited) -> None:
    """Write the folder of a method, and its page."""
    run = RunFolder(folder)
    (folder / PAGE).parent.mkdir(parents=True, exist_ok=True)
    disk.write(run.config, loading.to_yaml(training).encode())
    policy.tokenizer.save_pretrained(run.tokenizer)
    note([step for trajectory in credited.trajectories for step in trajectory.steps], found)
    run.write_trajectories(1, credited.trajectories)
    if credited.branches:
        run.write_branches(1, credited.branches)
    disk.write(folder / PAGE, page.document(reading.read(folder), None).encode())


def note(steps: Sequence[Step], found: Valued) -> None:
    """Write what is true of each step into it."""
    truth = found.steps
    for number in np.flatnonzero(truth.known).tolist():
        steps[number].truth = {
            "advantage": float(truth.advantage[number]),
            "error": float(truth.error[number]),
            "value": float(truth.value[number]),
            "value_error": float(truth.value_error[number]),
        }
    if found.tokens is not None:
        _note_tokens(steps, truth, found.tokens)


def _note_tokens(steps: Sequence[Step], of_steps: Truth, tokens: Truth) -> None:
    """Write the truth of choices within a response at the first token of each; None elsewhere."""
    for number in np.flatnonzero(tokens.known).tolist():
        at = int(tokens.decisions.step[number])
        step, first = steps[at], int(tokens.decisions.tokens[number, 0] - of_steps.decisions.tokens[at, 0])
        if step.truth is None:
            step.truth = {}
        lists: dict[str, list[Any]] = {name: [None] * len(step.response_ids) for name in ("tokens", "token_errors")}
        for name, value in (("tokens", tokens.advantage), ("token_errors", tokens.error)):
            step.truth.setdefault(name, lists[name])[first] = float(value[number])
