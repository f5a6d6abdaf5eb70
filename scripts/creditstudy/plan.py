"""What the study consists of: settings and their stages of training, the methods that are audited, and the arms that learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

REFERENCE = "grpo"
"""The method of the runs whose policies are audited: it credits whole episodes, so it is nobody's step-level rival."""
KEPT = ("checkpoint.keep=100", "threads=1")
"""Of every run: all its checkpoints, among which a stage is chosen."""


@dataclass(frozen=True, eq=False)
class Setting:
    """An environment, and how runs in it begin and for how long they go on."""

    name: str
    title: str
    words: tuple[str, ...]
    starts: Mapping[str, tuple[str, ...]]
    """Overrides of a run by the name of its start."""
    stages: Mapping[str, tuple[str, float]]
    """Name of a stage of training: the start of the run in which it is looked for, and the success that it should have."""
    audit: tuple[str, ...] = ()
    """Overrides of its audits, before those of all audits."""


@dataclass(frozen=True)
class Run:
    """A training."""

    setting: Setting
    start: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.setting.name}/{self.start}/{self.arm}-seed{self.seed}"

    @property
    def words(self) -> list[str]:
        """Overrides that say what the run is, but for where it is written."""
        of_start = self.setting.starts[self.start]
        return [*self.setting.words, *of_start, *KEPT, f"algo={self.arm}", f"seed={self.seed}"]


@dataclass(frozen=True)
class Audit:
    """An audit of the policy that a run had at a stage."""

    run: Run
    stage: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.run.setting.name}/{self.stage}-seed{self.run.seed}"

    @property
    def success(self) -> float:
        """What the stage's success should be."""
        return self.run.setting.stages[self.stage][1]


@dataclass(frozen=True)
class Study:
    """All of it."""

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    """Of the audits."""
    audit: tuple[str, ...]
    """Overrides of every audit, its methods among them."""
    learns: str
    """The setting whose arms learn, from its first start."""
    arms: tuple[str, ...]
    arm_seeds: tuple[int, ...]

    @cached_property
    def runs(self) -> list[Run]:
        """Trainings whose learning counts, seed by seed."""
        setting = next(one for one in self.settings if one.name == self.learns)
        return [Run(setting, next(iter(setting.starts)), arm, seed) for seed in self.arm_seeds for arm in self.arms]

    @cached_property
    def audits(self) -> list[Audit]:
        """Seed by seed, so that a study which is not finished has something of everything."""
        return list(self._audits())

    def _audits(self) -> Iterator[Audit]:
        for seed in self.seeds:
            for setting in self.settings:
                for number, (stage, (start, _)) in enumerate(setting.stages.items()):
                    # Tasks of its own, so that stages together rest on more tasks than each.
                    words = (*setting.audit, *self.audit, f"seed={seed + 1000 * number}")
                    yield Audit(Run(setting, start, REFERENCE, seed), stage, words)


SMALL_GAMES = Setting(
    "alfworld_small",
    "ALFWorld, small games",
    ("env=alfworld", "evaluation.temperature=[1.0]"),
    {
        "early": (
            *("warmstart.steps=1000", "warmstart.demonstrations=3000"),
            *("iterations=60", "evaluation.every=20", "checkpoint.every=1"),
        )
    },
    {"early": ("early", 0.2), "middle": ("early", 0.5), "late": ("early", 0.85)},
)
FULL_GAMES = Setting(
    "alfworld_full",
    "ALFWorld, full-size games",
    ("env=alfworld", "env.size=full", "env.max_steps=30", "evaluation.temperature=[1.0]"),
    {
        "early": (
            *("warmstart.steps=1000", "warmstart.demonstrations=3000"),
            *("step_budget=500000", "iterations=261", "evaluation.every=10", "checkpoint.every=5"),
        ),
        # From the early start, 85% would take several million steps.
        "late": (
            *("warmstart.steps=3000", "warmstart.demonstrations=6000", "warmstart.suboptimal_share=0.2"),
            *("iterations=40", "evaluation.every=20", "checkpoint.every=2"),
        ),
    },
    {"early": ("early", 0.2), "middle": ("early", 0.5), "late": ("late", 0.85)},
)
SHOP = Setting(
    "webshop",
    "WebShop",
    ("env=webshop", "evaluation.temperature=[1.0]"),
    {
        "early": (
            *("warmstart.steps=700", "warmstart.demonstrations=3000"),
            *("iterations=60", "evaluation.every=20", "checkpoint.every=2"),
        )
    },
    {"early": ("early", 0.2), "middle": ("early", 0.5), "late": ("early", 0.85)},
)
KEY_ROOM = Setting(
    "minihack_keyroom",
    "MiniHack, key room",
    ("env=minihack/keyroom", "env.penalty_step=0", "evaluation.temperature=[1.0]"),
    {
        "early": (
            *("warmstart.steps=400", "warmstart.demonstrations=1000"),
            *("iterations=30", "evaluation.every=15", "checkpoint.every=2"),
        )
    },
    {"early": ("early", 0.2), "middle": ("early", 0.5), "late": ("early", 0.85)},
    ("step_budget=300000",),
)

METHODS = (
    *("grpo", "rloo", "reinforce_pp", "remax", "opo", "maxrl", "passk_grpo"),
    *("gigpo", "hgpo", "graphgpo", "g2po", "proxmo", "salt", "tempo"),
    *("ppo", "archer", "bi_level_gae", "steppo", "poad", "ntpo"),
    *("oprl", "spa", "hcapo", "empg", "otb"),
    *("vineppo", "spo_chain", "spo_tree", "tree_grpo"),
)
"""Methods with a credit of their own, in families. Those that differ from one of them in the loss alone (DAPO, GSPO, ...) have
its credit; IGPO, HiPER and TWOSOME need what these settings lack."""
WHOLE = Study(
    settings=(FULL_GAMES, SMALL_GAMES, SHOP, KEY_ROOM),
    seeds=(0, 1, 2),
    audit=("episodes=64", "continuations=8", "fit=6", f"methods=[{','.join(METHODS)}]"),
    learns="alfworld_full",
    arms=("grpo", "gigpo", "graphgpo", "ppo", "hgpo", "poad", "rloo", "g2po", "oprl", "vineppo"),
    arm_seeds=(0, 1, 2, 3, 4),
)
SMALL = Study(
    settings=(
        Setting(
            "alfworld_small",
            "ALFWorld, small games",
            ("env=alfworld", "evaluation.temperature=[1.0]"),
            {
                "early": (
                    *("warmstart.steps=700", "warmstart.demonstrations=2000"),
                    *("iterations=8", "evaluation.every=0", "evaluation.episodes=20", "checkpoint.every=1"),
                )
            },
            {"early": ("early", 0.2), "middle": ("early", 0.5)},
        ),
    ),
    seeds=(0,),
    audit=(
        "episodes=32",
        "continuations=6",
        "futures=0",
        "fit=3",
        "resamples=200",
        "methods=[grpo,gigpo,hgpo,graphgpo,ppo,oprl]",
    ),
    learns="alfworld_small",
    arms=("grpo", "gigpo", "hgpo", "graphgpo", "ppo", "oprl"),
    arm_seeds=(0,),
)
