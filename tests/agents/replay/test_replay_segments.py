"""The replay of segments and of drawn states: what stands in the terminal and on the page, and where nothing stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agents.replay import __main__ as replay
from agents.replay.reading import read
from algorithms.segments import SubgoalSegment
from envs.trajectory import Step
from tests.agents.replay.replayed import episode, step, write_run

FRAME = "\n\n      -----   \n      |@.(|\n       ---\n   \n"


def went(advantage: float, *names: str, **more: Any) -> Step:
    """A step after which the subgoals `names` are achieved."""
    return step("wait", {"advantage": advantage}, **{"subgoals": list(names), **more})


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """What is printed, without the spaces at the ends of lines, and the page."""
    assert replay.main([str(folder), *arguments, "--html", str(folder / "page.html")]) == 0
    return re.sub(" +\n", "\n", capsys.readouterr().out), (folder / "page.html").read_text()


def cells(page: str, title: str) -> list[list[str]]:
    """The texts of a table of segments, row by row."""
    (table,) = re.findall(f'<table class="segments"><thead><tr><th scope="col">{title}</th>.*?</table>', page)
    body = table.partition("<tbody>")[2]
    return [
        [re.sub("<[^>]+>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", row)]
        for row in re.findall("<tr>.*?</tr>", body)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two episodes: one reached the key and the door, one the key only; a third was cut off by a fault."""
    first = [went(1.0), went(2.0, "key", shaped_rewards={"calm": 0.5}), went(-1.0, "key", "door", reward=1.0)]
    second = [went(-2.0, "key"), went(-0.5, "key"), went(-1.5, "key")]
    write_run(tmp_path / "it", [episode(first, success=True), episode(second), episode([went(9.0, "key")], error="timeout: x")])
    return tmp_path / "it"


def test_an_episode_s_options_stand_with_what_their_steps_got(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed, page = shown(run, capsys, "episode=1")
    assert re.search(r"key +1-2 +\+1\.50 +0 +calm \+0\.50\n", printed)
    assert re.search(r"door +3 +-1\.00 +1 +0\n", printed)
    assert cells(page.partition('id="e1"')[2].partition("</section>")[0], "segments") == [
        ["key", "1-2", "+1.50", "", "0", "+0.50"],
        ["door", "3", "-1.00", "", "1", "0"],
    ]


def test_averages_are_over_the_episodes_that_were_trained_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed, page = shown(run, capsys, "--all")
    assert re.search(r"key +2 of 2 +1\.5 +\+0\.33 +0 +calm \+0\.25\n", printed)
    assert cells(page, "segments, averaged") == [
        ["key", "2 of 2", "1.5", "+0.33", "", "0", "+0.25"],
        ["door", "1 of 2", "1.0", "-1.00", "", "1", "0"],
        ["no further subgoal", "1 of 2", "2.0", "-1.00", "", "0", "0"],
    ]


def test_the_band_spans_an_option_s_steps(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, page = shown(run, capsys, "episode=2")
    drawing = page.partition('id="e2"')[2].partition("</svg>")[0]
    bars = [float(width) for width in re.findall(r'width="([\d.]+)" height="20"', drawing)]
    assert [round((width + 2) / 92) for width in bars] == [1, 2]
    assert re.findall(r'class="name [^"]+">([^<]*)<', drawing) == ["key", "no further subgoal"]


def test_where_no_subgoal_was_reached_nothing_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "it", [episode([went(1.0)]), episode([step("wait", {"advantage": -1.0})])])
    printed, page = shown(tmp_path / "it", capsys, "--all")
    main = page.partition("<main>")[2]
    assert "segment" not in printed
    assert not re.search("segment|subgoal\\b(?! reached)", main)


def test_the_judge_s_word_counts_and_the_rules_stand_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [
        went(1.0, judged=["door"]),
        went(1.0, "key", judged=[]),
        went(1.0, "key", "end", judged=["end", "door"]),
    ]
    write_run(tmp_path / "it", [episode(steps)])
    (played,) = read(tmp_path / "it").episodes
    assert [segment for segment, _ in played.segments] == [SubgoalSegment("door", 0, 0), SubgoalSegment("end", 1, 2)]
    assert [one.marks for one in played.steps] == [["by the rules: nothing"], ["by the rules: key"], []]
    printed, _ = shown(tmp_path / "it", capsys)
    assert "note: subgoals are those that a judge saw" in printed


def test_a_drawing_stands_without_what_is_empty_around_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [went(1.0, frame=FRAME), went(1.0, frame=FRAME)]
    write_run(tmp_path / "it", [episode(steps, final_observation="You fall asleep.", final_frame="gone\n")])
    printed, page = shown(tmp_path / "it", capsys)
    assert printed.count("     -----\n     |@.(|\n      ---\n") == 1, "an unchanged drawing is not printed again"
    assert page.count('<pre class="frame">-----\n|@.(|\n ---</pre>') == 2
    assert "what came of it\n     You fall asleep.\n     gone\n" in printed
    assert '<pre class="frame">gone</pre><pre class="seen">You fall asleep.</pre>' in page.partition("what came of it")[2]


def test_names_and_drawings_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "<script>\x1b[2J\u202e"
    one = went(1.0, hostile, frame=hostile)
    one.shaped_rewards[hostile] = 1.0
    write_run(tmp_path / "it", [episode([one], final_observation=hostile, final_frame=hostile)])
    printed, page = shown(tmp_path / "it", capsys, "--all")
    assert "reached: <script>\\x1b[2J\\u202e" in " ".join(printed.split())
    assert not {"\x1b", "\u202e"} & {*printed, *page}
    assert page.count("<script>") == 1, "the page's own"


def test_a_drawing_wider_than_the_terminal_is_cut_and_not_wrapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = "-" * 79 + "\n" + "|" + "." * 77 + "|"
    write_run(tmp_path / "it", [episode([went(1.0, frame=wide)])])
    printed, _ = shown(tmp_path / "it", capsys)
    assert [len(line) for line in printed.splitlines() if line.strip().startswith(("---", "|..."))] == [80, 80]


@pytest.mark.parametrize("noted", [3, ["a"], "", "  \n "])
def test_a_drawing_that_is_none_does_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str], noted: Any) -> None:
    write_run(tmp_path / "it", [episode([went(1.0, frame=noted)], final_observation=str(noted))])
    printed, page = shown(tmp_path / "it", capsys)
    assert ("what came of it" in printed) == bool(str(noted).strip())
    assert ('<pre class="frame">' in page) == bool(str(noted).strip())
