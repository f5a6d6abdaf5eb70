"""The report on runs: what it says of finished, running, killed and damaged ones, and that no text in it has any power."""

from __future__ import annotations

import os
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from agents import report
from agents.config import loading
from agents.reporting import chart, health, reading
from agents.runs.evaluation import wilson
from agents.runs.folder import RunFolder, _started
from tests.agents.reporting.reported import ROWS, write

HOSTILE = "</pre><script>alert('&')</script><img src=x onerror=\"alert(1)\">\u202e"


class Page(HTMLParser):
    """What is written on a page, and where its links lead."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.text, self.links, self.tags = "", [], set[str]()
        self.source = file.read_text()
        self.feed(self.source)

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attributes if name in ("href", "src")]


def page(*runs: RunFolder, html: Path | None = None) -> Page:
    return Page(report.report([str(run.path) for run in runs], html))


def test_the_page_says_what_was_run_and_what_it_reached(tmp_path: Path) -> None:
    shown = page(write(tmp_path / "it")).text
    low, high = wilson(0.75 * 20, 20)
    said = (
        "gigpo on alfworld, model tiny, seed 0",
        f"{low:.3f} to {high:.3f}, 20 episodes, iteration 2",
        "2 of 3",
        "0.350 to 0.650",
    )
    for part in (*said, "the model wrote plain", "rollout.groups", "audit", "python -m agents.replay"):
        assert part in shown, part


def test_every_link_leads_to_a_file_that_is_there_from_wherever_the_page_is(tmp_path: Path) -> None:
    run = write(tmp_path / "runs of mine" / "it")
    for html in (None, tmp_path / "elsewhere" / "page.html"):
        at = (html or run.path / "report.html").parent
        links = [unquote(link.partition("#")[0]) for link in page(run, html=html).links]
        assert len(links) > 4
        assert all((at / link).is_file() for link in links), links


def test_texts_that_others_wrote_have_no_power(tmp_path: Path) -> None:
    run = write(tmp_path / "it", word=HOSTILE, reason=HOSTILE, status="failed")
    shown = page(run)
    assert not shown.tags & {"script", "img", "link", "iframe", "object"}
    assert shown.text.count("alert('&')") > 10
    assert "\u202e" not in shown.source
    assert "default-src 'none'" in shown.source
    assert not re.search(r"https?://", shown.source.replace(HOSTILE, ""))


def test_a_run_that_is_going_on_and_one_that_was_killed_are_told_apart(tmp_path: Path) -> None:
    import socket

    here = {"host": socket.gethostname(), "status": "running"}
    going = write(tmp_path / "going", **here, started=_started(os.getpid()))
    killed = write(tmp_path / "killed", **here, pid=2**22 + 1)
    away = write(tmp_path / "away", status="running", host="another")
    assert reading.read(going.path).state == "running"
    assert "resume=" not in page(going).text
    assert reading.read(killed.path).state == "killed"
    assert f"python -m agents.train resume={killed.path}" in page(killed).text
    assert "another says that it runs; whether it still does cannot be seen from here" in page(away).text


def test_a_run_without_numbers_or_episodes_yet_has_a_page(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "new")
    run.path.mkdir()
    run.config.write_text(loading.to_yaml(loading.load(["env=alfworld", "algo=gigpo"])))
    shown = page(run).text
    assert "there are no numbers yet" in shown
    assert "there are no episodes yet" in shown


def test_the_end_of_a_line_that_is_being_written_is_not_missed_and_a_broken_one_is_told(tmp_path: Path) -> None:
    run = write(tmp_path / "it")
    whole = run.metrics.read_text()
    run.metrics.write_text(whole + '{"iteration": 3, "train/succ')
    assert "cannot be read" not in page(run).text
    run.metrics.write_text(
        whole.replace('{"iteration": 1', '{"iterat', 1) + '{"iteration": "x"}\n[]\n{"iteration": 3, "a": "b"}\n'
    )
    assert "some numbers are missing: lines 2, 5 of metrics.jsonl cannot be read" in page(run).text
    assert [row["iteration"] for row in reading.read(run.path).rows] == [0, 2, 3]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("status.json", b"", "how the run ended is not known"),
        ("config.yaml", b"\x00\xff{", "settings are not known"),
        ("splits.json", b"[1]", "0.750"),
        ("starts.jsonl", b"[]", "Not recorded"),
        ("starts.jsonl", b'{"versions": 1, "gpus": {}}\n', "started"),
        ("evaluation-test-0123456789ab.json", b"\xff{", "evaluation-test-0123456789ab.json cannot be read and is left out"),
        ("another.json", b'{"temperatures": 1}', "another.json cannot be read and is left out"),
        ("audit-01234567/audit.json", b'{"methods": [2]}', "audit-01234567/audit.json cannot be read and is left out"),
        ("trajectories/iteration_000002.jsonl.gz", b"\x1f", "the episodes of iteration 2 cannot be shown"),
    ],
)
def test_a_damaged_file_costs_what_it_would_have_said(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    run = write(tmp_path / "it")
    (run.path / name).write_bytes(content)
    assert said in page(run).text


def test_where_no_replay_can_be_written_the_command_is_shown(tmp_path: Path) -> None:
    run = write(tmp_path / "it")
    (run.path / "replay").write_text("a file where a folder must be")
    shown = page(run)
    assert "pages of the replay cannot be written there" in shown.text
    assert f"python -m agents.replay {run.path} iteration=2" in shown.text


def test_several_runs_stand_beside_each_other(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a" / "it"), write(tmp_path / "b" / "it", "optim.lr=0.25")
    shown = page(first, second, first)
    assert "2 runs" in shown.text
    assert {f"{run.path}, temperature 1" for run in (first, second)} <= set(re.findall(r"<span>([^<]+)</span>", shown.source))
    assert re.search(r"optim.lr</th><td>0\.0004</td><td>0\.25</td>", shown.source)
    assert (tmp_path / "a" / "report.html").exists()


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["algo=dapo", "evaluation.temperature=[0.25,1]", "model.max_length=300", "tracker.console=null"],
        ["shaping=calm", "model.system='a b, {c} \\'d\\''", "model=hub", "model.name=x/y", "engine.stop=['</a>',\" b\"]"],
    ],
)
def test_the_command_that_is_shown_makes_the_same_run(tmp_path: Path, settings: list[str]) -> None:
    run = write(tmp_path / "it", *settings)
    words = shlex.split(reading.read(run.path).command)
    again = loading.load(words[words.index("agents.train") + 1 :])
    assert loading.to_yaml(again) == run.config.read_text()


def test_the_parts_of_the_time_are_the_whole_of_it(tmp_path: Path) -> None:
    spent = reading.spent(reading.read(write(tmp_path / "it").path))
    assert spent["before training: loading, warm start"] == 10.0
    assert (spent["rollout"], spent["update"], spent["evaluation"]) == (6.0, 2.0, 3.0)
    assert sum(spent.values()) == ROWS[-1]["time/wall"]


def test_steps_per_second_are_those_of_playing(tmp_path: Path) -> None:
    assert reading.steps_per_second(reading.read(write(tmp_path / "it").path)) == [(1, 50.0), (2, 50.0)]


def test_a_signal_is_odd_when_its_last_values_are(tmp_path: Path) -> None:
    rows = [{"iteration": at, "update/clip_fraction": value} for at, value in enumerate((0.1, 0.3, 0.3))]
    rows += [{"iteration": at, "update/clip_fraction": 0.3, "update/skipped_steps": at == 4} for at in (3, 4)]
    for upto, odd in ((3, []), (4, ["update/clip_fraction"]), (5, ["update/clip_fraction", "update/skipped_steps"])):
        lines = [{name: float(value) if name != "iteration" else value for name, value in row.items()} for row in rows[:upto]]
        seen = health.seen(reading.read(write(tmp_path / f"{upto}", rows=lines).path))
        assert [one.signal.metric for one in seen if one.odd] == odd


@pytest.mark.parametrize("span", [(0.0, 1.0), (0.0, 0.0), (-3.2, 1e-9), (5e5, 5.1e5), (0.13, 0.14), (1e-12, 2e-12)])
def test_ticks_are_few_and_reach_around_what_is_drawn(span: tuple[float, float]) -> None:
    found = chart.ticks(*span)
    assert 2 <= len(found) <= 7
    assert found[0] <= span[0] + 1e-9
    assert found[-1] >= span[1] - 1e-9


def test_what_is_no_run_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "it")
    (tmp_path / "empty").mkdir()
    for words, said in (
        ([str(tmp_path / "empty")], f"empty is not the folder of a run. Runs near it: {run.path}."),
        ([str(tmp_path / "its")], f"Did you mean '{run.path}'?"),
        ([], "name one run or several"),
        ([str(run.path), "--open"], "unknown option --open"),
        ([str(run.path), "--html", str(run.metrics)], "exists and is no .html file"),
    ):
        assert report.main(words) == 2
        shown = capsys.readouterr().err
        assert said in shown
        assert "Traceback" not in shown


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "it")
    assert report.main([str(run.path)]) == 0
    assert capsys.readouterr().out == f"written: {run.path / 'report.html'}\n"
    assert report.main(["--help"]) == 0
    assert "usage: python -m agents.report" in capsys.readouterr().out


def test_every_signal_is_explained_in_the_documents() -> None:
    docs = Path(__file__).resolve().parents[3] / "docs"
    text = "".join((docs / name).read_text() for name in ("reading-a-run.md", "run-folder.md"))
    assert [one.metric for one in health.SIGNALS if f"`{one.metric}`" not in text] == []
