"""The real commands leave no secret behind: in no file of a run, of its trackers or of the cache, and not in the terminal."""

from __future__ import annotations

import gzip
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from agents.config import loading
from agents.config.secrets import MASK, masked, shown
from envs import registry
from envs.base import StepResult
from envs.common.structured import ConfigError, Interpolated
from tests.envs import toys
from tests.injections import TINY

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class GuardedConfig(toys.CorridorConfig):
    address: str = ""
    api_key: str = ""
    pass_word: str = ""


class Guarded(toys.Generous):
    """Talks to a service, whose address and password it tells when something goes wrong."""

    name = "guarded"
    config: GuardedConfig

    def act(self, action: str) -> StepResult:
        if self.length == 4:
            raise ConnectionError(f"{self.config.address} does not answer to {self.config.pass_word}")
        return super().act(action)


registry.register("guarded", "tests/Guarded-v0", Guarded, GuardedConfig, toys.GenerousPrompt)

IN_VARIABLES = {
    "JUDGE_PW": "variablesecret1",
    "JUDGE_KEY": "sk-variablesecret2",
    "SERVICE_TOKEN": "variablesecret3",
    "OPENAI_API_KEY": "sk-variablesecret4",
    "WANDB_API_KEY": "variablesecret5".ljust(40, "0"),
}
SETTINGS = [
    "env=guarded",
    "env.address='https://me:literalsecret@service.test/?token=literalsecret&page=1'",
    "env.api_key=literalsecret",
    "env.pass_word='${oc.env:SERVICE_TOKEN}'",
    "shaping=calm",
    "judge=endpoint",
    "judge.model=m",
    "judge.base_url='http://me:${oc.env:JUDGE_PW}@127.0.0.1:9/v1'",
    "judge.key_from=JUDGE_KEY",
    "judge.retries=0",
    "tracker=[console,wandb,tensorboard]",
    "warmstart.enabled=false",
    "rollout.groups=3",
    "rollout.group_size=2",
    "evaluation.episodes=2",
    "model.tiny.hidden=32",
    "model.tiny.intermediate=32",
    "threads=1",
    "iterations=2",
]
PROGRAM = (
    "import importlib, sys; from tests.agents import test_secrets; "
    "sys.exit(importlib.import_module(sys.argv[1]).main(sys.argv[2:]))"
)


