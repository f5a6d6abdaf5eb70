"""What each command is set by: sections, and settings of its own.

agents.config.loading fills them from the command line and checks them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from agents.config.sections import (
    CheckpointConfig,
    CriticConfig,
    EngineConfig,
    EnvConfig,
    EvalConfig,
    FormsConfig,
    JudgeConfig,
    LauncherConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    TrackerConfig,
    WarmstartConfig,
)
from envs.common.structured import AboveZero, AtLeast, AtMost, Fraction, Natural, Positive


@dataclass
class TrainConfig:
    """A training run."""

    env: EnvConfig
    model: ModelConfig
    algo: dict[str, Any]
    """The credit-assignment method: its name and its own settings."""
    shaping: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further rewards for steps by name, each with its settings."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    warmstart: WarmstartConfig = field(default_factory=WarmstartConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    seed: Natural = 0
    """Root of all randomness."""
    iterations: Natural = 100
    """Rollout-and-update iterations; 0: only warm start and evaluation."""
    time_budget_s: AboveZero | None = None
    """Wall-clock seconds after which the run finishes its iteration and ends normally; null: no limit."""
    step_budget: Positive | None = None
    """Environment steps of training after which the run finishes its iteration and ends normally; null: no limit. Steps that
    are played in branches (vineppo, tree_grpo, ...) count."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a usable GPU, else cpu."""
    threads: Natural = 0
    """CPU threads of torch; 0: torch's own choice."""
    run: str | None = None
    """Name of the run's folder; null: <env>-<algo>-<date>-<time>."""
    out: str = "runs"
    """Folder that holds run folders."""
    resume: str | None = None
    """A run folder to continue: its config.yaml is used, and only single values may be overridden."""

    @property
    def warm_starts(self) -> bool:
        """Whether the run begins with a warm start: asked for, or needed because the model starts from random weights."""
        return self.model.name == "tiny" if self.warmstart.enabled is None else self.warmstart.enabled


@dataclass
class EvaluateConfig:
    """An evaluation on its own: of a run's checkpoint, or (run=null) of a model as it is."""

    env: EnvConfig
    model: ModelConfig
    engine: EngineConfig = field(default_factory=EngineConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    run: str | None = None
    """A run folder: its environment, model, engine and evaluation settings are used, and its weights are loaded."""
    checkpoint: Natural | None = None
    """Iteration whose checkpoint is loaded; null: the newest."""
    against: str | None = None
    """File with the results of another evaluation on the same tasks, with which this one is compared task by task."""
    seed: Natural = 0
    """Root of all randomness."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a usable GPU, else cpu."""
    threads: Natural = 0
    """CPU threads of torch; 0: torch's own choice."""
    out: str | None = None
    """File for the results (JSON); null: evaluation-<split>-<hash of what was evaluated>.json in the run's folder or in
    runs/evaluations/<env>-<model>/."""


@dataclass
class JudgeRunConfig:
    """A judge measured against the environment's rules, on episodes of a random policy or (run) of a trained one."""

    env: EnvConfig
    model: ModelConfig
    engine: EngineConfig = field(default_factory=EngineConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    forms: FormsConfig = field(default_factory=FormsConfig)
    match: Annotated[float, AtLeast(0), AtMost(100)] = 80.0
    """How similar a proposed subgoal and one of the rules must be worded to count as the same (rapidfuzz's token_set_ratio)."""
    split: Literal["train", "eval", "test"] = "train"
    """Which tasks are played."""
    episodes: Positive = 100
    """Number of episodes, on the first tasks of the split; on a small split several per task."""
    run: str | None = None
    """A run folder: its environment, model and engine settings are used, and its policy plays; null: random admissible
    actions."""
    checkpoint: Natural | None = None
    """Iteration whose checkpoint of the run plays; null: the newest."""
    seed: Natural = 0
    """Root of all randomness."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a usable GPU, else cpu."""
    threads: Natural = 0
    """CPU threads of torch; 0: torch's own choice."""
    out: str = "runs/judge"
    """Folder that holds the folders of results, <env>-<judge>-<hash of what was measured>."""


@dataclass
class AuditConfig:
    """Credit measured against true advantages, on episodes of a run's checkpoint or (run=null) of a model as it is."""

    env: EnvConfig
    model: ModelConfig
    methods: list[str] = field(default_factory=lambda: ["grpo", "rloo", "gigpo", "hgpo"])
    """Methods whose credit is measured, as algo= names them; grpo+hicra: with a transform; run: the run's own, with its
    settings. Methods and settings that change no episode (critic, shaping, ...) may be changed later: episodes and true values
    are measured once."""
    episodes: Positive = 64
    """Episodes that are credited, in groups of rollout.group_size."""
    split: Literal["train", "eval", "test"] = "train"
    """Which tasks are played."""
    continuations: Annotated[int, AtLeast(4)] = 8
    """Continuations by which a state's value is measured, on average; half of them in a first round for all states."""
    allocation: Literal["two-stage", "uniform"] = "two-stage"
    """Of the second round. two-stage: more for states whose value is uncertain after the first and counts in several steps;
    uniform: as many as in the first."""
    gamma: Fraction = 1.0
    """Discount of the true return."""
    tokens: Natural = 0
    """Steps, drawn at random, within whose responses values are measured too: the truth for methods that credit tokens."""
    cuts: Positive = 8
    """Into how many parts such a response is divided at most; a part begins where there is a choice."""
    futures: Natural = 128
    """Steps, drawn at random, that are credited again as if the rest of their episode had gone otherwise: bias and
    deviation of the credit. 0: neither is measured."""
    fit: Positive | None = None
    """Iterations of episodes on which critics and reward models are trained before they credit. With a run: its newest so
    many, null: all, as in the run itself. Without a run they are played for it, null: 5."""
    gradients: bool = True
    """Compare the policy gradients of credit and truth; one backward pass per episode and method."""
    step_budget: Positive | None = None
    """Environment steps that all continuations may take, about; fewer continuations are played then. null: no limit."""
    token_budget: Positive | None = None
    """Sampled tokens that all continuations may take, about; null: no limit."""
    resamples: Positive = 1000
    """Bootstrap resamples of tasks behind the 95% intervals."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    shaping: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further rewards for steps by name, each with its settings; they are part of the credit, not of the truth."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    warmstart: WarmstartConfig = field(default_factory=WarmstartConfig)
    run: str | None = None
    """A run folder: its settings are used, its policy plays, and its episodes train critics and reward models."""
    checkpoint: Natural | None = None
    """Iteration whose checkpoint of the run plays; null: the newest."""
    seed: Natural = 0
    """Root of all randomness."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda if there is a usable GPU, else cpu."""
    threads: Natural = 0
    """CPU threads of torch; 0: torch's own choice."""
    out: str | None = None
    """Folder for the results; null: audit-<hash of what was measured> in the run's folder, or
    runs/audits/<env>-<model>-<hash>."""


Job = Literal["train", "evaluate", "judge", "audit"]
Config = TrainConfig | EvaluateConfig | JudgeRunConfig | AuditConfig
COMMANDS: dict[str, type[Config]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "judge": JudgeRunConfig,
    "audit": AuditConfig,
}
"""What each command is set by."""
