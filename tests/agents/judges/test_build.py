"""From a configuration to a judge: every kind, and what is refused before anything heavy starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agents import judges
from agents.config import loading
from agents.config.judge import check_judge, server_key
from agents.config.sections import JudgeConfig
from agents.judges.rules import Rules
from agents.judges.text import TextJudge
from agents.rollout.engines.base import Weights
from envs.common.structured import ConfigError
from envs.common.structured import build as structured
from envs.trajectory import Trajectory
from tests.agents.judges.chat_model import chat_policy
from tests.agents.judges.server import Response, Server
from tests.agents.parts import Parts, opened

GAMES = ["env=alfworld", "env.train_games=4", "env.eval_games=1", "env.test_games=1", "env.max_steps=3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that chats, as a folder."""
    path = tmp_path_factory.mktemp("models") / "nonsense"
    chat_policy().save(path)
    return path


@pytest.fixture
def parts(folder: Path) -> Iterator[Parts]:
    config = loading.load([*GAMES, "model=hub", f"model.name={folder}", "model.max_length=4096", "engine.max_tokens=4"])
    with opened(config) as parts:
        yield parts


def config(**settings: object) -> JudgeConfig:
    return structured(JudgeConfig, settings, "judge")


def built(config: JudgeConfig, parts: Parts) -> judges.Judge:
    return judges.build(config, parts.config, parts.env, parts.sampler, parts.policy)


def play(parts: Parts) -> list[Trajectory]:
    """Episodes that the model plays; whatever it does is to be judged."""
    played = parts.evaluation()
    for trajectory in played:
        for step in trajectory.steps:
            step.changed = True
    return played


def test_rules_are_the_default_and_take_seed_and_noise_of_the_run(parts: Parts) -> None:
    judge = built(config(), parts)
    assert isinstance(judge, Rules)
    noisy = built(config(noise=1.0), parts)
    [episode] = play(parts)
    assert parts.runner.run(judge.judge([episode])) == [[()] * 3]
    assert parts.runner.run(noisy.judge([episode])) == [[tuple(parts.env.subgoals(episode.task_id))] * 3]


def test_the_policy_judges_itself_and_plays_on(parts: Parts, cache: Path) -> None:
    judge = built(config(kind="policy", max_tokens=8), parts)
    assert isinstance(judge, TextJudge)
    first = play(parts)
    assert parts.runner.run(judge.judge(first)) == [[()] * 3]
    assert judge.metrics["broken"] == 3
    assert judge.metrics["calls"] == judge.metrics["questions"] > 0
    parts.runner.run(parts.sampler.player.engine.update_weights(Weights(1, parts.policy.named_tensors())))
    assert [s.response_ids for s in play(parts)[0].steps] == [s.response_ids for s in first[0].steps]
    parts.runner.run(judge.judge(first))
    assert judge.metrics["calls"] > 0  # its weights have changed: no answer of its own is kept
    assert not (cache / "judge").exists()
    parts.runner.run(judge.close())


def test_another_model_judges_and_its_answers_are_kept(parts: Parts, folder: Path, cache: Path) -> None:
    played = play(parts)
    for calls in (True, False):
        judge = built(config(kind="model", model=str(folder), max_tokens=8), parts)
        assert parts.runner.run(judge.judge(played)) == [[()] * 3]
        assert bool(judge.metrics["calls"]) == calls
        assert judge.metrics["broken"] == 3
        parts.runner.run(judge.close())
    assert (cache / "judge" / "answers.sqlite3").exists()
    judge = built(config(kind="model", model=str(folder), max_tokens=8, cache=False), parts)
    parts.runner.run(judge.judge(played))
    assert judge.metrics["calls"] > 0


def test_a_server_judges(parts: Parts, server: Server) -> None:
    name = parts.env.subgoals(parts.env.tasks("eval")[0])[0]
    server.answers(Response(str({name: 1})))
    judge = built(config(kind="endpoint", model="m", base_url=server.url), parts)
    assert parts.runner.run(judge.judge(play(parts))) == [[(name,)] * 3]
    assert server.keys[0] is None
    parts.runner.run(judge.close())


def test_proposals_are_kept_by_environment_and_judge(parts: Parts, server: Server, cache: Path) -> None:
    server.answers(Response("{1: 'look around'}"), Response("{'look around': 1}"))
    settings = {"kind": "endpoint", "base_url": server.url, "subgoals": "proposed", "concurrency": 1}
    proposals = partial(judges.proposals_file, env=parts.env.name, policy=parts.config.model.name)
    judge = built(config(model="some/judge-7b", **settings), parts)
    assert parts.runner.run(judge.judge(play(parts))) == [[("look around",)] * 3]
    [file] = (cache / "judge").glob("*.yaml")
    assert file.name.startswith("subgoals-alfworld-judge-7b-")
    assert file == proposals(config(model="some/judge-7b", **settings))
    assert file != proposals(config(model="other/judge-7b", **settings))
    assert proposals(config(model="m", file="mine.yaml", **settings)) == Path("mine.yaml")


def test_an_environment_without_subgoals_needs_proposed_ones(parts: Parts) -> None:
    from tests.envs.toys import Corridor, CorridorConfig

    parts.env = Corridor(CorridorConfig())
    with pytest.raises(ConfigError, match=r"judge\.subgoals=proposed"):
        built(config(), parts)


# -- refusals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "model"}, "judge.model=smollm2"),
        ({"kind": "endpoint"}, "judge.model=Qwen"),
        ({"kind": "model", "model": "tiny"}, "chat template"),
        ({"subgoals": "proposed"}, "allowed with judge.kind=rules: preset"),
        ({"kind": "policy", "noise": 0.3}, "judge.kind=rules"),
        ({"kind": "policy", "file": "x.yaml"}, "judge.subgoals=proposed"),
        ({"kind": "endpoint", "model": "m"}, "OPENAI_API_KEY"),
        ({"kind": "endpoint", "model": "m", "base_url": "http://localhost:1/v1", "key_from": "MY_KEY"}, "MY_KEY"),
        *(
            ({"kind": "endpoint", "model": "m", "base_url": url}, "http://localhost:8000/v1")
            for url in ("localhost:8000", "ftp://a/v1", "http://", "http://a:port/v1", "http://[::1/v1", "")
        ),
    ],
    ids=range(14),
)
def test_combinations_that_cannot_work_are_refused_with_the_way_out(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_judge(config(**settings))
    assert "judge" in str(raised.value)
    assert says in str(raised.value)


def test_a_key_comes_from_the_environment_and_goes_where_it_is_meant_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-1\n")
    monkeypatch.setenv("MY_KEY", "sk-2")
    local = {"kind": "endpoint", "model": "m", "base_url": "http://localhost:1/v1"}
    assert server_key(config(kind="endpoint", model="m")) == "sk-1"
    assert server_key(config(**local)) is None  # OpenAI's key is nothing for a stranger
    assert server_key(config(**local, key_from="MY_KEY")) == "sk-2"
    check_judge(config(**local))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"stepcredit\[judge\]"):
        check_judge(config(kind="endpoint", model="m", base_url="http://localhost:1/v1"))


def test_checking_imports_nothing_heavy() -> None:
    program = (
        "import sys; from agents.config.judge import check_judge; from agents.config.sections import JudgeConfig;"
        "check_judge(JudgeConfig());"
        "sys.exit(bool({'torch', 'httpx2', 'transformers', 'yaml', 'sqlite3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
