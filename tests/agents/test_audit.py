"""The audit as a command: on a model as it is, on a run, stopped and gone on with, and with other methods by the same truth."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agents import audit, train
from agents.auditing.measures import NUMBERS
from agents.config import compose
from agents.replay import __main__ as replay
from agents.rollout.engines.base import Completion, Request
from envs import registry, trajectory_file
from envs.common.structured import ConfigError
from tests.agents.auditing import tabular
from tests.envs import toys

table_engine = tabular.table_engine
registry.register("drawers", "tests/Drawers-v0", "tests.envs.toys:Drawers", toys.DrawersConfig, toys.DrawersPrompt)

ENV = ["env=table", "env.pool.mode=inline", "model.tiny.hidden=32", "model.tiny.layers=1", "threads=1"]
FRESH = [*ENV, "warmstart.enabled=false", "rollout.group_size=4", "rollout.groups=2", "resamples=50"]
QUICK = [*FRESH, "engine.name=table", "episodes=16", "continuations=4", "futures=8", "fit=2"]
QUIET = ["evaluation.before=false", "evaluation.after=false", "evaluation.every=0"]


def audited(out: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """Results of the command."""
    assert audit.main([*words, f"out={out}"]) == code
    found = list(out.glob("*/audit.json"))
    return dict(json.loads(found[0].read_text())) if found else {}


def by_name(results: dict[str, Any]) -> dict[str, Any]:
    return {method["name"]: method for method in results["methods"]}


def test_methods_are_measured_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["grpo", "gigpo", "hgpo", "remax", "otb"]
    results = audited(tmp_path, *QUICK, "tokens=5", f"methods=[{','.join(names)}]")
    methods = by_name(results)
    assert [*methods] == names
    steps = results["truth"]["steps"]["decisions"]
    for name in names:
        assert set(methods[name]["steps"]["numbers"]) == set(NUMBERS)
        assert methods[name]["steps"]["decisions"] == steps
        assert methods[name]["tokens"]["decisions"] == results["truth"]["tokens"]["decisions"] > 5
        assert methods[name]["cosine"]["cosine"]["value"] is not None
        assert methods[name]["again"]["bias"]["value"] is not None
        assert sum(one["count"] for one in methods[name]["steps"]["calibration"]) == steps
    assert methods["grpo"]["steps"]["numbers"]["within"]["value"] is None
    assert set(methods["gigpo"]["parts"]) == {"episode", "step"}
    assert methods["gigpo"]["cost"]["share"] == 0 < methods["remax"]["cost"]["share"]
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines() if not line.startswith("written:")) <= 80
    for words in ("grpo", "step alone", "reliability", "decisive", "cost of the truth"):
        assert words in printed


def test_the_page_needs_nothing_else_and_leads_to_each_method_s_episodes(tmp_path: Path) -> None:
    audited(tmp_path, *QUICK, "methods=[grpo,gigpo]")
    (page,) = tmp_path.glob("*/audit.html")
    text = page.read_text()
    assert not re.findall(r"https?://|<img|<script|<link", text)
    links = re.findall(r'href="([^"]+)"', text)
    assert len(links) == 2
    for link in links:
        assert "truth" in (page.parent / link).read_text()
    for name in ("agreement", "calibration"):
        assert (page.parent / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_replay_shows_the_truth_beside_the_credit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audited(tmp_path, *QUICK, "methods=[gigpo]", "tokens=1000")
    (folder,) = tmp_path.glob("*/gigpo")
    capsys.readouterr()
    assert replay.main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"true advantage [+-]\d\.\d+ ± \d\.\d+ true value before [+-]\d\.\d+ ± \d\.\d+", " ".join(printed.split()))
    stored = [step for t in trajectory_file.read(next(folder.glob("trajectories/*"))) for step in t.steps]
    assert all(step.truth is not None and step.credit is not None for step in stored)
    of_tokens = [step.truth["tokens"] for step in stored if step.truth and "tokens" in step.truth]
    assert len(of_tokens) > 3
    assert "dots: true advantage" in (folder / "replay" / "iteration_000001.html").read_text()


def test_other_methods_are_measured_by_the_same_truth(tmp_path: Path) -> None:
    first = audited(tmp_path, *QUICK, "methods=[grpo]")
    (folder,) = tmp_path.iterdir()
    before = (folder / "continuations.jsonl").read_bytes()
    second = audited(tmp_path, *QUICK, "methods=[rloo,grpo]", "shaping=invalid_action")
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]
    assert (folder / "continuations.jsonl").read_bytes() == before
    assert second["truth"] == first["truth"]
    assert by_name(second)["grpo"]["steps"] == by_name(first)["grpo"]["steps"]
    audited(tmp_path, *QUICK, "methods=[grpo]", "continuations=6")
    assert len(list(tmp_path.iterdir())) == 2, "another truth has another folder"


def test_the_same_command_finds_the_same(tmp_path: Path) -> None:
    words = [*FRESH, "episodes=8", "continuations=4", "futures=4", "fit=1", "methods=[grpo,poad]"]
    one, other = (audited(tmp_path / name, *words) for name in ("one", "other"))
    assert one["truth"] == other["truth"]
    for first, second in zip(one["methods"], other["methods"]):
        assert first["steps"] == second["steps"]
        assert first["cosine"] == second["cosine"]


@pytest.mark.fault("a damaged costs.json of an audit", lost="what the audit cost so far")
def test_a_damaged_file_of_costs_is_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*FRESH, "episodes=8", "continuations=4", "methods=[grpo]"]
    before = audited(tmp_path, *words)
    (costs,) = tmp_path.glob("*/costs.json")
    costs.write_bytes(costs.read_bytes()[:20])
    audited(tmp_path, *words, code=1)
    assert f"error: {costs} is damaged (" in (said := capsys.readouterr().err)
    assert said.endswith("delete it; seconds and tokens then count from here on\n")
    costs.unlink()
    assert audited(tmp_path, *words)["truth"] == before["truth"]


@pytest.mark.fault("Ctrl-C in an audit")
@pytest.mark.parametrize(
    ("file", "methods", "at"),
    [("continuations.jsonl", "grpo", 150), ("branches.jsonl", "vineppo,tree_grpo", 900)],
)
def test_an_audit_that_ctrl_c_stopped_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str, methods: str, at: int
) -> None:
    asked, generate = 0, tabular.TableEngine.generate

    async def interrupted(self: tabular.TableEngine, request: Request) -> Completion:
        nonlocal asked
        asked += 1
        if asked == at:
            os.kill(os.getpid(), signal.SIGINT)
        return await generate(self, request)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(tabular.TableEngine, "generate", interrupted)
            audited(tmp_path, *QUICK, f"methods=[{methods}]", code=130)
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr()
    assert "the same command goes on" in said.err
    assert "Traceback" not in said.err
    (folder,) = tmp_path.iterdir()
    done = {json.loads(line)["name"] for line in (folder / file).read_text().splitlines()}
    assert done
    results = audited(tmp_path, *QUICK, f"methods=[{methods}]")
    lines = [json.loads(line)["name"] for line in (folder / file).read_text().splitlines()]
    of_truth = results["truth"]["continuations"]
    of_methods = sum(method["cost"]["branches"] for method in results["methods"])
    assert len(set(lines)) == len(lines) == (of_methods if file == "branches.jsonl" else of_truth)
    assert done < set(lines)
    assert audited(tmp_path / "anew", *QUICK, f"methods=[{methods}]")["methods"] == results["methods"]


def test_critics_and_reward_models_learn_before_they_credit(tmp_path: Path) -> None:
    words = [*QUICK, "methods=[poad,oprl,ppo]", "critic.hidden=[16]", "critic.lr=0.01"]
    methods = by_name(audited(tmp_path, *words))
    for name in ("poad", "oprl", "ppo"):
        assert methods[name]["cost"]["fitted"] == 2
        assert methods[name]["cost"]["share"] > 0
    assert methods["oprl"]["again"] is None, "its model would have to learn anew in every future"
    assert set(methods["poad"]["again"]) == {"bias", "deviation"}
    fitted = sorted(file.name for file in tmp_path.glob("*/fit-*.jsonl"))
    assert fitted == ["fit-2x4-1.jsonl", "fit-2x4-2.jsonl"]
    values = [
        step.credit["value"]
        for t in trajectory_file.read(next(tmp_path.glob("*/poad/trajectories/*")))
        for step in t.steps
        if step.credit is not None
    ]
    assert len({round(value[0], 6) for value in values}) > 1, "a critic that has learned nothing says 0 everywhere"


def test_branches_cost_what_a_model_computes_for_them_and_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*FRESH, "episodes=8", "continuations=4", "futures=4", "gradients=false"]
    results = audited(tmp_path / "it", *words, "methods=[grpo,tree_grpo]")
    methods = by_name(results)
    (folder,) = (tmp_path / "it").iterdir()
    said = sum(len(step.response_ids) for t in trajectory_file.read(folder / "episodes.jsonl") for step in t.steps)
    took = results["costs"]["branches"]
    assert methods["grpo"]["cost"] == {"share": 0, "branches": 0, "sampled": 0, "fitted": 0}
    assert methods["tree_grpo"]["cost"]["branches"] == took["branches"] == 16
    assert methods["tree_grpo"]["cost"]["sampled"] * said == pytest.approx(took["sampled"])
    assert methods["tree_grpo"]["cost"]["share"] * said == pytest.approx(took["tokens"], rel=0.3)
    assert methods["tree_grpo"]["again"] is None, "a tree would have to be grown anew in every future"
    assert "cost of the methods' branches: 16 episodes" in " ".join(capsys.readouterr().out.split())
    assert replay.main([str(folder / "tree_grpo"), "--all"]) == 0
    pages = [page.read_text() for page in (folder / "tree_grpo" / "replay").glob("*.html")]
    assert all(page.count("from here, ") > 8 and "credited" in page for page in pages)
    assert re.search(r"\d branch(es)? from here, \d won, mean return", " ".join(capsys.readouterr().out.split()))
    more = audited(tmp_path / "it", *words, "methods=[vineppo,tree_grpo]")
    assert by_name(more)["tree_grpo"] == methods["tree_grpo"]


def test_every_method_is_measured_or_refused_in_words(tmp_path: Path) -> None:
    words = [*QUICK, "critic.hidden=[16]", "episodes=8", "futures=2", "fit=1", "resamples=5"]
    known, refused = [], {}
    for name in compose.options("algo", compose.groups()["algo"]):
        try:
            audit.Asked.of([*words, f"methods=[{name}]"])
        except ConfigError as error:
            refused[name.removesuffix("_official")] = str(error)
        else:
            known.append(name)
    methods = by_name(audited(tmp_path, *words, f"methods=[{','.join(known)}]"))
    assert [*methods] == known
    for name in known:
        numbers = methods[name]["steps"]["numbers"]
        assert numbers["correlation"]["value"] is not None or numbers["silent"]["value"] == 1, name
    assert methods["grounded_prm"]["cost"]["fitted"] == 1, "its model learned from an iteration whose episodes were branched"
    asks_for = {
        **dict.fromkeys(("igpo", "igpo_first_release"), "true answer"),
        "hiper": "env.hierarchy=True",
        "twosome": "engine.constrained=scored",
        "shaped": "which credits nothing but what a shaping adds",
    }
    assert {name: word for name, word in asks_for.items() if word in refused[name]} == asks_for
    assert set(refused) == set(asks_for)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("igpo", ["env=drawers"]),
        ("hiper", ["env=table", "env.hierarchy=true"]),
    ],
)
def test_what_a_method_reads_out_of_texts_is_read_in_an_audit_too(method: str, words: list[str], tmp_path: Path) -> None:
    small = [*FRESH, *words, "engine.constrained=none", "engine.max_tokens=8", "critic.hidden=[16]"]
    results = audited(tmp_path, *small, "episodes=8", "continuations=4", "futures=4", "fit=1", f"methods=[{method}]")
    (found,) = results["methods"]
    assert found["steps"]["decisions"] > 0


def test_on_a_terminal_one_bar_comes_after_the_other(tmp_path: Path) -> None:
    terminal = Console(force_terminal=True, markup=False, file=io.StringIO(), width=100)
    words = [*QUICK, "methods=[ppo]", "critic.hidden=[16]", f"out={tmp_path}"]
    results = audit.audit(audit.Asked.of(words), terminal)
    assert by_name(results)["ppo"]["cost"]["fitted"] == 2
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    for bar in ("episodes", "first round", "second round", "episodes to learn from, iteration 2", "gradients"):
        assert bar in shown


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by a method with a critic and a reward model, whose policy moves."""
    out = tmp_path_factory.mktemp("runs")
    before = signal.getsignal(signal.SIGTERM)
    words = [
        *ENV,
        *QUIET,
        "warmstart.enabled=false",
        "rollout.groups=4",
        "rollout.group_size=4",
        "iterations=3",
        "optim.lr=0.01",
    ]
    more = ["algo=poad", "shaping=implicit_prm", "algo.shaped_at.implicit_prm=reward", "critic.hidden=[16]", "critic.lr=0.01"]
    assert train.main([*words, *more, f"out={out}", "run=it"]) == 0
    signal.signal(signal.SIGTERM, before)
    return out / "it"


