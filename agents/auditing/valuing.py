"""The first half of an audit: episodes are played, their states valued, and the true advantages of their decisions known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from rich.console import Console
from rich.progress import Progress

from agents.auditing import allocation, playing
from agents.auditing.allocation import Plan
from agents.auditing.playing import AuditError, Round, Store
from agents.auditing.states import Decisions, States, of_steps, of_tokens
from agents.auditing.truth import Truth, Values
from agents.config.commands import AuditConfig
from agents.rollout.sampler import Sampler
from agents.training.experience import Experience
from algorithms.base import Bools, Floats, Ints
from envs.base import TextEnv
from envs.common.seeding import generator
from envs.trajectory import CONTEXT, Trajectory


@dataclass(eq=False)
class Valued:
    """Episodes whose decisions' true advantages are known."""

    trajectories: list[Trajectory]
    """[N] that methods credit: not those that a fault cut off."""
    left_out: int
    """Episodes that were played and are not credited."""
    states: int
    """Number of different states before steps."""
    chosen: Bools
    """[T] sampled tokens at which there was a choice."""
    steps: Truth
    """Of all steps [S]."""
    tokens: Truth | None
    """Of the choices within some steps."""
    again: Ints
    """Steps that are credited again under other futures, by number; [] where that is not asked for."""
    futures: list[list[Trajectory]]
    """The episodes of these futures; of a last step, which has none, the episode itself."""

    @property
    def groups(self) -> Ints:
        """[N] numbers; episodes of one task have the same."""
        return np.unique([one.task_id for one in self.trajectories], return_inverse=True)[1].astype(np.int64)


async def valued(config: AuditConfig, sampler: Sampler, env: TextEnv, store: Store, console: Console) -> Valued:
    """Play and value, or go on with what the store holds. Raises AuditError."""
    size, temperature = config.rollout.group_size, config.engine.temperature
    plan = playing.planned(env, config.split, config.episodes // size, size, config.seed)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        watch = partial(playing.watching, progress)
        groups = await playing.episodes(sampler, plan, temperature, store, store.groups, "episodes", watch("episodes"))
        won = sum(one.success for group in groups for one in group)
        console.print(f"episodes: {len(plan)}, of which {won} were won", highlight=False)
        trajectories = credited([one for group in groups for one in group], config.rollout.out_of_context == "drop")
        states = States(trajectories)
        steps = of_steps(states, config.gamma)
        of_states = len(states)
        experience = _experience(trajectories, config, sampler)
        chosen = experience.chosen.numpy()
        tokens = of_tokens(states, steps, chosen, inside(steps, chosen, config.tokens, config.seed), config.cuts)
        again = drawn(np.arange(len(steps)), config.futures, config.seed, "futures")
        after = sorted({int(state) for state in steps.after[again] if state >= 0})
        uses = steps.uses(len(states)) + tokens.uses(len(states))
        rounds = affordable(config, states, uses)
        counts = allocation.first_round(uses, rounds)
        console.print(f"states: {len(states)}; first round: {counts.sum()} continuations", highlight=False)
        first = Round.of("first round", states, counts, config.seed)
        found = await playing.returns(sampler, first, temperature, config.gamma, store, after, watch("first round"))
        if config.allocation == "uniform":
            counts = allocation.first_round(uses, Plan(rounds.mean - rounds.first, rounds.mean))
        else:
            spread = np.sqrt(found.moderate(len(states)))
            counts = allocation.second_round(uses, spread, left(config, store, rounds, int(counts.sum())))
        console.print(f"second round: {counts.sum()} continuations", highlight=False)
        second = Round.of("second round", states, counts, config.seed)
        further = await playing.returns(sampler, second, temperature, config.gamma, store, (), watch("second round"))
    values = Values.of(found, further, rounds.share, len(states))
    played = playing.futures(store, first, after)
    return Valued(
        trajectories,
        config.episodes - len(trajectories),
        of_states,
        chosen,
        Truth(steps, values),
        Truth(tokens, values) if len(tokens) else None,
        again,
        [played.get(int(steps.after[one]), [trajectories[int(steps.episode[one])]]) for one in again],
    )


def credited(trajectories: Sequence[Trajectory], drops: bool) -> list[Trajectory]:
    """Those that an update would learn from; drops: not from episodes that outgrew the context. Raises AuditError."""
    kept = [t for t in trajectories if t.error is None and t.steps and not (drops and t.cut_off == CONTEXT)]
    if not kept:
        faults = [t.error for t in trajectories if t.error is not None]
        raise AuditError(
            f"none of the {len(trajectories)} episodes can be credited: "
            + (f"{len(faults)} were cut off by a fault (the first: {faults[0]})" if faults else "the context is too short")
        )
    return kept


def inside(steps: Decisions, chosen: Bools, most: int, seed: int) -> Ints:
    """Numbers of `most` steps, drawn among those within whose response there is more than one choice."""
    first, end = steps.tokens.T
    sums = np.append(0, np.cumsum(chosen))
    return drawn(np.flatnonzero(sums[end] - sums[first] > 1), most, seed, "tokens")


def drawn(among: Ints, most: int, seed: int, name: str) -> Ints:
    """At most so many of them, in their order; which ones depends on nothing that is measured."""
    chosen = generator(seed, "audit", name).permutation(len(among))[:most]
    return among[np.sort(chosen)]


def affordable(config: AuditConfig, states: States, uses: Floats) -> Plan:
    """The plan of continuations that the budgets allow, by how long the episodes went on from each state. Raises AuditError."""
    remaining: dict[str, Floats] = {}
    for name in ("step_budget", "token_budget"):
        remaining[name] = np.array([_rest(states, number, name) for number in range(len(states))])
    plan: Plan | None = Plan.of(config.continuations)
    for name, cost in remaining.items():
        budget = getattr(config, name)
        smaller = None if plan is None else allocation.affordable(plan, cost, uses, budget)
        if plan is not None and smaller is None:
            least = allocation.Plan.of(2 * allocation.LEAST)
            needed = 2 * float((allocation.first_round(uses, least) * cost).sum())
            raise AuditError(
                f"{name} is {budget}, and {2 * allocation.LEAST} continuations of each of the {len(states)} states, the fewest "
                f"that tell an error, take about {needed:.0f}: raise it, or audit fewer episodes"
            )
        plan = smaller
    assert plan is not None
    return plan


def left(config: AuditConfig, store: Store, plan: Plan, played: int) -> int:
    """Continuations that the second round may have: those that were planned, or fewer where the first took more of a budget."""
    wanted = round(played / plan.share) - played
    spent = store.costs.get("first round", {})
    for budget, name in ((config.step_budget, "steps"), (config.token_budget, "sampled")):
        if budget is not None and spent.get(name):
            wanted = min(wanted, int((budget - spent[name]) / (spent[name] / played)))
    return wanted


def _rest(states: States, number: int, name: str) -> float:
    """What the episode that first was in a state took from there on: steps, or sampled tokens."""
    met = states.met[number]
    rest = states.trajectories[met.episode].steps[met.step :]
    return float(len(rest) if name == "step_budget" else sum(len(step.response_ids) for step in rest))


def _experience(trajectories: Sequence[Trajectory], config: AuditConfig, sampler: Sampler) -> Experience:
    player = sampler.player
    tries = player.dialogue.tries if config.engine.constrained == "admissible" else None
    return Experience.of(trajectories, tries, player.scoring)
