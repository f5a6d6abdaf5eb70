"""One episode: prompts from the dialogue, responses from the engine, actions to the environment, steps into the trajectory.

What was sampled is stored exactly as sampled. An episode that outgrows what the model can read is lost: its last step is
truncated, as at a time limit, with the reason "context". One that continues another begins with the steps that both share.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from agents.models.temperature import constant
from agents.rollout.choice import Scoring
from agents.rollout.dialogue import Dialogue
from agents.rollout.engines.base import Completion, Engine, EngineError, EngineStats, Request, Sampling
from agents.rollout.planner import Branch, Episode, Kept
from agents.rollout.prefix import BranchError, begin
from envs.pool import Slot
from envs.prompt import Prompt, Window
from envs.trajectory import BUDGET, CONTEXT, NO_ACTIONS, Step, Trajectory


@dataclass(frozen=True, slots=True)
class Player:
    """How the policy plays an episode: an engine that writes, and the dialogue between it and the environment."""

    engine: Engine
    dialogue: Dialogue
    prompt: Prompt
    sampling: Sampling
    context: str = "full"
    history: int = 2
    """Turns that a rebuilt prompt shows; context=window only."""
    constrained: bool = False
    scoring: Scoring | None = None
    """If given, an admissible action is chosen as a whole (see agents.rollout.choice)."""
    counts: EngineStats | None = None
    """Where tokens are counted; None: where the engine counts those of all others."""

    async def play(self, session: str, episode: Episode, trajectory: Trajectory, slot: Slot) -> None:
        """Play to the end, adding steps to `trajectory`. Raises EpisodeError if the environment fails."""
        async for _ in self.steps(session, episode, trajectory, slot):
            pass

    async def steps(self, session: str, episode: Episode, trajectory: Trajectory, slot: Slot) -> AsyncIterator[Step]:
        """The same, step by step. `trajectory` holds what the episode has in common with another one (`Episode.begun`).

        Raises BranchError where that does not come again.
        """
        if self.counts is not None:
            self.engine.count_apart(session, self.counts)
        branch = episode.branch
        observation, info = await begin(slot, trajectory, branch)
        first = trajectory.steps[0].observation if trajectory.steps else observation
        task = self.prompt.task(first)
        ids = [token for step in trajectory.steps for token in (*step.prompt_ids, *step.response_ids)]
        subgoal = ""
        for step in trajectory.steps:
            subgoal = self._pursued(step.response_ids, subgoal)
        while True:
            admissible = info["admissible_actions"]
            t = len(trajectory.steps)
            if self.context == "window":
                past = trajectory.steps[-self.history :] if self.history else []
                recent = [(one.observation, self.dialogue.said(one.action, one.admissible_actions)) for one in past]
                now = Window(task, recent, t, observation, admissible, info["valid"], subgoal)
                prompt_ids = self.dialogue.window(now)
                ids = list(prompt_ids)
            else:
                prompt_ids = (
                    self.dialogue.opening(observation, admissible)
                    if t == 0
                    else self.dialogue.turn(observation, admissible, info["valid"], trajectory.steps[-1].response_ids)
                )
                ids.extend(prompt_ids)
            kept = Kept([], [], [])
            if branch is not None and t == branch.step:
                _check_prompt(branch, prompt_ids)
                kept = branch.kept
            if self.scoring is not None and not admissible:
                if t == 0:  # nothing that the policy did has led here: this task cannot be played at all
                    trajectory.error = "choice: the environment lists no action to choose from (engine.constrained=scored)"
                else:
                    _cut_off(trajectory, NO_ACTIONS, observation, info)
                return
            seed = derive_seed(episode.sample_seed, t)
            done = await self._respond(session, ids, admissible, seed, kept, episode.budget.most_tokens)
            if isnan(sum(done.logprobs)):
                raise EngineError("the model's probabilities are nan: its weights or activations are no numbers any more")
            if not done.ids:
                _cut_off(trajectory, CONTEXT, observation, info)
                return
            ids = [*ids, *done.ids]
            action, well_formed = self.dialogue.action(done.ids, admissible)
            subgoal = self._pursued(done.ids, subgoal)
            step = Step(
                observation=observation,
                action=action,
                state_key=info["state_key"],
                admissible_actions=admissible,
                prompt_ids=prompt_ids,
                response_ids=done.ids,
                rollout_logprobs=done.logprobs,
                weights_version=min(done.versions),
                versions=done.versions if len(set(done.versions)) > 1 else None,
                stop=done.stop_reason,
                frame=info.get("frame"),
                well_formed=well_formed,
            )
            if done.stop_reason == "context":
                # The answer ends in its middle: it is learned from, but nobody chose to do what there is of it.
                step.executed = step.valid = step.changed = False
                step.subgoals = list(info["subgoals"])
                trajectory.steps.append(step)
                _cut_off(trajectory, CONTEXT, observation, info)
                yield step
                return
            observation, step.reward, step.terminated, step.truncated, info = await slot.step(action)
            step.valid = bool(info["valid"]) and well_formed
            step.changed, step.subgoals = bool(info["changed"]), list(info["subgoals"])
            trajectory.steps.append(step)
            if step.terminated or step.truncated:
                trajectory.success = bool(info["success"]) and not step.truncated
                _end(trajectory, observation, info)
                yield step
                return
            if episode.budget.most_turns is not None and len(trajectory.steps) >= episode.budget.most_turns:
                _cut_off(trajectory, BUDGET, observation, info)
                yield trajectory.steps[-1]
                return
            yield step

    def _pursued(self, response_ids: Sequence[int], before: str) -> str:
        """The subgoal that an episode has after a turn, from the one that it had `before`; "" where turns name none."""
        return (self.dialogue.parts(response_ids)[1].subgoal or before) if self.prompt.hierarchy else ""

    async def _respond(
        self, session: str, ids: list[int], admissible: list[str] | None, seed: int, kept: Kept, most: int | None
    ) -> Completion:
        """A response that was sampled token by token from what is `kept` on, or chosen as a whole. most: tokens of it."""
        if self.scoring is None or not admissible:
            trie = self.dialogue.tries.trie(admissible) if self.constrained and admissible else None
            sampling = self.sampling if most is None else replace(self.sampling, max_tokens=min(most, self.sampling.max_tokens))
            done = await self.engine.generate(Request(session, ids, sampling, seed, trie, kept.ids))
            joined = [*kept.ids, *done.ids], [*kept.logprobs, *done.logprobs], [*kept.versions, *done.versions]
            return Completion(joined[0], joined[1], done.stop_reason, joined[2])
        responses, lengths = self.scoring.candidates(admissible)
        version = self.engine.weights_version  # a newer one, if weights come meanwhile: no token is called newer than it is
        scores = await self.engine.score(session, ids, responses)
        if not scores:
            return Completion([], [], "context", [])
        chosen, logprob = self.scoring.choose(scores, lengths, constant(self.sampling.temperature), seed)
        response = list(responses[chosen])
        (self.counts or self.engine.stats).sampled_tokens += len(response)
        # The whole decision falls on the first token, the others are forced: their sum is the action's log-probability.
        return Completion(response, [logprob] + [0.0] * (len(response) - 1), "stop", [version] * len(response))


def _cut_off(trajectory: Trajectory, reason: str, observation: str, info: dict[str, Any]) -> None:
    """End an episode that the environment would go on with: lost, and truncated as at a time limit."""
    if trajectory.steps:  # the step may be another episode's, too
        trajectory.steps[-1] = replace(trajectory.steps[-1], truncated=True)
    _end(trajectory, observation, {**info, "reason": reason})


def _end(trajectory: Trajectory, observation: str, info: dict[str, Any]) -> None:
    """Keep what was seen last, and why the episode was cut off, if it was."""
    trajectory.score = float(info["score"])
    if not trajectory.steps:
        return
    trajectory.final_observation = observation
    trajectory.final_state_key = info["state_key"]
    trajectory.final_frame = info.get("frame")
    trajectory.reason = info.get("reason")


def derive_seed(sample_seed: int, step: int) -> int:
    """Seed of a step's sampling: cheap, and a function of episode and step alone."""
    return (sample_seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) % (1 << 64)


def _check_prompt(branch: Branch, prompt_ids: list[int]) -> None:
    """Whether the model reads before the branch what it read in the parent."""
    steps = branch.parent.steps
    if branch.step < len(steps) and steps[branch.step].prompt_ids not in ([], prompt_ids):
        raise BranchError(
            f"episode {branch.parent.called}: at step {branch.step} the model would read another prompt than "
            "it did. Continue episodes with the prompt that they were played with: model and chat template, env.context, "
            "env.history, env.thinking, env.hierarchy"
        )
