"""Episodes continued from any of their steps: what is shared, what is drawn anew, what is refused, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import sqrt
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from agents.models.memory import OwnCaches
from agents.rollout.branching import Branch, BranchError, continued
from agents.rollout.choice import Scoring
from agents.rollout.engines.base import Completion, Request, Weights, uniforms
from agents.rollout.engines.hf import HFEngine
from agents.rollout.engines.scripted import ScriptedEngine
from agents.rollout.episode import derive_seed
from agents.rollout.gate import Gate
from agents.rollout.planner import branches_at
from agents.rollout.sampler import Sampler
from envs import trajectory_file
from envs.pool import Pool
from envs.trajectory import Trajectory
from tests.agents.rollout.test_sampler import corridor_policy, episodes, sampler, writes
from tests.envs.toys import Corridor, CorridorConfig, Fixed, Moody, Slippery

CORRIDOR = partial(Corridor, CorridorConfig())
SHORT = partial(Corridor, CorridorConfig(max_steps=5))
SLIPPERY = partial(Slippery, CorridorConfig(slippery=0.5, max_steps=8))


def run(engine: Any, env: Any, work: Callable[[Sampler], Any], mode: str = "inline", **settings: Any) -> Any:
    """`work` with a sampler that lives as long."""
    with Pool(env, workers=2, mode=mode, step_timeout=1.0) as pool:  # type: ignore[arg-type]
        return asyncio.run(work(sampler(engine, pool, **settings)))


def at_random(request: Request) -> list[int]:
    """Left, right or wait, by the request's seed."""
    draw = uniforms(np.array([request.seed], dtype=np.uint64), np.zeros(1, dtype=np.uint64))[0]
    return writes(("left", "right", "look")[int(3 * draw)])


def everywhere(parents: Sequence[Trajectory], count: int = 2) -> list[Branch]:
    return [branch for one in parents for step in range(len(one.steps)) for branch in branches_at(3, one, step, count)]


def texts(played: Sequence[Trajectory]) -> list[list[tuple[str, str]]]:
    return [[(step.observation, step.action) for step in one.steps] for one in played]


# -- what is drawn -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_the_order_of_branches_and_how_many_play_at_once_change_nothing(mode: str) -> None:
    policy = corridor_policy()

    async def work(made: Sampler) -> None:
        parents = await made.play(episodes(3), 1.0)
        branches = everywhere(parents)
        expected = dict(zip([b.name for b in branches], await continued(made, branches, 1.0), strict=True))
        Random(1).shuffle(branches)
        for few in (1, 3):
            found = await continued(replace(made, concurrency=few), branches, 1.0)
            assert [one.name for one in found] == [branch.name for branch in branches]
            assert texts(found) == texts([expected[branch.name] for branch in branches])

    run(HFEngine(policy, max_batch=8), SLIPPERY, work, mode, constrained=True, concurrency=8)


def test_the_mean_over_continuations_is_the_value_of_the_state() -> None:
    """Who goes right, left or nowhere with probability 1/3 each on slippery ground gets out with a known probability."""
    count = 600

    async def work(made: Sampler) -> list[tuple[Branch, float]]:
        parents = [one for one in await made.play(episodes(9), 1.0) if len(one.steps) > 4][:2]
        places = [(one, step) for one in parents for step in (1, 4)]
        branches = [branch for one, step in places for branch in branches_at(0, one, step, count)]
        children = await continued(made, branches, 1.0)
        returns = np.array([child.total_reward for child in children]).reshape(len(places), count)
        return list(zip(branches[::count], returns.mean(1).tolist(), strict=True))

    def value(length: int, cell: int, left: int) -> float:
        """By dynamic programming."""
        out = np.zeros(length + 1)
        out[length] = 1.0
        for _ in range(left):
            moved = [(out[max(0, c - 1)] + out[min(length, c + 1)] + out[c]) / 3 for c in range(length)]
            out[:length] = 0.5 * np.array(moved) + 0.5 * out[:length]
        return float(out[cell])

    found = run(ScriptedEngine(at_random), SLIPPERY, work)
    for branch, mean in found:
        length, cell = map(int, branch.parent.steps[branch.step].state_key.split(":"))
        expected = value(length, cell, 8 - branch.step)
        assert abs(mean - expected) < 4 * sqrt(expected * (1 - expected) / count) + 1e-9
    assert len({round(mean, 2) for _, mean in found}) > 1


