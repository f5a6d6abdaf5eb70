"""The optional parts of an environment and its prompt: which are given, and what each brings."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from envs.base import NoOracle, StepResult, TaskError, TextEnv
from envs.checker.playing import Play, explore, replay
from envs.common.seeding import generator
from envs.prompt import Prompt

METHODS = {
    "demonstration": "a warm start by imitation, which model=tiny needs to begin with some successes",
    "imperfect_demonstration": "a warm start by worse demonstrators, which leaves reinforcement something to learn",
    "task_type": "success is reported by kind of task, too",
    "subgoals": "names of milestones: shaping=calm pays them, and judges are measured by them",
    "chance": "continuations draw chance anew, where it does not all come from the generator that start() got",
    "answer": "credit by how much likelier a turn made the true answer (algo=igpo)",
    "split_hash": "a resumed run notices that files its tasks are made of have changed",
}
FIELDS = {
    "admissible_actions": "engine.constrained=admissible or scored, and a list of them in the prompt",
    "subgoals": "which milestones are reached: rewards for them, without a judge",
    "changed": "no judge is asked about steps that changed nothing",
    "frame": "replays show the state as a picture in characters",
}
TEXTS = {
    "lexicon": "phrases and words that are tokens of the tiny model's",
    "plain": "shorter observations for the tiny model",
    "parse": "another form of free answers than <action>..</action>",
    "stop": "other strings than </action> that end a free answer",
    "answer_lead": "other words than `The answer is: ` before a task's true answer",
    "legend": "judges are told what the symbols of a map mean",
}


def hooks(env: TextEnv, prompt: type[Prompt] | None, play: Play) -> list[str]:
    """A line for each optional part: whether it is given (an episode tells which fields are), its name, what it brings."""
    filled = _filled(env, play)
    found = [(name, getattr(type(env), name) is not getattr(TextEnv, name), brings) for name, brings in METHODS.items()]
    found += [(f"StepResult.{name}", name in filled, brings) for name, brings in FIELDS.items()]
    how = " (here by its settings)" if "stochastic" in vars(env) else ""
    found.append(("stochastic", env.stochastic, f"the same state and action may go on differently{how}"))
    if prompt is not None:
        found += [(f"Prompt.{name}", getattr(prompt, name) != getattr(Prompt, name), brings) for name, brings in TEXTS.items()]
    width = max(len(name) for name, _, _ in found)
    return [f"  {'yes' if given else 'no ':<3}  {name:<{width}}  {brings}" for name, given, brings in found]


def _filled(env: TextEnv, play: Play) -> set[str]:
    """Names of the optional fields that any StepResult fills, of an episode with drawn actions and of a demonstration."""
    filled: set[str] = set()

    def note(turn: StepResult) -> StepResult:
        filled.update(name for name in FIELDS if getattr(turn, name) not in (None, ()))
        return turn

    start, act = env.start, env.act
    env.start = lambda task_id, rng: note(start(task_id, rng))  # type: ignore[method-assign]
    env.act = lambda action: note(act(action))  # type: ignore[method-assign]
    explore(env, play)
    with suppress(NoOracle, TaskError):  # who wins reaches what drawn actions do not
        task = play.task or env.tasks("train")[0]
        actions = env.demonstration(task, generator(play.seed, "demonstration"))
        replay(env, replace(play, actions=tuple(actions)))
    return filled
