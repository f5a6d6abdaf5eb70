"""The estimator on a world of tables: values, advantages and the values within responses are those of dynamic programming."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from agents.auditing import playing
from agents.auditing.playing import AuditError, Store
from agents.auditing.states import END, States, of_steps
from agents.auditing.valuing import Valued, valued
from agents.config.commands import AuditConfig
from agents.config.loading import load, load_audit
from algorithms.base import Floats
from envs import trajectory_file
from envs.trajectory import Step, Trajectory
from tests.agents.auditing.tabular import ACTIONS, action_values, advantages, policy, table_engine, values  # noqa: F401
from tests.agents.parts import Parts, opened

WORDS = ("env=table", "engine.name=table", "env.pool.mode=inline", "model.tiny.hidden=32", "rollout.group_size=4")


def made(*words: str) -> AbstractContextManager[Parts]:
    return opened(load([*WORDS, "warmstart.enabled=false", *words]))


@cache
def config(*words: str) -> AuditConfig:
    return load_audit([*WORDS, *words])


def value_with(parts: Parts, folder: Path, asked: AuditConfig) -> Valued:
    return parts.runner.run(valued(asked, parts.sampler, parts.env, Store(folder), Console(quiet=True)))


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with made() as parts:
        yield parts


def exact(found: Valued, slips: float = 0.0) -> Floats:
    """[S] the true advantage of each step."""
    return advantages(found.trajectories, slips)


def test_an_advantage_is_within_two_standard_errors_of_the_exact_one_for_95_percent_of_steps(
    parts: Parts, tmp_path: Path
) -> None:
    for seed in range(3):
        found = value_with(parts, tmp_path / str(seed), replace(config("episodes=64", "futures=0"), seed=seed))
        off = np.abs(found.steps.advantage - exact(found))
        assert found.steps.known.all()
        assert np.mean(off <= 2 * found.steps.error) >= 0.95
        assert np.mean(off <= found.steps.error) < 0.95, "or the errors would be too large to mean anything"


def test_in_a_world_without_chance_the_advantage_is_that_of_the_exact_q(parts: Parts, tmp_path: Path) -> None:
    """What `exact` computes from the state that was reached is Q of the action less V, as the textbook has it."""
    found = value_with(parts, tmp_path, config("episodes=16", "continuations=4", "futures=0"))
    expected = []
    for trajectory in found.trajectories:
        value = values(trajectory.task_id)
        for t, step in enumerate(trajectory.steps):
            q = action_values(trajectory.task_id, t, value)[int(step.state_key), ACTIONS.index(step.action)]
            expected.append(q - value[t, int(step.state_key)])
    assert exact(found) == pytest.approx(np.array(expected))


def test_over_200_repetitions_the_estimator_is_unbiased(parts: Parts, tmp_path: Path) -> None:
    asked = config("episodes=4", "continuations=6", "futures=0")
    value_with(parts, tmp_path / "first", asked)
    steps, variances = [], []
    for seed in range(200):
        (tmp_path / str(seed)).mkdir()
        shutil.copy(tmp_path / "first" / "episodes.jsonl", tmp_path / str(seed))  # the same episodes, valued anew
        found = value_with(parts, tmp_path / str(seed), replace(asked, seed=seed + 1))
        steps.append(found.steps.advantage)
        variances.append(found.steps.variance)
    off = np.array(steps) - exact(found)
    spread = off.std(axis=0) / np.sqrt(len(off))
    z = off.mean(axis=0)[spread > 1e-9] / spread[spread > 1e-9]
    assert len(z) > 10
    assert abs(z.mean()) < 0.5
    assert np.abs(z).max() < 4
    assert np.abs(off.mean(axis=0)[spread <= 1e-9]).max(initial=0) < 1e-9
    assert np.mean(variances) == pytest.approx(off.var(), rel=0.1)


def test_chance_in_the_environment_is_part_of_the_value(tmp_path: Path) -> None:
    with made("env.slips=0.4") as parts:
        found = value_with(parts, tmp_path, config("env.slips=0.4", "episodes=64", "continuations=16", "futures=0"))
        off = found.steps.advantage - exact(found, slips=0.4)
    assert np.mean(np.abs(off) <= 2 * found.steps.error) >= 0.95
    assert abs(off.mean()) < 0.01
    assert np.corrcoef(found.steps.advantage, exact(found, slips=0.4))[0, 1] > 0.9


def test_values_within_a_response_are_those_of_what_is_said_so_far(parts: Parts, tmp_path: Path) -> None:
    """Of "go on", the first token leaves "go back" possible: its advantage is that of both together."""
    found = value_with(parts, tmp_path, config("episodes=32", "continuations=32", "futures=0", "tokens=1000"))
    assert found.tokens is not None
    decisions, truth = found.tokens.decisions, found.tokens
    steps = [step for trajectory in found.trajectories for step in trajectory.steps]
    times = [t for trajectory in found.trajectories for t in range(len(trajectory.steps))]
    tasks = [trajectory.task_id for trajectory in found.trajectories for _ in trajectory.steps]
    expected: dict[int, list[float]] = {}
    for number, (step, t, task) in enumerate(zip(steps, times, tasks)):
        state = int(step.state_key)
        q, pi = action_values(task, t, values(task))[state], policy()[state]
        go = (q[:2] @ pi[:2]) / pi[:2].sum()
        if step.action != "rest":
            expected[number] = [go - q @ pi, q[ACTIONS.index(step.action)] - go]
    assert set(decisions.step.tolist()) == set(expected), "where there was one choice, nothing is divided"
    exactly = np.concatenate([expected[number] for number in sorted(expected)])
    assert len(exactly) == len(truth.advantage)
    assert np.mean(np.abs(truth.advantage - exactly) <= 2 * truth.error) >= 0.95
    assert np.corrcoef(truth.advantage, exactly)[0, 1] > 0.85


def test_a_state_that_several_episodes_share_is_valued_once(parts: Parts, tmp_path: Path) -> None:
    found = value_with(parts, tmp_path, config("episodes=16", "continuations=8", "futures=0"))
    before, steps = found.steps.decisions.before, [step for t in found.trajectories for step in t.steps]
    firsts = np.cumsum([0, *(len(t.steps) for t in found.trajectories)])[:-1]
    assert len(set(before[firsts].tolist())) == 4, "the episodes of a group begin in one state"
    assert found.states < len(steps)
    counts = found.steps.values.counts
    assert counts[0, before[firsts]].min() > np.median(counts[0]), "and there more continuations tell of more steps"


def test_the_same_state_after_another_conversation_is_another_one() -> None:
    def episode(*turns: tuple[str, list[int], list[int]], context: str = "full") -> Trajectory:
        steps = [Step("", "", state_key=key, prompt_ids=read, response_ids=said) for key, read, said in turns]
        return Trajectory("e", "task", "g", 0, "train", context, steps=steps)

    here, other = ("a", [1], [5]), ("a", [1], [6])
    there = ("b", [2], [7])
    for context, expected in (("full", [0, 1, 0, 2]), ("window", [0, 1, 0, 1])):
        states = States([episode(here, there, context=context), episode(other, there, context=context)])
        assert of_steps(states, 1.0).before.tolist() == expected
        assert of_steps(states, 1.0).after.tolist() == [expected[1], END, expected[3], END]


@pytest.mark.fault("kill -9 in an audit", lost="the continuation that was being written")
def test_an_audit_that_was_stopped_goes_on_and_finds_the_same(parts: Parts, tmp_path: Path) -> None:
    asked = config("episodes=16", "continuations=8", "tokens=5", "futures=10")
    whole = value_with(parts, tmp_path / "whole", asked)
    value_with(parts, tmp_path / "cut", asked)
    for name, kept in (("episodes.jsonl", 0.4), ("continuations.jsonl", 0.3), ("futures.jsonl", 0.5)):
        file = tmp_path / "cut" / name
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * kept)])  # in the middle of a line
    again = value_with(parts, tmp_path / "cut", asked)
    assert again.steps.advantage.tolist() == whole.steps.advantage.tolist()
    assert again.tokens is not None
    assert whole.tokens is not None
    assert again.tokens.advantage.tolist() == whole.tokens.advantage.tolist()
    played = [json.loads(line)["name"] for line in (tmp_path / "cut" / "continuations.jsonl").read_text().splitlines()]
    assert len(set(played)) == len(played)


def test_nothing_is_played_again_when_an_audit_is_repeated(parts: Parts, tmp_path: Path) -> None:
    asked = config("episodes=8", "continuations=4", "futures=5")
    value_with(parts, tmp_path, asked)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.jsonl")}
    value_with(parts, tmp_path, asked)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.jsonl")} == before


@pytest.mark.fault("environments fail in an audit", lost="those continuations")
def test_continuations_that_a_fault_cut_off_are_left_out(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config("episodes=8", "continuations=16", "futures=0")
    continued = playing.continued

    async def with_faults(sampler, branches, temperature, on_episode):  # type: ignore[no-untyped-def]
        def told(trajectory: Trajectory) -> None:
            if trajectory.name.endswith(("0", "1")):
                trajectory.error = "the environment died"
            on_episode(trajectory)

        return await continued(sampler, branches, temperature, told)

    monkeypatch.setattr(playing, "continued", with_faults)
    found = value_with(parts, tmp_path, asked)
    assert found.steps.known.mean() > 0.8
    off = (found.steps.advantage - exact(found))[found.steps.known]
    assert np.mean(np.abs(off) <= 2 * found.steps.error[found.steps.known]) >= 0.95


def test_a_budget_of_steps_or_tokens_is_about_kept(parts: Parts, tmp_path: Path) -> None:
    free = config("episodes=32", "continuations=16", "futures=0")
    value_with(parts, tmp_path / "free", free)
    spent = dict.fromkeys(("steps", "sampled"), 0.0)
    for one in Store(tmp_path / "free").costs.values():
        spent = {name: spent[name] + (one.get(name, 0.0) if "continuations" in one else 0.0) for name in spent}
    for name, key in (("step_budget", "steps"), ("token_budget", "sampled")):
        asked = replace(free, **{name: int(spent[key] * 0.6)})
        found = value_with(parts, tmp_path / name, asked)
        took = sum(one.get(key, 0.0) for one in Store(tmp_path / name).costs.values() if "continuations" in one)
        assert 0.4 * spent[key] < took < 0.66 * spent[key]
        assert found.steps.known.all()


def test_a_budget_that_is_too_small_for_any_error_is_refused(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"step_budget is 20, and 4 continuations of each of the \d+ states.* raise it"):
        value_with(parts, tmp_path, config("episodes=16", "step_budget=20"))


def test_futures_begin_with_the_audited_step_and_go_on_otherwise(parts: Parts, tmp_path: Path) -> None:
    found = value_with(parts, tmp_path, config("episodes=16", "continuations=8", "futures=12"))
    assert len(found.again) == len(found.futures) == 12
    steps = found.steps.decisions
    first = np.searchsorted(steps.episode, np.arange(len(found.trajectories)))
    endings = set()
    for place, futures in zip(found.again.tolist(), found.futures):
        own = found.trajectories[int(steps.episode[place])]
        t = place - int(first[steps.episode[place]])
        assert len(futures) == (1 if steps.after[place] == END else found.steps.values.counts[0, steps.after[place]])
        for future in futures:
            assert [s.response_ids for s in future.steps[: t + 1]] == [s.response_ids for s in own.steps[: t + 1]]
            endings.add(tuple(s.action for s in future.steps))
    assert len(endings) > 12


def test_episodes_on_disk_are_groups_that_have_ended(parts: Parts, tmp_path: Path) -> None:
    value_with(parts, tmp_path, config("episodes=8", "continuations=4", "futures=0"))
    groups = [trajectory.group_id for trajectory in trajectory_file.read(tmp_path / "episodes.jsonl")]
    assert groups == [one for one in dict.fromkeys(groups) for _ in range(4)]


@pytest.mark.fault("Ctrl-C in an audit")
def test_an_interruption_is_no_error_of_the_store(parts: Parts, tmp_path: Path) -> None:
    asked = config("episodes=16", "continuations=8", "futures=0")

    async def stopped() -> None:
        task = asyncio.ensure_future(valued(asked, parts.sampler, parts.env, Store(tmp_path), Console(quiet=True)))
        while not (tmp_path / "continuations.jsonl").exists():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    parts.runner.run(stopped())
    done = len((tmp_path / "continuations.jsonl").read_text().splitlines())
    assert done > 0
    whole = value_with(parts, tmp_path, asked)
    assert int(whole.steps.values.counts.sum()) > done
