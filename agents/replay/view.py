"""An iteration's episodes as a reader sees them: steps and tokens with their credit, and which steps were compared.

Knows no method: what a step's credit is made of is read from the step. How it is read is in `build`, how it looks in `terminal`
and `page`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from algorithms.segments import Credit, SubgoalSegment, mean

BESIDE = {"value": "estimated value", "return": "critic's target", "distance": "steps to success afterwards"}
"""Entries of a step's credit that are no part of its advantage: what a critic or branches said, what the critic was to say,
where a graph leads."""


@dataclass(frozen=True, slots=True)
class Known:
    """A number that was measured (`python -m agents.audit`), and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{signed(self.value)} ± {self.error:.2g}"


@dataclass(frozen=True, slots=True)
class Branch:
    """An episode that left another one before a step."""

    returned: float | None
    """From that step on; None: a fault cut it off."""
    success: bool
    advantage: float | None
    """Mean of its own steps; None: it was not learned from."""


@dataclass(eq=False, slots=True)
class Token:
    """One sampled token."""

    id: int
    text: str | None
    logprob: float | None
    credit: dict[str, float | None]
    """The same entries as its step's."""
    truth: Known | None = None
    """True advantage of the choice that begins here."""

    @property
    def advantage(self) -> float | None:
        """None: the method has no opinion."""
        return self.credit.get("advantage")


@dataclass(eq=False, slots=True)
class Step:
    """One decision and its credit."""

    episode: int
    """Number of its episode."""
    number: int
    """1, 2, ..."""
    observation: str
    frame: str | None
    """The state before the action, drawn in characters."""
    action: str
    tokens: list[Token]
    credit: dict[str, float | None]
    """Advantage and parts (of tokens: their mean), and what stands beside them (of tokens: the first)."""
    per_token: bool
    """Whether tokens of one step have different credit."""
    reward: float
    shaped: dict[str, float]
    """What shapings paid here."""
    return_to_go: float | None
    """Return from here on: what step groups compare."""
    marks: list[str]
    """What else is to be said of it: invalid, out of time, ..."""
    reached: list[str]
    """Subgoals that it reached."""
    truth: Known | None = None
    """Its true advantage, in the unit of the environment's reward."""
    worth: Known | None = None
    """True value of the state before it."""
    branches: list[Branch] = field(default_factory=list)
    """What was branched from before it."""
    peers: list[Step] = field(default_factory=list)
    """The steps it was compared with, itself among them, best return first; empty if it stood alone."""

    @property
    def advantage(self) -> float | None:
        """None: the method has no opinion."""
        return self.credit.get("advantage")

    @property
    def parts(self) -> dict[str, float | None]:
        """What the advantage is made of."""
        return {name: value for name, value in self.credit.items() if name not in ("advantage", *BESIDE)}


@dataclass(eq=False, slots=True)
class Episode:
    """One trajectory."""

    number: int
    """Its line in the iteration's file: 1, 2, ..."""
    task_id: str
    success: bool
    score: float
    error: str | None
    """Why it was cut off by a fault."""
    cut_off: str | None
    """Why it was stopped before it ended, and lost: time_limit, context, ..."""
    left_out: str | None
    """Why it took no part in the update: a fault, or what it was played for."""
    reward: float
    """Sum of the environment's own rewards."""
    steps: list[Step]
    segments: list[tuple[SubgoalSegment, Credit]]
    """Its segments that end at a subgoal, and the rest; empty where no subgoal was reached."""
    final_observation: str | None = None
    """What was seen after the last step."""
    final_frame: str | None = None

    @property
    def outcome(self) -> str:
        """One word."""
        return "fault" if self.error is not None else "won" if self.success else "lost"

    @property
    def ending(self) -> str:
        """The outcome, and what cut the episode off."""
        return self.outcome if self.cut_off is None else f"{self.outcome}: {self.cut_off.replace('_', ' ')}"

    @property
    def advantages(self) -> list[float]:
        """Of all tokens that have one; of the steps where no tokens were recorded."""
        of_tokens = [a for step in self.steps for token in step.tokens if (a := token.advantage) is not None]
        return of_tokens or [a for step in self.steps if (a := step.advantage) is not None]

    @property
    def mean_advantage(self) -> float | None:
        """Mean advantage of its steps."""
        return mean(step.advantage for step in self.steps)

    @property
    def contrast(self) -> float:
        """How differently its tokens were credited: largest less smallest advantage."""
        return max(self.advantages) - min(self.advantages) if self.advantages else 0.0


