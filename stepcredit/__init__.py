"""stepcredit from Python: environments, training, trajectories, and the credit of steps.

    import stepcredit

    env = stepcredit.make("alfworld", max_steps=20)                                # a gymnasium.Env, text in and text out
    run = stepcredit.train("env=alfworld", "algo=gigpo", iterations=20)            # as on the command line
    print(run.evaluation, stepcredit.evaluate(run=run)["temperatures"]["1"])       # success on held-out tasks
    steps = stepcredit.to_dataframe(stepcredit.read_trajectories(run))             # one row a step, with its credit
    credit = stepcredit.advantages("gigpo", rewards=[0, 1], episodes=[0, 0], states=["a", "b"])   # any method, any data

- Environments: `make`, `environments`, `register_environment`, and what one is made of: `TextEnv`, `StepResult`, `Prompt`.
- Training: `train`, `evaluate`, `Run`, `methods`.
- Credit without a model: `advantages`, `Credit`; for methods of your own `register_method`, `register_shaping`, `Algorithm`,
  `Batch`, `Advantages`, `Shaping`.
- Episodes on disk: `read_trajectories`, `to_dataframe`, `RecordTrajectories`, and what they hold: `Trajectory`, `Step`.

Everything is imported when it is first used, so that `import stepcredit` takes no time: neither torch nor an environment is
loaded by it. docs/python.md shows each of these at work.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithms.base import Advantages, Algorithm, Batch
    from algorithms.shaping import Shaping
    from envs.base import StepResult, TextEnv
    from envs.common.structured import ConfigError
    from envs.prompt import Prompt
    from envs.trajectory import Step, Trajectory
    from stepcredit.catalog import environments, make, methods, register_environment, register_method, register_shaping
    from stepcredit.crediting import Credit, advantages
    from stepcredit.reading import read_trajectories, to_dataframe
    from stepcredit.recording import RecordTrajectories
    from stepcredit.running import Run, evaluate, train

    __version__: str

_HOMES = {
    "algorithms.base": ("Advantages", "Algorithm", "Batch"),
    "algorithms.shaping": ("Shaping",),
    "envs.base": ("TextEnv", "StepResult"),
    "envs.common.structured": ("ConfigError",),
    "envs.prompt": ("Prompt",),
    "envs.trajectory": ("Step", "Trajectory"),
    "stepcredit.catalog": (
        "environments",
        "make",
        "methods",
        "register_environment",
        "register_method",
        "register_shaping",
    ),
    "stepcredit.crediting": ("Credit", "advantages"),
    "stepcredit.reading": ("read_trajectories", "to_dataframe"),
    "stepcredit.recording": ("RecordTrajectories",),
    "stepcredit.running": ("Run", "evaluate", "train"),
}
"""Where each public name is defined."""

__all__ = [  # noqa: RUF022 - in the order of the page above
    "make",
    "environments",
    "register_environment",
    "TextEnv",
    "StepResult",
    "Prompt",
    "ConfigError",
    "train",
    "evaluate",
    "Run",
    "methods",
    "advantages",
    "Credit",
    "register_method",
    "register_shaping",
    "Algorithm",
    "Batch",
    "Advantages",
    "Shaping",
    "read_trajectories",
    "to_dataframe",
    "RecordTrajectories",
    "Trajectory",
    "Step",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """The public name, imported now (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("stepcredit")
    else:
        from importlib import import_module

        home = next((module for module, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'stepcredit' has no attribute '{name}'")
        _refuse_namesakes()
        found = getattr(import_module(home), name)
    globals()[name] = found
    return found


@cache
def _refuse_namesakes() -> None:
    """Raise ImportError where other packages stand in the place of ours; read from its file, since `agents` may be one."""
    from runpy import run_path

    run_path(str(Path(__file__).parents[1] / "agents" / "namesakes.py"))["refuse"]("agents", "envs", "algorithms")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