def test_chance_after_a_branch_is_drawn_anew_by_the_seed_or_goes_on_as_it_did() -> None:
    async def work(made: Sampler) -> None:
        [parent] = await made.play([replace(episodes(3)[2], seed=4)], 1.0)
        for chance in (True, False):
            branches = [Branch(parent, 2, seed, chance=chance) for seed in range(10)]
            children = await continued(made, branches, 1.0)
            ways = {tuple(step.state_key for step in child.steps) for child in children}
            assert (len(ways) > 1) is chance
            assert texts(await continued(made, branches, 1.0)) == texts(children)
            assert all(len(child.reseeded) == chance for child in children)
            if not chance:
                assert ways == {tuple(step.state_key for step in parent.steps)}

    run(ScriptedEngine(lambda r: writes("right")), SLIPPERY, work)


def test_what_was_branched_is_branched_again_before_at_and_after_where_it_left() -> None:
    async def work(made: Sampler) -> None:
        [parent] = await made.play([episodes(3)[2]], 1.0)
        child, _ = await continued(made, [Branch(parent, 2, seed) for seed in (5, 6)], 1.0)
        for step in range(len(child.steps) + 1):
            [again] = await continued(made, [Branch(child, step, 5, chance=False)], 1.0)
            if step >= 2:
                assert again.steps == child.steps
                assert again.reseeded == child.reseeded
            assert again.parent == (child.name, step)
            [grandchild] = await continued(made, [Branch(child, step, 77)], 1.0)
            assert all(mine is theirs for mine, theirs in zip(grandchild.steps[:step], child.steps))
            for later in range(step, len(grandchild.steps)):
                [once_more] = await continued(made, [Branch(grandchild, later, 77, chance=False)], 1.0)
                assert once_more.steps == grandchild.steps

    run(ScriptedEngine(at_random), SLIPPERY, work)


def test_seeds_are_named_by_parent_place_and_number_and_more_of_them_begin_alike() -> None:
    parent = Trajectory("e", "t", "g", 0, "train", name="g/1")
    few, many = branches_at(7, parent, 0, 3), branches_at(7, parent, 0, 40)
    assert many[:3] == few
    assert len({branch.sample_seed for branch in many}) == 40
    others = [*branches_at(8, parent, 0, 40), *branches_at(7, replace(parent, name="g/2"), 0, 40)]
    assert not {branch.sample_seed for branch in many} & {branch.sample_seed for branch in others}


# -- what is shared ----------------------------------------------------------------------------------------------------------


def engine_of(kind: str) -> HFEngine:
    policy = corridor_policy()
    if kind in ("chunks", "tokens"):
        policy.kept = kind  # type: ignore[assignment]
    return HFEngine(policy, lean=kind == "lean")


@pytest.mark.parametrize("kind", ["lean", "slots", "chunks", "tokens"])
@pytest.mark.parametrize("context", ["full", "window"])
def test_the_tokens_that_continuations_share_are_computed_once(kind: str, context: str) -> None:
    engine = engine_of(kind)
    assert isinstance(engine._memory, OwnCaches) == (kind in ("chunks", "tokens"))

    async def work(made: Sampler) -> None:
        [parent] = await made.play([episodes(3)[2]], 1.0)
        # What the model had read before each step, without the last token of it.
        ids: list[int] = []
        prompts: list[list[int]] = []
        for step in parent.steps:
            ids = [*(ids if context == "full" else []), *step.prompt_ids]
            prompts.append(ids[:-1])
            ids = [*ids, *step.response_ids]
        read = len(prompts[0])
        for before, prompt in pairwise(prompts):
            shared = next((i for i, (a, b) in enumerate(zip(before, prompt)) if a != b), min(len(before), len(prompt)))
            whole = kind in ("lean", "slots") or shared == len(before)
            read += len(prompt) - (shared if whole else 0)
        others = engine.stats.take()
        branches = everywhere([parent], 4)
        Random(0).shuffle(branches)
        children = await continued(made, branches, 1.0)
        counts = made.branched.take()
        alone = 0
        for child in children:
            assert child.parent is not None
            own = child.steps[child.parent[1] :]
            if context == "full":
                alone += 1 + sum(len(s.prompt_ids) for s in own[1:]) + sum(len(s.response_ids) for s in own) - 1
            else:
                rest = [len(s.prompt_ids) + len(s.response_ids) - 1 for s in own]
                alone += 1 + len(own[0].response_ids) - 1 + sum(rest[1:])
        if context == "full":
            assert counts["computed"] == read + alone
        else:
            assert counts["computed"] <= read + alone  # windows of one episode begin alike, too
        assert counts["sampled"] == sum(len(s.response_ids) for child in children for s in child.steps[child.parent[1] :])
        assert counts["steps"] == sum(len(child.steps) - child.parent[1] for child in children)
        assert counts["replayed"] == sum(child.parent[1] for child in children)
        assert (counts["episodes"], counts["faults"]) == (len(children), 0)
        assert others["computed"] > 0
        assert not any(value for key, value in engine.stats.take().items() if key != "forwards")
        assert made.branched.take()["computed"] == 0
        assert not engine._held
        assert not engine._slots
        assert not engine._apart

    run(engine, SHORT, work, context=context)