def command(module: str, *arguments: str, code: int = 0, **variables: str) -> str:
    """What the command prints, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")} | variables
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], str]:
    """A run that had secrets from everywhere, with the variables and what was printed."""
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    pytest.importorskip("httpx2")
    folder = tmp_path_factory.mktemp("kept")
    variables = {**IN_VARIABLES, "HOME": str(folder), "STEPCREDIT_CACHE": str(folder / "cache"), "WANDB_MODE": "offline"}
    told = command("agents.train", *SETTINGS, f"out={folder}/runs", "run=it", **variables)
    told += command("agents.evaluate", f"run={folder}/runs/it", "evaluation.episodes=2", *SETTINGS[1:3], **variables)
    told += command("agents.replay.__main__", f"{folder}/runs/it", **variables)
    told += command("agents.report", f"{folder}/runs/it", **variables)
    return folder, variables, told


def contents(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()


@pytest.mark.fault("secrets in settings, addresses and errors")
def test_nothing_that_was_written_or_printed_holds_a_secret(run: tuple[Path, dict[str, str], str]) -> None:
    folder, _, told = run
    files = [file for file in folder.rglob("*") if file.is_file()]
    kinds = {file.suffix for file in files} | {file.name.partition(".")[0] for file in files}
    assert {".yaml", ".jsonl", ".gz", ".html", ".wandb", ".log", "events", "status", "warnings"} <= kinds
    assert [file for file in files if b"secret" in contents(file)] == []
    assert "secret" not in told
    assert "does not answer to <masked>" in "".join(
        contents(file).decode() for file in files if "iteration_" in file.name and file.suffix == ".gz"
    )


@pytest.mark.fault("secrets in a sweep, in --help and in a mistyped address")
def test_neither_a_sweep_nor_help_nor_an_error_repeats_a_secret_of_the_command_line(tmp_path: Path) -> None:
    judges = "judge.base_url=" + ",".join(f"'http://me:literalsecret{n}@127.0.0.1:9/v1'" for n in (1, 2))
    asks = ["shaping=calm", "judge=endpoint", "judge.model=m", "judge.retries=0"]
    swept = ["--multirun", *TINY, *asks, judges, "judge.key_from=JUDGE_KEY", "iterations=1", f"out={tmp_path}", "run=all"]
    told = command("agents.train", *swept, JUDGE_KEY="sk-variablesecret2")
    assert "run 1 of 2: judge.base_url='http://<masked>@127.0.0.1:9/v1'" in told
    told += command("agents.train", "--help", "judge", *asks, judges.partition(",")[0])
    told += command("agents.train", *asks, "judge.base_url=http//me:literalsecret@127.0.0.1:9/v1", code=2)
    assert "judge.base_url is 'http//<masked>@127.0.0.1:9/v1'" in told
    runs = [path.name for path in (tmp_path / "all").iterdir() if (path / "status.json").exists()]
    assert len(runs) == 2
    assert "secret" not in told
    written = [
        path for path in tmp_path.rglob("*") if "secret" in path.name or (path.is_file() and b"secret" in contents(path))
    ]
    assert written == []


def test_interpolations_stay_as_they_were_written_and_the_rest_is_masked(run: tuple[Path, dict[str, str], str]) -> None:
    saved = yaml.safe_load((run[0] / "runs" / "it" / "config.yaml").read_text())
    assert saved["judge"]["base_url"] == "http://me:${oc.env:JUDGE_PW}@127.0.0.1:9/v1"
    assert saved["env"]["pass_word"] == "${oc.env:SERVICE_TOKEN}"
    assert saved["env"]["address"] == "https://<masked>@service.test/?token=<masked>&page=1"
    assert saved["env"]["api_key"] == "<masked>"


def test_a_resume_asks_for_what_was_masked_and_takes_the_rest_from_the_environment(
    run: tuple[Path, dict[str, str], str],
) -> None:
    folder, variables, _ = run
    resume, more = f"resume={folder}/runs/it", "iterations=3"
    told = command("agents.train", resume, more, code=2, **variables)
    assert "env.address, env.api_key: " in told
    assert "has <masked> in place of a secret" in told
    again = [resume, more, "env.address=https://me:literalsecret@service.test", "env.api_key='${oc.env:SERVICE_TOKEN}'"]
    del variables["JUDGE_PW"]
    told = command("agents.train", *again, code=2, **variables)
    assert "judge.base_url cannot be resolved: set the environment variable JUDGE_PW, which it names" in told
    told = command("agents.train", *again, JUDGE_PW="variablesecret1", **variables)
    assert "secret" not in told
    assert b"secret" not in (folder / "runs" / "it" / "config.yaml").read_bytes()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("http://me:pw@host:80/v1", "http://<masked>@host:80/v1"),
        ("see https://ghtoken@github.com/me/it.git!", "see https://<masked>@github.com/me/it.git!"),
        ("postgres://a:b@c/d and ftp://e:f@g", "postgres://<masked>@c/d and ftp://<masked>@g"),
        ("http://host/v1?a=1&api_key=x&b=2", "http://host/v1?a=1&api_key=<masked>&b=2"),
        ("http://host/?X-Amz-Signature=abc#top", "http://host/?X-Amz-Signature=<masked>#top"),
        ("key sk-abcdefghijklmnop1234 was refused", "key <masked> was refused"),
        ("hf_abcdefghijklmnopqrstuv", "<masked>"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer <masked>"),
        ("http://host/v1?page=2", "http://host/v1?page=2"),
        ("mail me@host.org, or look at http://host/@me", "mail me@host.org, or look at http://host/@me"),
        ("task-based risk-free sk-8", "task-based risk-free sk-8"),
        ("", ""),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_nothing_else(text: str, left: str) -> None:
    assert masked(text) == left


def test_what_the_environment_calls_a_secret_is_masked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MY_API_KEY": "correct horse", "SOME_TOKEN": "short", "GOOGLE_CREDENTIALS": "/a/file.json"}.items():
        monkeypatch.setenv(name, value)
    assert masked("correct horses, short of /a/file.json") == f"{MASK}s, short of /a/file.json"


def test_settings_that_are_named_like_secrets_are_masked_and_their_like_are_not() -> None:
    settings = {
        "api_key": "a",
        "db_password": "b",
        "secret": "c",
        "start_token": "<s>",
        "key": "k",
        "max_tokens": 5,
        "api_token": "",
    }
    assert shown(settings) == {**settings, "api_key": MASK, "db_password": MASK, "secret": MASK}


def test_an_interpolated_text_is_shown_as_it_was_written_in_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "hunter2hunter2")
    with pytest.raises(ConfigError) as raised:
        loading.load(["judge.base_url='${oc.env:SOMEWHERE}'", "judge=endpoint", "judge.model=m", "shaping=calm"])
    assert "hunter2" not in str(raised.value)
    assert "judge.base_url is '${oc.env:SOMEWHERE}'" in str(raised.value)


def test_interpolated_texts_are_equal_to_what_they_stand_for_and_survive_a_journey() -> None:
    import copy
    import pickle

    text = Interpolated("x/y", "${oc.env:A}/y")
    for one in (text, copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert (one, type(one), one.raw) == ("x/y", Interpolated, "${oc.env:A}/y")


def test_the_configuration_reads_back_equal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from agents.runs.folder import RunFolder
    from tests.agents.runs.test_folder import HASHES, SPLIT_TASKS

    monkeypatch.setenv("SOMEWHERE", "there")
    odd = r"as \${it} stands, ${oc.env:HOME} too"
    given = [
        "model=hub",
        "model.name='${oc.env:SOMEWHERE}/model'",
        "optim.warmup='${iterations}'",
        f"model.system={shlex.quote(odd)}",
    ]
    config = loading.load([*given, f"out={tmp_path}", "run=it"])
    assert config.model.name == "there/model"
    assert config.optim.warmup == config.iterations
    folder = RunFolder.open(config)
    folder.begin(config, SPLIT_TASKS, HASHES)
    folder.set_status("interrupted")
    assert "name: ${oc.env:SOMEWHERE}/model" in folder.config.read_text()
    again = loading.load([f"resume={folder.path}"])
    again.resume = None
    assert again == config
    monkeypatch.setenv("SOMEWHERE", "elsewhere")
    assert loading.load([f"resume={folder.path}"]).model.name == "elsewhere/model"
