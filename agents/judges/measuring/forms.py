"""The forms in which a judge is measured: what it reads of a state, whether it sees actions, whose subgoals it looks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from agents.config.commands import JudgeRunConfig
from agents.config.judge import check_judge
from agents.config.sections import JudgeConfig


@dataclass(frozen=True, slots=True)
class Form:
    """One way to put the question."""

    map: str | None
    """env.map for what the judge reads; None: as the environment is configured."""
    actions: bool
    subgoals: Literal["preset", "proposed"]

    def __str__(self) -> str:
        shown = [f"{self.map} map"] if self.map is not None else []
        return ", ".join([*shown, f"{'with' if self.actions else 'without'} actions", f"{self.subgoals} subgoals"])

    def judge(self, config: JudgeConfig) -> JudgeConfig:
        """The judge that asks in this form."""
        file = config.file if self.subgoals == "proposed" else None
        return replace(config, actions=self.actions, subgoals=self.subgoals, file=file)


def forms(config: JudgeRunConfig) -> list[Form]:
    """All forms of a measurement that the environment and the judge have. Raises ConfigError if one cannot be measured."""
    asked = config.forms
    if config.judge.kind == "rules":
        found = [Form(None, True, "preset")]
    else:
        maps = asked.map if hasattr(config.env.settings, "map") else [None]
        found = [Form(*form) for form in product(maps, asked.actions, asked.subgoals)]
    for form in found:
        check_judge(form.judge(config.judge))
    return found
