"""Steps and trajectories: the one structure that environments, algorithms and agents share. Its files: `trajectory_file.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, SupportsFloat

CONTEXT, NO_ACTIONS, BUDGET = "context", "no_actions", "budget"
"""Reasons why a rollout cuts an episode off, beside the environment's own (time_limit): the conversation outgrew what the model
can read; the environment lists no action where one is to be chosen; the turns that it was planned with are over."""
BY_ROLLOUT = (CONTEXT, NO_ACTIONS, BUDGET)


@dataclass(slots=True)
class Step:
    """One decision: what was seen, what was done, what came of it."""

    observation: str
    """What the agent saw before it acted."""
    action: str
    """The text that was executed. Where the context ended in the middle of an answer it is what there is of it, which was not
    executed: `executed` is False then."""
    reward: float = 0.0
    """The environment's own reward; shaping never changes it."""
    shaped_rewards: dict[str, float] = field(default_factory=dict)
    """Further rewards by name of their source."""
    valid: bool = True
    terminated: bool = False
    truncated: bool = False
    state_key: str = ""
    """Identity of the state in which the action was taken (from the environment, never parsed out of a prompt)."""
    admissible_actions: list[str] | None = None
    """Actions that were possible when the agent acted."""
    prompt_ids: list[int] = field(default_factory=list)
    """context=full: ids that the model read since its previous response. context=window: the whole prompt."""
    response_ids: list[int] = field(default_factory=list)
    """Exactly the ids that were sampled."""
    rollout_logprobs: list[float] = field(default_factory=list)
    """The sampling engine's log-probability of each sampled id."""
    weights_version: int = 0
    """Version of the weights that sampled the response: the oldest, where they changed while it was sampled."""
    versions: list[int] | None = None
    """Version of the weights that sampled each id; None: it is the same for all."""
    stop: str = ""
    """Why the response ended: stop, length, context; "" where no model wrote it."""
    well_formed: bool = True
    """Whether an action was found in the response."""
    executed: bool = True
    """Whether the environment was given the action."""
    changed: bool = True
    """False if the environment said that the action changed nothing that a subgoal could be about."""
    subgoals: list[str] = field(default_factory=list)
    """Names of the subgoals achieved so far, this step included, by the environment's own rules."""
    frame: Any = None
    """The state in which the agent acted as people look at it, if the environment draws it."""
    judged: list[str] | None = None
    """Names of the subgoals that a judge says this step achieved; None: no judge was asked."""
    credit: dict[str, Any] | None = None
    """The step's advantage and what it is made of, by name; None: the step took no part in an update."""
    truth: dict[str, Any] | None = None
    """The true advantage, and the value of the state before, with their standard errors, where an audit measured them:
    `advantage`, `error`, `value`, `value_error`; by token `tokens` and `token_errors`, None where it did not."""
    step_group: int | None = None
    """Number of the group of steps that this one was compared in, for methods that compare steps."""
    info: dict[str, Any] = field(default_factory=dict)
    """What an environment adds of its own."""

    @property
    def token_versions(self) -> list[int]:
        """Version of the weights that sampled each id of the response."""
        return [self.weights_version] * len(self.response_ids) if self.versions is None else self.versions

    @classmethod
    def taken(
        cls,
        observation: str,
        before: dict[str, Any],
        action: str,
        reward: SupportsFloat,
        terminated: bool,
        truncated: bool,
        after: dict[str, Any],
    ) -> Step:
        """A step that no model wrote; before, after: what the environment told (its `info`) with the states around it."""
        return cls(
            observation,
            action,
            float(reward),
            valid=bool(after["valid"]),
            terminated=terminated,
            truncated=truncated,
            state_key=before["state_key"],
            admissible_actions=before["admissible_actions"],
            changed=bool(after["changed"]),
            subgoals=list(after["subgoals"]),
            frame=before.get("frame"),
        )


@dataclass(slots=True)
class Trajectory:
    """One episode."""

    env_id: str
    task_id: str
    group_id: str
    """Task group: trajectories of the same task that are compared with each other."""
    seed: int
    split: str
    context: str = "full"
    """full: prompts grow (each step's prompt_ids continue the previous ones); window: each step has its own prompt."""
    steps: list[Step] = field(default_factory=list)
    success: bool = False
    score: float = 0.0
    error: str | None = None
    """Why the episode was cut off by a fault (timeout, crash); None for an episode that the environment ended or timed out, or
    that outgrew the context."""
    reason: str | None = None
    """Why it was stopped before the environment ended it: time_limit, CONTEXT, NO_ACTIONS, BUDGET or another; see `cut_off`."""
    final_observation: str | None = None
    """What was seen after the last step."""
    final_state_key: str = ""
    """Identity of the state after the last step."""
    final_frame: Any = None
    """The last state as people look at it."""
    attempt: int = 0
    """0 for the first; more where a fault made it be played again."""
    name: str = ""
    """What no other episode of its run is called: "group/number"; longer for one that was branched. "": nobody named it."""
    parent: tuple[str, int] | None = None
    """Name of the episode that it was branched from, and the step before which it goes its own way; earlier ones are shared."""
    turn_budget: int | None = None
    """Steps that it was planned to take at most; None: as many as the environment allows."""
    token_budget: int | None = None
    """Tokens that each of its answers was planned to have at most; None: as many as the engine allows."""
    reseeded: list[tuple[int, int]] = field(default_factory=list)
    """(step, seed) where chance went on by another seed from before a step on: to replay it, `reseed` there."""

    @property
    def called(self) -> str:
        """Its name, or where nobody named it that of its group."""
        return self.name or self.group_id

    @property
    def cut_off(self) -> str | None:
        """Why it was stopped before the environment ended it: time_limit, CONTEXT, NO_ACTIONS, BUDGET or another; else None.

        Such an episode is lost, and no fault: it counts in every rate.
        """
        if self.error is not None or self.success:
            return None
        if not self.steps:
            return CONTEXT  # even the first prompt was too long: no step is there to say so
        return (self.reason or "time_limit") if self.steps[-1].truncated else None

    @property
    def total_reward(self) -> float:
        """Undiscounted sum of the environment's own rewards."""
        return float(sum(step.reward for step in self.steps))
