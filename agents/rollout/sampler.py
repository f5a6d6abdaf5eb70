"""Episodes: one coroutine each, joined only in the engine's batch. What was sampled is stored exactly as sampled.

A finished episode takes no further part in any batch. An episode whose environment fails is played again alone; if it fails
again it is returned with `error` set, neither success nor ordinary failure, and the others never notice. One that outgrows what
the model can read is lost: its last step is truncated, as at a time limit, with the reason "context".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.rollout.choice import Scoring
from agents.rollout.dialogue import Prompter
from agents.rollout.engines.base import Completion, Engine, Request, Sampling
from envs.common.seeding import derive
from envs.pool import EpisodeError, Pool
from envs.prompt import Prompt, Window
from envs.trajectory import CONTEXT, NO_ACTIONS, Step, Trajectory


@dataclass(frozen=True, slots=True)
class Episode:
    """What is to be played. Group members share task and environment seed, and differ in `sample_seed`."""

    task_id: str
    group_id: str
    seed: int
    sample_seed: int
    split: str


@dataclass(slots=True)
class Rollout:
    """Plays episodes with an engine in a pool of environments."""

    env_id: str
    engine: Engine
    prompter: Prompter
    prompt: Prompt
    pool: Pool
    sampling: Sampling
    context: str = "full"
    history: int = 2
    constrained: bool = False
    scoring: Scoring | None = None
    """If given, an admissible action is chosen as a whole (see agents.rollout.choice)."""
    retries: int = 1
    concurrency: int = 128
    """Episodes alive at once; as one ends the next enters."""
    on_episode: Callable[[Trajectory], None] | None = None
    retried: int = field(default=0, init=False)
    """Episodes played again after a fault, since the last `play`."""

    async def play(self, episodes: Sequence[Episode]) -> list[Trajectory]:
        """Play all episodes; the result has their order, whichever ended first."""
        self.retried = 0
        places = asyncio.Semaphore(self.concurrency)

        async def one(index: int, episode: Episode) -> Trajectory:
            async with places:
                trajectory = await self._with_retries(f"{index}", episode)
                if self.on_episode:
                    self.on_episode(trajectory)
                return trajectory

        async with asyncio.TaskGroup() as tasks:
            played = [tasks.create_task(one(i, e)) for i, e in enumerate(episodes)]
        return [task.result() for task in played]

    async def _with_retries(self, session: str, episode: Episode) -> Trajectory:
        for attempt in range(self.retries + 1):
            trajectory = Trajectory(
                self.env_id, episode.task_id, episode.group_id, episode.seed, episode.split, context=self.context
            )
            try:
                await self._episode(f"{session}.{attempt}", episode, trajectory)
                return trajectory
            except EpisodeError as error:
                trajectory.error = f"{error.kind}: {error.detail}"
                trajectory.success = False
                if attempt < self.retries:
                    self.retried += 1
            finally:
                self.engine.release(f"{session}.{attempt}")
        return trajectory

    async def _episode(self, session: str, episode: Episode, trajectory: Trajectory) -> None:
        slot = self.pool.slot()
        try:
            observation, info = await slot.reset(seed=episode.seed, task=episode.task_id)
            await self._steps(session, episode, trajectory, slot, observation, info)
        finally:
            slot.release()

    async def _steps(
        self, session: str, episode: Episode, trajectory: Trajectory, slot: Any, observation: str, info: dict[str, Any]
    ) -> None:
        task = self.prompt.task(observation)
        ids: list[int] = []
        past: list[tuple[str, str]] = []
        response: list[int] = []
        while True:
            admissible = info["admissible_actions"]
            t = len(trajectory.steps)
            if self.context == "window":
                recent = past[-self.history :] if self.history else []
                prompt_ids = self.prompter.window(Window(task, recent, t, observation, admissible, info["valid"]))
                ids = list(prompt_ids)
            else:
                prompt_ids = (
                    self.prompter.opening(observation, admissible)
                    if t == 0
                    else self.prompter.turn(observation, admissible, info["valid"], response)
                )
                ids.extend(prompt_ids)
            if self.scoring is not None and not admissible:
                if t == 0:  # nothing that the policy did has led here: this task cannot be played at all
                    trajectory.error = "choice: the environment lists no action to choose from (engine.constrained=scored)"
                else:
                    _cut_off(trajectory, NO_ACTIONS, observation, info)
                return
            done = await self._respond(session, ids, admissible, derive_seed(episode.sample_seed, t))
            if not done.ids:
                _cut_off(trajectory, CONTEXT, observation, info)
                return
            response = done.ids
            ids = [*ids, *response]
            action, well_formed = self.prompter.action(response, admissible)
            state_key, seen, frame = info["state_key"], observation, info.get("frame")
            fragment = done.stop_reason == "context"
            if fragment:  # the answer ends in its middle: it is learnt from, but nobody chose to do what there is of it
                reward, terminated, truncated, info = 0.0, False, False, {**info, "valid": False, "changed": False}
            else:
                observation, reward, terminated, truncated, info = await slot.step(action)
            trajectory.steps.append(
                Step(
                    observation=seen,
                    action=action,
                    reward=reward,
                    valid=bool(info["valid"]) and well_formed,
                    terminated=terminated,
                    truncated=truncated,
                    state_key=state_key,
                    admissible_actions=admissible,
                    prompt_ids=prompt_ids,
                    response_ids=response,
                    response_logprobs=done.logprobs,
                    policy_version=done.policy_version,
                    info={"subgoals": list(info["subgoals"]), "changed": info["changed"], "stop": done.stop_reason},
                )
            )
            step = trajectory.steps[-1]
            if frame is not None:
                step.info["frame"] = frame
            if not well_formed:
                step.info["well_formed"] = False
            if fragment:
                step.info["executed"] = False
                _cut_off(trajectory, CONTEXT, observation, info)
                return
            past.append((seen, self.prompter.said(action, admissible)))
            if terminated or truncated:
                trajectory.success = bool(info["success"]) and not truncated
                _end(trajectory, observation, info)
                return

    async def _respond(self, session: str, ids: list[int], admissible: list[str] | None, seed: int) -> Completion:
        """A response that was sampled token by token, or chosen as a whole."""
        if self.scoring is None or not admissible:
            trie = self.prompter.tries.trie(admissible) if self.constrained and admissible else None
            return await self.engine.generate(Request(session, ids, self.sampling, seed, trie))
        responses, lengths = self.scoring.candidates(admissible)
        scores = await self.engine.score(session, ids, responses)
        if not scores:
            return Completion([], [], "context", self.engine.policy_version)
        chosen, logprob = self.scoring.choose(scores, lengths, self.sampling.temperature, seed)
        response = list(responses[chosen])
        self.engine.stats.sampled_tokens += len(response)
        # The whole decision falls on the first token, the others are forced: their sum is the action's log-probability.
        return Completion(response, [logprob] + [0.0] * (len(response) - 1), "stop", self.engine.policy_version)


def _cut_off(trajectory: Trajectory, reason: str, observation: str, info: dict[str, Any]) -> None:
    """End an episode that the environment would go on with: lost, and truncated as at a time limit."""
    if trajectory.steps:
        trajectory.steps[-1].truncated = True
    _end(trajectory, observation, {**info, "reason": reason})


def _end(trajectory: Trajectory, observation: str, info: dict[str, Any]) -> None:
    """Keep what was seen last, and why the episode was cut off, if it was."""
    trajectory.score = float(info["score"])
    if not trajectory.steps:
        return
    last = trajectory.steps[-1].info
    last["final_observation"] = observation
    if "frame" in info:
        last["final_frame"] = info["frame"]
    if "reason" in info:
        last["reason"] = info["reason"]


def derive_seed(sample_seed: int, step: int) -> int:
    """Seed of a step's sampling: cheap, and a function of episode and step alone."""
    return (sample_seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) % (1 << 64)


def group_episodes(
    root: int, stage: str, index: int | str, task_ids: Sequence[str], group_size: int, split: str
) -> list[Episode]:
    """`group_size` episodes for each task; seeds are derived from `root` by name, so no order of calls matters."""
    return [
        Episode(
            task_id=task_id,
            group_id=f"{stage}-{index}-{place}",
            seed=derive(root, stage, index, "environment", task_id),
            sample_seed=derive(root, stage, index, "sample", place, member),
            split=split,
        )
        for place, task_id in enumerate(task_ids)
        for member in range(group_size)
    ]


def panel_episodes(seed: int, task_ids: Sequence[str], repeats: int, split: str) -> list[Episode]:
    """`repeats` episodes of each task of a panel, named `task#attempt`; seeds are functions of task and attempt."""
    return [
        Episode(task_id, f"{task_id}#{attempt}", derive(seed, task_id), derive(seed, task_id, "sample", attempt), split)
        for attempt in range(repeats)
        for task_id in task_ids
    ]