RUN = ["episodes=8", "continuations=4", "futures=4", "resamples=20", "gradients=false"]


def credit(folder: Path) -> list[float]:
    stored = trajectory_file.read(next(folder.glob("trajectories/*")))
    return [x for t in stored for step in t.steps for x in (step.credit or {})["advantage"]]


def test_a_run_is_audited_with_what_its_models_had_learned(run: Path, tmp_path: Path) -> None:
    """`run` takes critic and reward model from the checkpoint; the same method by name trains them on the run's episodes."""
    from agents.audit import Asked, folder_of
    from agents.rollout.build import make_env
    from agents.runs import checkpoint

    words = [f"run={run}", *RUN, "methods=[run,poad,grpo]"]
    results = audited(tmp_path, *words)
    methods = by_name(results)
    assert methods["run"]["method"] == "poad"
    assert (methods["run"]["cost"]["fitted"], methods["poad"]["cost"]["fitted"]) == (0, 3)
    asked = Asked.of([*words, f"out={tmp_path}"])
    folder = folder_of(asked.config, make_env(asked.trainings["run"]), checkpoint.of_run(run, None))
    assert results["iteration"] == 3
    assert credit(folder / "run") == pytest.approx(credit(folder / "poad"), abs=1e-5)
    assert np.std(credit(folder / "run")) > 0.01