@pytest.mark.parametrize("kind", ["lean", "slots", "chunks", "tokens"])
def test_what_is_held_for_others_gives_the_numbers_of_reading_it(kind: str) -> None:
    class Forgetful(HFEngine):
        async def hold(self, session: str, ids: Sequence[int]) -> None:
            pass

    policy = engine_of(kind).policy

    async def work(made: Sampler) -> list[Trajectory]:
        parents = await made.play(episodes(2), 1.0)
        return await continued(made, everywhere(parents, 2), 1.0)

    mine = run(HFEngine(policy, lean=kind == "lean"), SHORT, work)
    other = run(Forgetful(policy, lean=kind == "lean"), SHORT, work)
    assert texts(mine) == texts(other)
    for one, two in zip(mine, other, strict=True):
        for left, right in zip(one.steps, two.steps, strict=True):
            assert left.response_ids == right.response_ids
            assert left.rollout_logprobs == pytest.approx(right.rollout_logprobs, abs=1e-4)


def test_new_weights_in_between_drop_what_is_held_and_kept_tokens_keep_their_version() -> None:
    engine = HFEngine(corridor_policy())

    async def work(made: Sampler) -> None:
        [parent] = await made.play([episodes(3)[2]], 1.0)
        named = engine.policy.named_tensors()
        await engine.update_weights(Weights(1, {name: tensor * 1.1 for name, tensor in named.items()}))
        step = next(i for i, s in enumerate(parent.steps) if len(s.response_ids) > 2)
        branches = [Branch(parent, step, seed, token) for seed in range(6) for token in (0, 2)]
        changing = asyncio.create_task(continued(made, branches, 1.0))
        for _ in range(9):
            await asyncio.sleep(0)
        assert engine._held
        await engine.update_weights(Weights(2, {name: tensor * 1.2 for name, tensor in named.items()}))
        assert not engine._held
        for branch, child in zip(branches, await changing, strict=True):
            own = child.steps[step]
            assert own.token_versions[: branch.token] == [0] * branch.token
            assert set(own.token_versions[branch.token :]) <= {1, 2}
            assert own.weights_version == min(own.token_versions)
            assert own.rollout_logprobs[: branch.token] == parent.steps[step].rollout_logprobs[: branch.token]

    run(engine, CORRIDOR, work)


def test_continuations_pass_a_gate_and_are_counted_apart_there_too() -> None:
    engine = HFEngine(corridor_policy())

    async def work(made: Sampler) -> None:
        parents = await made.play(episodes(2), 1.0)
        engine.stats.take()
        player = replace(made.player, engine=Gate(engine))
        found = await continued(replace(made, player=player), everywhere(parents), 1.0)
        assert texts(found) == texts(await continued(made, everywhere(parents), 1.0))
        assert engine.stats.take()["computed"] == 0

    run(engine, CORRIDOR, work)


def test_tokens_of_chosen_actions_are_counted_apart() -> None:
    async def work(made: Sampler) -> None:
        player = replace(made.player, scoring=Scoring(made.player.dialogue.tries))
        made = replace(made, player=player)
        parents = await made.play(episodes(2), 1.0)
        assert made.player.engine.stats.take()["sampled"] > 0
        children = await continued(made, everywhere(parents), 1.0)
        own = sum(len(s.response_ids) for child in children for s in child.steps[child.parent[1] :])
        assert made.branched.take()["sampled"] == own
        assert made.player.engine.stats.take()["sampled"] == 0

    run(HFEngine(corridor_policy()), CORRIDOR, work)


# -- ends, faults and refusals -----------------------------------------------------------------------------------------------


