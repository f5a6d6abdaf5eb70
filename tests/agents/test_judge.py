"""A judge measured with the real command: against rules that are right, that err, and a server that is asked in words."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from agents import judge, train
from envs import registry
from envs.base import Split, StepResult, TextEnv
from tests.agents.judges.server import Response, Server

KEY, DOOR = "pick up the key", "open the door"
WIDTH = 7


@dataclass
class HallConfig:
    """A corridor with a key in the middle and a door at its end."""

    map: Literal["crop", "full"] = "crop"
    tasks: int = 20


class Hall(TextEnv):
    """Walk, take the key, open the door. A step that only walks changes nothing."""

    name = "keyed-hall"

    def __init__(self, config: HallConfig) -> None:
        super().__init__(max_steps=40)
        self.config = config

    def tasks(self, split: Split) -> list[str]:
        return [f"{split}-{number}" for number in range(self.config.tasks)]

    def subgoals(self, task_id: str) -> tuple[str, ...]:
        return (KEY, DOOR)

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        self.at, self.key, self.door = int(rng.integers(WIDTH)), False, False
        return self._turn("You wake up.", False)

    def act(self, action: str) -> StepResult:
        before = (self.key, self.door)
        said = "You walk."
        if action in ("left", "right"):
            self.at = min(WIDTH - 1, max(0, self.at + (1 if action == "right" else -1)))
        elif action == "take" and self.at == WIDTH // 2 and not self.key:
            self.key, said = True, "You now hold a key."
        elif action == "open" and self.at == WIDTH - 1 and self.key:
            self.door, said = True, "The door swings open."
        return self._turn(said, (self.key, self.door) != before)

    def _turn(self, said: str, changed: bool) -> StepResult:
        drawn = "".join("@" if place == self.at else "." for place in range(WIDTH))
        shown = drawn if self.config.map == "full" else drawn[max(0, self.at - 1) : self.at + 2]
        return StepResult(
            observation=f"{said}\nMap: #{shown}#\nYour task is to: leave.",
            state_key=f"{self.at} {self.key} {self.door}",
            reward=float(self.door),
            terminated=self.door,
            success=self.door,
            score=float(self.door),
            admissible_actions=["left", "right", "take", "open"],
            subgoals=tuple(name for name, reached in ((KEY, self.key), (DOOR, self.door)) if reached),
            changed=changed,
        )


registry.register("keyed-hall", "tests/KeyedHall-v0", "tests.agents.test_judge:Hall", HallConfig)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing here reads or writes the user's own cache."""
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "judge"


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("httpx2")
    with Server() as server:
        server.reply = knows
        yield server


def knows(request: dict[str, Any]) -> Response:
    """An analyst that is right; its own names for the subgoals are others than those of the rules."""
    prompt = request["messages"][0]["content"]
    if "divide the task" in prompt:
        return Response('{1: "pick up a key", 2: "open the door", 3: "dance for joy"}')
    after = prompt.rpartition("the player sees:")[2]
    happened = {"key": "You now hold a key." in after, "door": "The door swings open." in after, "joy": False}
    names = re.findall(r"^\d+\. (.+)$", prompt, re.MULTILINE)
    return Response(str({name: 1 if happened[name.split()[-1]] else None for name in names}))