def test_the_results_of_a_run_are_in_its_folder(run: Path) -> None:
    assert audit.main([f"run={run}", *RUN, "methods=[grpo]"]) == 0
    (file,) = run.glob("audit-*/audit.json")
    assert json.loads(file.read_text())["policy"] == str(run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["methods=[gigo]"], "Did you mean 'gigpo'?"),
        (["methods=[grpo+hicr]"], "of grpo+hicr the transform is 'hicr'"),
        (["methods=[hapo+hapo]"], "transforms names hapo twice"),
        (["methods=[]"], "methods is an empty list"),
        (["methods=[grpo,grpo]"], "names grpo twice"),
        (["methods=[run]"], "no run is given"),
        (["algo=gigpo"], "set methods=[...]"),
        (["methods=[twosome]"], "method twosome sets engine.constrained=scored"),
        (["episodes=10"], "must be a multiple of rollout.group_size=8, for example 8 or 16"),
        (["continuations=3"], "continuations is 3; it must be at least 4"),
        (["rollout.group_size=1", "methods=[grpo]"], "method grpo: rollout.group_size is 1"),
        (["engine.constrained=scored", "tokens=5"], "nothing is decided within it"),
        (["iterations=3"], "unknown key 'iterations'"),
        (["run=/nowhere"], "there is no /nowhere/config.yaml"),
        (["step_budget=5", "engine.name=table", "warmstart.enabled=false", "episodes=8"], "step_budget is 5"),
    ],
)
def test_a_refusal_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert audit.main([*ENV, f"out={tmp_path}", *words] if "run=/nowhere" not in words else words) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_checkpoint_that_a_run_does_not_have_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main([f"run={run}", "checkpoint=99", *RUN]) == 1
    assert "has no checkpoint of iteration 99; there are:" in capsys.readouterr().err


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--help"]) == audit.main(["--help", "continuations", "futures"]) == 0
    printed = capsys.readouterr().out
    for key in ("episodes=64", "continuations=8", "methods=[grpo, rloo, gigpo, hgpo]", "futures = 128"):
        assert key in printed