@dataclass(eq=False, slots=True)
class Group:
    """Episodes of one task that were compared with each other."""

    id: str
    task: str
    """The task's own words."""
    episodes: list[Episode]

    @property
    def contrast(self) -> float:
        """How differently its episodes ended."""
        rewards = [episode.reward for episode in self.episodes if episode.error is None]
        return max(rewards) - min(rewards) if rewards else 0.0

    @property
    def left_out(self) -> str | None:
        """Why none of its episodes was trained on."""
        reasons = [episode.left_out for episode in self.episodes]
        return reasons[0] if all(reasons) else None

    @property
    def won(self) -> int:
        """Number of its episodes that were won."""
        return sum(episode.success for episode in self.episodes)


@dataclass(eq=False, slots=True)
class Iteration:
    """All episodes of an iteration."""

    run: str
    number: int
    method: str
    environment: str
    gamma: float
    """Discount of the returns that are shown."""
    compared: bool
    """Whether the run says which steps were compared; if not, peers are the visits of the same state."""
    groups: list[Group]
    segments: dict[str | None, Credit] = field(default_factory=dict)
    """Means over the segments of all episodes that took part in the update; empty where no subgoal was reached."""
    notes: list[str] = field(default_factory=list)
    """What the reader should know of how complete this is."""

    @property
    def episodes(self) -> list[Episode]:
        """In the order of the file."""
        return sorted((e for group in self.groups for e in group.episodes), key=lambda episode: episode.number)

    @property
    def taken(self) -> int:
        """Number of episodes that took part in the update."""
        return sum(episode.left_out is None for episode in self.episodes)

    @property
    def averages(self) -> list[tuple[str | None, list[str], Credit]]:
        """A row for each name of a segment: of how many episodes, its mean length, what it got."""
        named = self.segments.items()
        return [(name, [f"{mean.count} of {self.taken}", f"{mean.steps:.1f}"], mean) for name, mean in named]

    def group_of(self, episode: Episode) -> Group:
        """The group that `episode` belongs to."""
        return next(group for group in self.groups if episode in group.episodes)


def named(segment: str | None) -> str:
    """A segment's name in words."""
    return "no further subgoal" if segment is None else segment


def spanned(segment: SubgoalSegment) -> str:
    """The numbers of its first and last step."""
    return f"{segment.first + 1}" + (f"-{segment.last + 1}" if segment.last > segment.first else "")


@dataclass(eq=False, slots=True)
class Row:
    """Peers that did the same with the same result."""

    action: str
    return_to_go: float | None
    advantage: float | None
    steps: list[Step]


def rows(step: Step) -> list[Row]:
    """The peers of `step`, best return first; an agent that goes in circles fills one row, not twenty."""
    found: dict[tuple[str, float, float | None], Row] = {}
    for peer in step.peers:
        advantage = peer.advantage
        key = (peer.action, round(peer.return_to_go or 0.0, 6), None if advantage is None else round(advantage, 6))
        found.setdefault(key, Row(peer.action, peer.return_to_go, advantage, [])).steps.append(peer)
    return list(found.values())


def signed(value: float | None) -> str:
    """A credit in few characters, its sign always there: +1.23, 0, -0.0041."""
    if value is None:
        return "none"
    return f"{value:+.2f}" if abs(value) >= 0.095 else f"{value:+.2g}" if value else "0"


def logprob(value: float) -> str:
    """A log-probability in few characters."""
    return f"{value:.2f}" if value < -0.005 else "0"


@dataclass(frozen=True, slots=True)
class Scale:
    """Where colors and bars end: the same for all that is shown together."""

    color: float
    """The largest advantage, or part of one, of a step or token, without sign."""
    length: float
    """The same of steps alone, whose bars would else be stubs where single tokens stand out."""
    truth: float = 1.0
    """The largest true advantage of a step, without sign and with its error: credit has another unit."""

    @property
    def of_truth(self) -> Scale:
        """The scale of true advantages."""
        return Scale(self.truth, self.truth)


def scale_of(episodes: Sequence[Episode]) -> Scale:
    """The scale for some episodes; 1 where all credit is 0."""
    steps = [step for episode in episodes for step in episode.steps]
    of_steps = _largest(step.credit for step in steps)
    of_tokens = _largest(token.credit for step in steps for token in step.tokens)
    true = max((abs(step.truth.value) + step.truth.error for step in steps if step.truth), default=0.0)
    return Scale(color=max(of_steps, of_tokens) or 1.0, length=of_steps or 1.0, truth=true or 1.0)


def _largest(credits: Iterable[dict[str, float | None]]) -> float:
    found = (abs(value) for credit in credits for name, value in credit.items() if name not in BESIDE and value is not None)
    return max(found, default=0.0)