@pytest.mark.fault("an environment fails in a branch", lost="the branch")
@pytest.mark.parametrize(("word", "mode"), [("raise", "inline"), ("hang", "threads"), ("die", "processes")])
def test_a_fault_in_a_continuation_stays_alone_and_is_never_a_success(word: str, mode: str) -> None:
    bad = {derive_seed(13, t) for t in range(99)}

    def script(request: Request) -> list[int]:
        return writes(word if request.seed in bad else "look")

    async def work(made: Sampler) -> None:
        parents = await made.play(episodes(2), 1.0)
        branches = [Branch(one, 3, seed) for one in parents for seed in (12, 13, 14)]
        children = await continued(made, branches, 1.0)
        assert [child.error is not None for child in children] == [branch.sample_seed == 13 for branch in branches]
        for branch, child in zip(branches, children, strict=True):
            assert child.steps[:3] == branch.parent.steps[:3]
            if child.error is None:
                assert texts([child]) == texts([branch.parent])
            else:
                assert not child.success
                assert child.attempt == made.retries
                assert child.parent == (branch.parent.name, 3)
        assert made.branched.take()["faults"] == 2

    if mode == "processes":  # whose neighbors a death costs, too: they are played again
        run(ScriptedEngine(script), partial(Moody, CorridorConfig(max_steps=6)), work, mode, retries=6, concurrency=1)
    else:
        run(ScriptedEngine(script), partial(Moody, CorridorConfig(max_steps=6)), work, mode, retries=1)


def test_an_episode_that_a_fault_cut_off_goes_on_after_its_last_step() -> None:
    faulty = [True]

    def script(request: Request) -> list[int]:
        return writes("raise" if faulty[0] and request.seed == derive_seed(102, 3) else "look")

    async def work(made: Sampler) -> None:
        [parent] = await made.play([episodes(3)[2]], 1.0)
        assert parent.error is not None
        assert len(parent.steps) == 3
        faulty[0] = False
        [child] = await continued(made, [Branch(parent, 3, 102)], 1.0)
        assert child.error is None
        assert len(child.steps) == 6
        assert child.steps[:3] == parent.steps

    run(ScriptedEngine(script), partial(Moody, CorridorConfig(max_steps=6)), work, retries=0)


def test_after_its_end_an_episode_ends_as_it_did_and_nothing_is_played() -> None:
    asked: list[Request] = []

    async def work(made: Sampler) -> None:
        parents = await made.play(episodes(9), 1.0)
        assert len({one.success for one in parents}) == 2
        asked.clear()
        told: list[Trajectory] = []
        children = await continued(made, [Branch(one, len(one.steps), 5) for one in parents], 1.0, told.append)
        assert not asked
        assert told == children
        for child, parent in zip(children, parents, strict=True):
            assert child == replace(parent, name=child.name, parent=(parent.name, len(parent.steps)))
            assert child.steps is not parent.steps
        assert made.branched.take() == dict.fromkeys(made.branched.take(), 0) | {"episodes": 9}

    def script(request: Request) -> list[int]:
        asked.append(request)
        return at_random(request)

    run(ScriptedEngine(script), SHORT, work)


def test_an_environment_that_goes_another_way_is_refused_by_name_and_step() -> None:
    async def play(made: Sampler) -> list[Trajectory]:
        return await made.play(episodes(12), 1.0)

    parents = run(ScriptedEngine(lambda r: writes("right")), partial(Corridor, CorridorConfig(slippery=0.5)), play)
    parent = next(one for one in parents if len(one.steps) > 3 and one.steps[0].state_key == one.steps[1].state_key)

    async def go_on(made: Sampler) -> None:
        with pytest.raises(BranchError, match=r"environment test, task length-\d, seed \d.* at step 1 its state .* settings"):
            await continued(made, [Branch(parent, 2, 5), Branch(parent, 1, 6)], 1.0)

    run(ScriptedEngine(lambda r: writes("right")), CORRIDOR, go_on)


def test_an_environment_that_shows_something_else_is_refused() -> None:
    class Wordy(Corridor):
        def _turn(self, text: str, valid: bool = True) -> Any:
            turn = super()._turn(text, valid)
            turn.observation += " It is cold."
            return turn

    [parent, *_] = run(ScriptedEngine(lambda r: writes("look")), CORRIDOR, lambda made: made.play(episodes(1), 1.0))

    async def go_on(made: Sampler) -> None:
        with pytest.raises(BranchError, match=r"at step 0 it shows .* cold"):
            await continued(made, [Branch(parent, 1, 5)], 1.0)

    run(ScriptedEngine(lambda r: writes("look")), partial(Wordy, CorridorConfig()), go_on)