def measured(tmp_path: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """Results of the command."""
    assert judge.main(["env=keyed-hall", f"out={tmp_path / 'out'}", "threads=1", *words]) == code
    found = sorted((tmp_path / "out").glob("*/results.json"), key=lambda file: file.stat().st_mtime_ns)
    return dict(json.loads(found[-1].read_text())) if found else {}


def endpoint(server: Server) -> list[str]:
    return ["judge=endpoint", "judge.model=oracle", f"judge.base_url={server.url}", "judge.key_from=null", "episodes=12"]


def test_the_rules_agree_with_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = measured(tmp_path, "episodes=40")
    (form,) = results["forms"]
    assert results["events"] > 20
    assert (results["events_lost"], results["kept"]) == (0, form["scores"]["all"]["tp"])
    for name in (KEY, DOOR, "all"):
        score = form["scores"][name]
        assert (score["fp"], score["fn"], score["f1"]) == (0, 0, {"value": 1.0, "low": 1.0, "high": 1.0})
    printed = capsys.readouterr().out
    assert re.search(rf"{KEY} +1\.00 1\.00-1\.00", printed)
    assert max(len(line) for line in printed.splitlines() if not line.startswith("written:")) <= 80
    (picture,) = tmp_path.glob("out/*/scores.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_errors_that_are_ordered_are_found(tmp_path: Path) -> None:
    results = measured(tmp_path, "judge.noise=0.3", "episodes=600", "env.tasks=600")
    score = results["forms"][0]["scores"]["all"]
    events, judged = results["events"], 2 * results["kept"]
    assert judged == 2 * events, "each change here is one of the two subgoals, so that as many verdicts are to be yes as no"
    spread = 3 * (0.3 * 0.7 * events) ** 0.5
    assert score["tp"] == pytest.approx(0.7 * events, abs=spread)
    assert score["fp"] == pytest.approx(0.3 * events, abs=spread)
    assert score["tp"] + score["fn"] == events
    for ratio, expected in (("recall", 0.7), ("precision", 0.7)):
        assert score[ratio]["low"] < expected < score[ratio]["high"]


def test_every_form_is_asked_and_shown_what_it_is_to_see(tmp_path: Path, server: Server) -> None:
    results = measured(tmp_path, *endpoint(server))
    assert [form["form"] for form in results["forms"]] == [
        f"{m} map, {a} actions, {s} subgoals"
        for m in ("crop", "full")
        for a in ("with", "without")
        for s in ("preset", "proposed")
    ]
    assert {form["scores"]["all"]["f1"]["value"] for form in results["forms"]} == {1.0}
    questions = [prompt for prompt in server.prompts if "divide the task" not in prompt]
    widest = [max(map(len, re.findall("Map: #(.+)#", prompt))) for prompt in questions]
    shown = {(width == WIDTH, "the player's action" in prompt) for width, prompt in zip(widest, questions)}
    assert shown == {(full, action) for full in (True, False) for action in (True, False)}
    assert len(server.prompts) - len(questions) == 1, "subgoals are proposed once a task, whatever the form"


def test_proposed_subgoals_count_as_those_they_are_worded_like(
    tmp_path: Path, server: Server, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*endpoint(server), "forms.subgoals=[proposed]", "forms.map=[crop]", "forms.actions=[true]"]
    (form,) = measured(tmp_path, *words)["forms"]
    (matches,) = form["proposed"].values()
    assert [(m["proposed"], m["nearest"], m["taken"]) for m in matches] == [
        ("pick up a key", KEY, True),
        ("open the door", DOOR, True),
        ("dance for joy", "", False),
    ]
    assert [*form["scores"]] == [KEY, DOOR, "all"]
    assert "proposed 'dance for joy' is not scored" in capsys.readouterr().out
    (file,) = cache.glob("*.yaml")
    file.write_text(file.read_text().replace("pick up a key", "gather firewood"))
    server.reply = lambda request: knows(
        {"messages": [{"content": request["messages"][0]["content"].replace("firewood", "key")}]}
    )
    (edited,) = measured(tmp_path, *words)["forms"]
    assert edited["scores"][KEY]["tp"] == 0
    assert edited["scores"][KEY]["recall"]["value"] == 0.0
    assert edited["scores"][DOOR]["f1"]["value"] == 1.0


@pytest.mark.fault("Ctrl-C in a measurement of a judge", lost="the answer under way")
def test_what_was_answered_is_not_asked_again_after_an_interruption(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*endpoint(server), "forms.subgoals=[preset]", "judge.concurrency=1"]
    before_test = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def interrupts(request: dict[str, Any]) -> Response:
        if len(server.requests) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return knows(request)

    server.reply = interrupts
    try:
        measured(tmp_path, *words, code=130)
    finally:
        signal.signal(signal.SIGINT, before_test)
    assert "what was answered is kept" in capsys.readouterr().err
    before = len(server.requests)
    server.reply = knows
    results = measured(tmp_path, *words)
    asked = len(set(server.prompts))
    assert before < asked
    assert len(server.prompts) <= asked + 1, "at most the question that was under way is asked twice"
    assert {form["scores"]["all"]["f1"]["value"] for form in results["forms"]} == {1.0}
    again = measured(tmp_path, *words)
    assert len(server.prompts) <= asked + 1
    assert [form["cost"]["calls"] for form in again["forms"]] == [0, 0, 0, 0]
    assert [form["seconds"] for form in again["forms"]] == [form["seconds"] for form in results["forms"]]
    assert again["forms"][0]["seconds"]["median"] > 0


@pytest.mark.fault("a judge's answer cannot be read, or does not come", lost="that verdict")
def test_answers_that_are_broken_or_do_not_come_are_counted(tmp_path: Path, server: Server) -> None:
    server.reply = lambda request: Response("I would say yes.")
    words = [*endpoint(server), "forms.subgoals=[preset]", "forms.map=[crop]", "forms.actions=[true]"]
    (form,) = measured(tmp_path, *words)["forms"]
    assert form["cost"]["broken"] == form["scores"]["all"]["fn"] > 0
    assert form["scores"]["all"]["precision"] == {"value": None, "low": None, "high": None}
    server.reply = lambda request: Response(status=404, body=b"{}")
    (form,) = measured(tmp_path, *words, "judge.cache=false")["forms"]
    assert form["cost"]["failed"] + form["cost"]["open"] == form["scores"]["all"]["fn"]
    assert form["cost"]["failed"] > 0


def test_a_trained_policy_can_play(tmp_path: Path) -> None:
    small = ["warmstart.enabled=false", "rollout.groups=1", "rollout.group_size=2", "iterations=1", "threads=1"]
    before = signal.getsignal(signal.SIGTERM)
    words = ["env=keyed-hall", *small, "evaluation.before=false", "evaluation.after=false", f"out={tmp_path}", "run=it"]
    assert train.main(words) == 0
    signal.signal(signal.SIGTERM, before)
    assert judge.main([f"run={tmp_path / 'it'}", f"out={tmp_path / 'out'}", "episodes=25", "judge=rules"]) == 0
    (file,) = tmp_path.glob("out/*/results.json")
    results = json.loads(file.read_text())
    assert (results["policy"], results["episodes"]) == (str(tmp_path / "it"), 25)
    assert results["forms"][0]["scores"]["all"]["f1"]["value"] == 1.0


def test_each_form_s_episodes_are_kept_with_their_verdicts(tmp_path: Path) -> None:
    from envs.trajectory_file import read

    measured(tmp_path, "episodes=3")
    (file,) = tmp_path.glob("out/*/form-1.jsonl.gz")
    steps = [step for trajectory in read(file) for step in trajectory.steps]
    assert sum(len(step.judged or ()) for step in steps) > 0


def test_other_environments_have_fewer_forms(tmp_path: Path, server: Server) -> None:
    words = ["env=webshop", *endpoint(server), "episodes=1", f"out={tmp_path / 'out'}", "threads=1", "judge.budget=1"]
    assert judge.main(words) == 0
    (file,) = tmp_path.glob("out/*/results.json")
    assert [form["form"] for form in json.loads(file.read_text())["forms"]] == [
        "with actions, preset subgoals",
        "with actions, proposed subgoals",
        "without actions, preset subgoals",
        "without actions, proposed subgoals",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["judge.actions=false"], "set forms.actions=[...]"),
        (["judge.subgoals=proposed"], "set forms.subgoals=[...]"),
        (["optim.lr=1"], "unknown key 'optim.lr'"),
        (["forms.maps=[crop]"], "Did you mean 'forms.map'?"),
        (["forms.subgoals=[guessed]"], "allowed: preset, proposed"),
        (["judge=endpoint"], "judge.model"),
        (["run=/nowhere"], "there is no /nowhere/config.yaml"),
        (["env=keyed-hall", "forms.map=[none]", "judge=smollm2", "judge.model=/nowhere"], "/nowhere"),
        (["env=keyed-hall", "judge=policy"], "no chat template"),
    ],
)
def test_a_refusal_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert judge.main([*words, f"out={tmp_path}", "episodes=2"]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge.main(["--help"]) == judge.main(["--help", "forms", "judge"]) == 0
    printed = capsys.readouterr().out
    for key in (
        "episodes=100",
        "split=train",
        "match=80.0",
        "forms.map = [crop, full]",
        "judge.model = null",
        "judge.noise = 0.0",
    ):
        assert key in printed
