"""Episodes to be judged: played at random or by a run's policy, and told again in another observation form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from rich.console import Console

from agents.config.commands import JudgeRunConfig
from agents.judges.measuring.forms import Form
from agents.rollout.planner import split_episodes
from agents.rollout.sampler import Sampler
from envs import registry
from envs.base import TextEnv
from envs.common.seeding import generator
from envs.common.structured import ConfigError
from envs.trajectory import BY_ROLLOUT, Step, Trajectory

Choose = Callable[[list[str] | None], str | None]
"""The next action, given the admissible ones; None: the episode is left as it is."""


class NotRepeatable(RuntimeError):
    """An environment did something else when the same actions were taken again."""


async def episodes(config: JudgeRunConfig, env: TextEnv, sampler: Sampler, console: Console) -> list[Trajectory]:
    """The episodes in the order of the split; those of a run that a fault cut off are left out."""
    tasks = env.tasks(config.split)[: config.episodes]
    planned = split_episodes(config.seed, tasks, -(-config.episodes // len(tasks)), config.split)[: config.episodes]
    if not config.run:
        name = sampler.env_id
        return [at_random(env, name, one.task_id, one.seed, one.split, one.sample_seed) for one in planned]
    played = [t for t in await sampler.play(planned, config.engine.temperature) if t.error is None]
    if len(played) < len(planned):
        console.print(f"{len(planned) - len(played)} episodes are left out: a fault cut them off")
    if not played:
        raise ConfigError(f"no episode of {config.run} was played to its end")
    return played


def told(config: JudgeRunConfig, episodes: Sequence[Trajectory], form: Form) -> list[Trajectory]:
    """The episodes as the judge reads them in this form."""
    if form.map is None:
        return list(episodes)
    # The question shows the action, or is not to: an observation that repeats it would blur the difference.
    actions = {"last_action": False} if hasattr(config.env.settings, "last_action") else {}
    try:
        env = registry.spec(config.env.name).env(replace(config.env.settings, map=form.map, **actions))
    except ValueError as error:
        raise ConfigError(f"forms.map: {error}") from error
    try:
        return [told_by(env, trajectory) for trajectory in episodes]
    finally:
        env.close()


def at_random(env: TextEnv, env_id: str, task_id: str, seed: int, split: str, sample_seed: int) -> Trajectory:
    """An episode of actions drawn among the admissible ones. Raises ConfigError if an environment lists none."""
    rng = generator(sample_seed, "random policy")

    def choose(admissible: list[str] | None) -> str:
        if not admissible:
            raise ConfigError(f"environment '{env.name}' does not list its actions, so none can be drawn: give run=runs/<name>")
        return admissible[int(rng.integers(len(admissible)))]

    trajectory = Trajectory(env_id, task_id, f"{task_id}#{sample_seed}", seed, split)
    return _play(env, trajectory, choose)


def told_by(env: TextEnv, trajectory: Trajectory) -> Trajectory:
    """The same actions as `env` tells of them. Raises NotRepeatable if another thing happens than did before."""
    actions = iter([step.action for step in _executed(trajectory)])
    t = trajectory
    again = Trajectory(t.env_id, t.task_id, t.group_id, t.seed, t.split, t.context, reseeded=t.reseeded)
    told = _play(env, again, lambda _: next(actions, None))
    if list(_happened(told)) != list(_happened(trajectory)):
        raise NotRepeatable(f"task {t.task_id} with seed {t.seed} went another way when it was played again with equal actions")
    if told.steps and t.cut_off in BY_ROLLOUT:
        told.steps[-1].truncated, told.reason = True, t.cut_off
    return told


def _executed(trajectory: Trajectory) -> list[Step]:
    """The steps that the environment knows of: not an answer that the context cut in two."""
    return [step for step in trajectory.steps if step.executed]


def _happened(trajectory: Trajectory) -> Iterator[tuple[object, ...]]:
    by_environment = trajectory.cut_off not in BY_ROLLOUT
    for step in _executed(trajectory):
        truncated = step.truncated and by_environment
        yield step.action, step.reward, step.terminated, truncated, step.subgoals, step.changed


def _play(env: TextEnv, trajectory: Trajectory, choose: Choose) -> Trajectory:
    observation, info = env.reset(seed=trajectory.seed, options={"task": trajectory.task_id})
    seeds, ended = dict(trajectory.reseeded), False
    while not ended and (action := choose(info["admissible_actions"])) is not None:
        seen, before = observation, info
        if (seed := seeds.get(len(trajectory.steps))) is not None:
            env.reseed(seed)
        observation, reward, terminated, truncated, info = env.step(action)
        trajectory.steps.append(Step.taken(seen, before, action, reward, terminated, truncated, info))
        ended = terminated or truncated
    if trajectory.steps:
        trajectory.final_observation, trajectory.reason = observation, info.get("reason")
        trajectory.final_state_key = info["state_key"]
        trajectory.success, trajectory.score = bool(info["success"]), float(info["score"])
    return trajectory