def test_stochastic_environments_that_cannot_draw_chance_anew_are_refused_unless_that_is_wanted() -> None:
    async def work(made: Sampler) -> None:
        [parent] = await made.play(episodes(1), 1.0)
        with pytest.raises(BranchError, match=r"environment test is stochastic .*chance\(rng\)"):
            await continued(made, [Branch(parent, 1, 5)], 1.0)
        [child] = await continued(made, [Branch(parent, 1, 5, chance=False)], 1.0)
        assert texts([child]) == texts([parent])

    run(ScriptedEngine(lambda r: writes("look")), partial(Fixed, CorridorConfig(slippery=0.5)), work)


def test_what_cannot_be_continued_is_refused_before_anything_is_played() -> None:
    async def work(made: Sampler) -> None:
        [parent] = await made.play(episodes(1), 1.0)
        refusals = {
            "played in other": replace(parent, env_id="other"),
            "env.context=window": replace(parent, context="window"),
            "no tokens": replace(parent, steps=[replace(step, prompt_ids=[]) for step in parent.steps]),
        }
        for why, wrong in refusals.items():
            with pytest.raises(BranchError, match=why):
                await continued(made, [Branch(parent, 1, 5), Branch(wrong, 1, 5)], 1.0)
        silent = replace(parent, steps=[replace(step, rollout_logprobs=[]) for step in parent.steps])
        with pytest.raises(BranchError, match="no log-probabilities"):
            await continued(made, [Branch(silent, 1, 5, token=1)], 1.0)
        scored = replace(made, player=replace(made.player, scoring=Scoring(made.player.dialogue.tries)))
        with pytest.raises(BranchError, match="scored"):
            await continued(scored, [Branch(parent, 1, 5, token=1)], 1.0)
        prompted = replace(parent, steps=[replace(step, prompt_ids=[*step.prompt_ids, 9]) for step in parent.steps])
        with pytest.raises(BranchError, match="another prompt"):
            await continued(made, [Branch(prompted, 1, 5)], 1.0)
        assert made.branched.episodes == 0

    run(ScriptedEngine(lambda r: writes("look")), CORRIDOR, work)


@pytest.mark.parametrize(("step", "token"), [(-1, 0), (4, 0), (0, 2), (0, -1), (3, 1)])
def test_a_place_that_an_episode_does_not_have_is_refused(step: int, token: int) -> None:
    async def play(made: Sampler) -> list[Trajectory]:
        return await made.play(episodes(1), 1.0)

    [parent] = run(ScriptedEngine(lambda r: writes("look")), partial(Corridor, CorridorConfig(max_steps=3)), play)
    assert len(parent.steps[0].response_ids) == 2
    with pytest.raises(ValueError, match="g0/0"):
        Branch(parent, step, 5, token)


def test_continuations_are_written_and_read_with_their_parents(tmp_path: Path) -> None:
    async def work(made: Sampler) -> list[Trajectory]:
        parents = await made.play(episodes(2), 1.0)
        children = await continued(made, everywhere(parents), 1.0)
        return [*parents, *children, *await continued(made, everywhere(children[-3:], 1), 1.0)]

    played = run(ScriptedEngine(at_random), SLIPPERY, work)
    trajectory_file.write(tmp_path / "played.jsonl.gz", played)
    read = list(trajectory_file.read(tmp_path / "played.jsonl.gz"))
    assert read == played
    names = {one.name for one in read}
    assert len(names) == len(read)
    assert all(one.parent is None or one.parent[0] in names for one in read)

    async def go_on(made: Sampler) -> list[Trajectory]:
        return await continued(made, everywhere(read[-2:], 1), 1.0)

    assert all(one.error is None for one in run(ScriptedEngine(at_random), SLIPPERY, go_on))


def test_a_continuation_may_end_at_once_and_does_not_touch_the_step_that_it_shares() -> None:
    class Full(ScriptedEngine):
        """Can read no more."""

        full = False

        async def generate(self, request: Request) -> Completion:
            return Completion([], [], "context", []) if self.full else await super().generate(request)

    engine = Full(lambda r: writes("look"))

    async def work(made: Sampler) -> None:
        [parent] = await made.play(episodes(1), 1.0)
        engine.full = True
        [child] = await continued(made, [Branch(parent, 2, 5)], 1.0)
        assert child.cut_off == "context"
        assert child.steps[1].truncated
        assert not parent.steps[1].truncated
        assert child.steps[0] is parent.steps[0]

    run(engine, CORRIDOR, work)
