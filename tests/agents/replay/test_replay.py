"""The replay of episodes: what is read from a run, what is chosen, what stands in the terminal, and how it refuses."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import train
from agents.replay import __main__ as replay
from agents.replay.html import Markup, tag
from agents.replay.reading import choose, read
from agents.replay.scale import DARK, LIGHT, STEPS, Palette, contrast, level, stands_for
from agents.replay.view import Iteration, rows, scale_of, signed
from agents.rollout.planner import GREEDY
from envs import registry
from envs.common.text import printable
from tests.agents.replay.replayed import episode, step, write_run
from tests.envs import toys

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["env=hallway", "warmstart.enabled=false", "rollout.groups=2", "rollout.group_size=4", "threads=1", "iterations=2"]
SMALL += ["evaluation.before=false", "evaluation.after=false", "seed=0", "algo=gigpo"]

registry.register("hallway", "tests/Hallway-v0", "tests.envs.toys:Corridor", toys.CorridorConfig, toys.CorridorPrompt)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GiGPO run that is over."""
    before = signal.getsignal(signal.SIGTERM)
    out = tmp_path_factory.mktemp("runs")
    assert train.main([*SMALL, f"out={out}", "run=it"]) == 0
    signal.signal(signal.SIGTERM, before)
    return out / "it"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two groups: in the second one an episode is credited unevenly."""
    even = [step("wait", {"advantage": 0.5, "episode": 0.5, "shaped": 0.0}) for _ in range(3)]
    uneven = [
        step("open door", {"advantage": 2.0, "episode": 1.5, "shaped": 0.5}, shaped_rewards={"kind": 0.5}),
        step("wait", {"advantage": -1.0, "episode": -1.0, "shaped": 0.0}, valid=False, reward=1.0, terminated=True),
    ]
    write_run(tmp_path / "it", [episode(even), episode(even[:1]), episode(uneven, "g1", success=True)], iteration=7)
    return tmp_path / "it"


def test_the_newest_iteration_is_opened_and_its_page_written(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(trained)]) == 0
    printed = capsys.readouterr().out
    (page,) = (trained / "replay").glob("iteration_000002-episode_*.html")
    assert printed.startswith("it, iteration 2: gigpo on hallway")
    assert printed.endswith(f"written: {page}\n")


def test_the_returns_shown_explain_the_step_advantages_of_gigpo(trained: Path) -> None:
    iteration = read(trained)
    steps = [one for e in iteration.episodes for one in e.steps]
    assert any(len(one.peers) > 1 and one.credit["step"] for one in steps)
    for one in steps:
        returns = np.array([peer.return_to_go for peer in one.peers or [one]])
        spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
        expected = (one.return_to_go - returns.mean()) / (spread + 1e-6)
        assert one.credit["step"] == pytest.approx(expected, abs=1e-6)


def test_an_interrupted_run_is_shown_with_numbers_for_tokens(tmp_path: Path) -> None:
    write_run(tmp_path / "it", [episode([step("wait", {"advantage": 1.0})])], finished=False)
    iteration = read(tmp_path / "it")
    assert {token.text for token in iteration.episodes[0].steps[0].tokens} == {None}
    assert "the run has no tokenizer" in iteration.notes[0]
    assert replay.main([str(tmp_path / "it")]) == 0


@pytest.mark.fault("a file of episodes was cut off", lost="the episodes behind the cut")
def test_a_file_that_was_cut_off_is_shown_as_far_as_it_goes(run: Path) -> None:
    file = run / "trajectories" / "iteration_000007.jsonl.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    iteration = read(run)
    assert 0 < len(iteration.episodes) < 3
    assert "its writer was stopped" in iteration.notes[0]


def test_tokens_are_spelled_with_the_spaces_between_them(run: Path) -> None:
    assert [token.text for token in read(run).episodes[2].steps[0].tokens] == ["open", " door", " <end>"]


def test_the_episode_whose_tokens_were_credited_most_differently_is_chosen(run: Path) -> None:
    chosen, why = choose(read(run))
    assert (chosen.number, chosen.contrast) == (3, 3.0)
    assert "most differently" in why


def test_where_all_steps_are_credited_alike_a_won_episode_of_a_divided_group_is_chosen(tmp_path: Path) -> None:
    alike = {
        "g0": [(0.0, False), (0.0, False)],
        "g1": [(0.0, False), (1.0, True)],
    }
    trajectories = [
        episode([step("wait", {"advantage": reward}, reward=reward)], group, success=won)
        for group, ends in alike.items()
        for reward, won in ends
    ]
    write_run(tmp_path / "it", trajectories)
    assert choose(read(tmp_path / "it"))[0].number == 4


def test_an_episode_is_the_line_of_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(run), "iteration=7", "episode=2", "--html", str(run / "page.html")]) == 0
    assert "episode 2: lost, return 0, 1 steps, mean advantage +0.50" in capsys.readouterr().out
    assert 'class="episode shown" id="e2"' in (run / "page.html").read_text()


def test_the_terminal_says_what_a_step_s_credit_is_made_of(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay.main([str(run)])
    printed = capsys.readouterr().out
    assert "  1   +2.00   open door" in printed
    assert "credit: episode +1.50 | shaped +0.50" in printed
    assert "kind paid +0.50" in printed
    assert "wait  [invalid]  [won]" in printed


def test_what_is_printed_fits_80_columns_and_has_no_codes(trained: Path, run: Path) -> None:
    command = [sys.executable, "-m", "agents.replay"]
    for folder in (trained, run):
        done = subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("written: ")]
        assert max(map(len, lines)) <= 80
        assert "\x1b" not in done.stdout


def test_long_words_leave_room_for_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [step("look", {"advantage": value}, observation="task " * 50) for value in (0.75, -0.75)]
    for one in long:
        one.action = "search[" + "word " * 50 + "]"
    write_run(tmp_path / "it", [episode([one]) for one in long])
    replay.main([str(tmp_path / "it")])
    table = [line.split() for line in capsys.readouterr().out.splitlines() if "search[word" in line and "…" in line]
    assert [(row[0], row[-1]) for row in table] == [("1.1", "+0.75"), ("2.1", "-0.75")]


@pytest.mark.fault("a terminal that knows no Unicode", lost="the signs that it lacks")
def test_a_terminal_that_knows_no_unicode_is_no_reason_to_fail(run: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "PATH": ""}
    command = [sys.executable, "-m", "agents.replay", str(run)]
    assert subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL).returncode == 0


def test_a_credit_a_token_becomes_a_mean_a_step_and_values_stand_apart(tmp_path: Path) -> None:
    credit = {"advantage": [1.0, None, -0.5], "delta": [0.25, 0.25, 0.25], "value": [0.1, 0.2, 0.3], "return": [None, 0.7, 1.0]}
    write_run(tmp_path / "it", [episode([step("open door", credit)])])
    (shown,) = read(tmp_path / "it").episodes[0].steps
    assert [token.advantage for token in shown.tokens] == [1.0, None, -0.5]
    assert shown.advantage == 0.25
    assert shown.parts == {"delta": 0.25}
    assert (shown.credit["value"], shown.credit["return"]) == (0.1, 0.7)
    assert shown.per_token


def test_how_far_success_is_stands_beside_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    credit = {"advantage": 0.5, "episode": 1.5, "graph": -1.0, "distance": 3.0}
    write_run(tmp_path / "it", [episode([step("open door", credit)])])
    (shown,) = read(tmp_path / "it").episodes[0].steps
    assert shown.parts == {"episode": 1.5, "graph": -1.0}
    replay.main([str(tmp_path / "it")])
    assert "steps to success afterwards +3.00" in " ".join(capsys.readouterr().out.split())


def test_numbered_step_groups_are_believed_before_states(tmp_path: Path) -> None:
    steps = [step(action, {"advantage": 0.0}, step_group=group) for action, group in (("wait", 4), ("look", 9))]
    write_run(tmp_path / "it", [episode(steps), episode(steps[:1], "g1")])
    iteration = read(tmp_path / "it")
    first, second = iteration.episodes[0].steps
    assert iteration.compared
    assert [(peer.episode, peer.number) for peer in first.peers] == [(1, 1), (2, 1)]
    assert second.peers == []


def test_without_numbers_the_visits_of_a_state_are_peers_within_the_group(tmp_path: Path) -> None:
    visit = [step("wait", {"advantage": 0.0})]
    write_run(tmp_path / "it", [episode(visit), episode(visit), episode(visit, "g1")])
    iteration = read(tmp_path / "it")
    assert not iteration.compared
    assert [peer.episode for peer in iteration.episodes[0].steps[0].peers] == [1, 2]
    assert iteration.episodes[2].steps[0].peers == []


def test_an_agent_that_goes_in_circles_fills_one_row(tmp_path: Path) -> None:
    circling = episode([step("wait", {"advantage": -0.5}) for _ in range(9)])
    write_run(tmp_path / "it", [circling, episode([step("open door", {"advantage": 1.0}, reward=1.0)])])
    best, worst = rows(read(tmp_path / "it").episodes[0].steps[0])
    assert (best.action, best.return_to_go, len(worst.steps)) == ("open door", 1.0, 9)


def test_returns_are_discounted_and_shaped_as_the_method_s_settings_say(tmp_path: Path) -> None:
    steps = [step("wait", {"advantage": 0.0}, shaped_rewards={"calm": 2.0, "tax": 5.0}), step("look", reward=4.0)]
    config = "algo: {name: m, gamma: 0.5, shaped_at: {tax: none}}\nenv: {name: room}\n"
    write_run(tmp_path / "it", [episode(steps)], config=config)
    assert [one.return_to_go for one in read(tmp_path / "it").episodes[0].steps] == [2.0 + 0.5 * 4.0, 4.0]


def test_an_episode_that_a_fault_cut_off_is_nobody_s_peer(tmp_path: Path) -> None:
    fault = episode([step("wait")], error="timeout: no answer")
    write_run(tmp_path / "it", [fault, episode([step("wait", {"advantage": 0.0})])])
    broken, whole = read(tmp_path / "it").episodes
    assert broken.outcome == "fault"
    assert broken.steps[0].advantage is broken.mean_advantage is broken.steps[0].return_to_go is None
    assert whole.steps[0].peers == []
    assert replay.main([str(tmp_path / "it"), "episode=1"]) == 0


@pytest.mark.parametrize("compared", [True, False])
def test_episodes_not_trained_on_say_why_and_are_nobody_s_peers(
    tmp_path: Path, compared: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    group = 0 if compared else None
    trained = [episode([step("wait", {"advantage": 0.5}, step_group=group)]) for _ in range(2)]
    dropped = [episode([step("wait"), step("wait")], "g0+1") for _ in range(2)]
    greedy = episode([step("wait"), step("wait")], f"g0{GREEDY}")
    write_run(tmp_path / "it", [*trained, *dropped, greedy])
    iteration = read(tmp_path / "it")
    assert [group.left_out for group in iteration.groups] == [
        None,
        "dropped: all returns alike",
        "played greedily, not trained on",
    ]
    first, *others = iteration.episodes
    assert [peer.episode for peer in first.steps[0].peers] == [1, 2]
    assert [one.peers for e in others[1:] for one in e.steps] == [[]] * 6
    for number, words in ((3, "dropped: all returns alike"), (5, "played greedily, not trained on")):
        assert replay.main([str(tmp_path / "it"), f"episode={number}"]) == 0
        assert f"\n{words}\n" in capsys.readouterr().out
        page = (tmp_path / "it" / "replay" / f"iteration_000001-episode_{number}.html").read_text()
        assert f'<p class="note">{words}</p>' in page


def test_an_iteration_before_its_update_has_no_dropped_episodes(tmp_path: Path) -> None:
    write_run(tmp_path / "it", [episode([step("wait")]), episode([step("wait")])])
    first, _ = read(tmp_path / "it").episodes
    assert first.left_out is None
    assert [peer.episode for peer in first.steps[0].peers] == [1, 2]


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ("gamma: abc", "without discount: algo.gamma is 'abc'"),
        ("gamma: null", "without discount: algo.gamma is None"),
        ("gamma: .nan", "without discount: algo.gamma is nan"),
        ("shaped_at: {tax: sometimes}", "algo.shaped_at is {'tax': 'sometimes'}"),
        ("shaped_at: [tax]", "algo.shaped_at is ['tax']"),
    ],
)
def test_settings_that_are_not_understood_become_notes(tmp_path: Path, settings: str, note: str) -> None:
    config = f"algo:\n  name: m\n  {settings}\nenv: {{name: room}}\n"
    write_run(tmp_path / "it", [episode([step("wait", {"advantage": 1.0}, reward=2.0)])], config=config)
    iteration = read(tmp_path / "it")
    assert note in iteration.notes[0]
    assert iteration.episodes[0].steps[0].return_to_go == 2.0


@pytest.mark.fault("a damaged tokenizer in a replay", lost="the words of tokens")
def test_a_damaged_tokenizer_leaves_numbers(run: Path) -> None:
    file = run / "model" / "tokenizer.json"
    file.write_text(file.read_text()[:100])
    iteration = read(run)
    assert f"{file} cannot be read" in iteration.notes[0]
    assert iteration.episodes[0].steps[0].tokens[0].text is None


@pytest.mark.parametrize("noted", [{"subgoals": [3]}, {"judged": [3]}, {"credit": {3: 3}}, {"credit": {"3": "much"}}])
def test_what_a_plug_in_noted_otherwise_is_text(tmp_path: Path, noted: dict[str, Any]) -> None:
    write_run(tmp_path / "it", [episode([step("look", **noted)]) for _ in range(2)])
    assert replay.main([str(tmp_path / "it")]) == 0
    shown = read(tmp_path / "it").episodes[0].steps[0]
    assert "3" in f"{shown.reached} {shown.marks} {shown.credit}"


def test_the_environment_s_variables_stay_out_of_the_page(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    (run / "config.yaml").write_text("algo: {name: '${oc.env:A_SECRET}'}\nenv: {name: room}\n")
    assert replay.main([str(run), "--html", str(run / "page.html")]) == 0
    assert "hunter2" not in capsys.readouterr().out + (run / "page.html").read_text()


def test_settings_that_cannot_be_read_are_no_reason_to_show_nothing(run: Path) -> None:
    (run / "config.yaml").write_text("algo: [")
    iteration = read(run)
    assert iteration.method == "unknown method"
    assert "settings are not known" in iteration.notes[0]


def test_only_new_subgoals_are_reached_at_a_step(tmp_path: Path) -> None:
    steps = [step("look", subgoals=found) for found in (["seen"], ["seen"], ["seen", "held"])]
    write_run(tmp_path / "it", [episode(steps)])
    assert [one.reached for one in read(tmp_path / "it").episodes[0].steps] == [["seen"], [], ["held"]]


@pytest.mark.fault("texts with control characters")
@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\rb", "\u202egnp.exe", "\ud800", "\x9b31m", "a\u200bb", "\ufeff", "\u00ad", "\U000e0041\U000e0042"]
)
def test_text_has_no_power_over_the_terminal(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "it", [episode([step("look", {"advantage": 1.0}, observation=f"see {text}!")])])
    assert replay.main([str(tmp_path / "it")]) == 0
    assert text not in capsys.readouterr().out
    assert text not in (tmp_path / "it" / "replay" / "iteration_000001-episode_1.html").read_text()
    assert printable("two\nlines\tand é") == "two\nlines\tand é"


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_s_name_has_no_power_over_the_terminal(
    tmp_path: Path, exists: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "it\x1b[2J"
    if exists:
        write_run(folder, [episode([step("look", {"advantage": 1.0})])])
    assert replay.main([str(folder)]) == (0 if exists else 2)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "it\\x1b[2J" in said.out + said.err


def test_a_page_replaces_a_page_and_follows_no_link(run: Path) -> None:
    page, other = run / "page.html", run / "precious"
    other.write_text("mine")
    for _ in range(2):
        assert replay.main([str(run), "--html", str(page)]) == 0
        assert "<!DOCTYPE html>" in page.read_text()
        page.write_text("<!DOCTYPE html> old")
    page.unlink()
    page.symlink_to(other)
    assert replay.main([str(run), "--html", str(page)]) == 2
    assert other.read_text() == "mine"


def test_the_page_is_one_file_that_asks_for_nothing(run: Path) -> None:
    replay.main([str(run), "--all"])
    page = (run / "replay" / "iteration_000007.html").read_text()
    assert not re.search(r"https?:|url\(|@import| src=", page)
    policy = re.search(r"default-src 'none'; style-src '([^']+)'; script-src '([^']+)'", page)
    assert policy is not None
    for kind, allowed in zip(("style", "script"), policy.groups()):
        (inside,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        assert allowed == f"sha256-{b64encode(hashlib.sha256(inside.encode()).digest()).decode()}"
    assert " style=" not in page
    assert not re.search(r"<[^>]* on\w+=", page)


def test_markup_is_text_unless_it_was_made_here() -> None:
    assert tag("p", "<b>&", tag("i", "x"), title='"') == '<p title="&quot;">&lt;b&gt;&amp;<i>x</i></p>'
    assert not isinstance("<b>", Markup)


def refusals(run: Path) -> Iterator[tuple[list[str], int, str]]:
    yield [], 2, "name one run"
    yield [str(run), str(run.parent)], 2, "2 were given"
    yield [str(run.parent / "ti")], 2, f"Did you mean '{run}'?"
    yield [str(run.parent)], 2, f"Runs near it: {run}"
    yield [str(run), "iteration=3"], 2, "has episodes of 7"
    yield [str(run), "iteration=soon"], 2, "iteration is 'soon'"
    yield [str(run), "episode=4"], 2, "has episodes 1 to 3"
    yield [str(run), "episode=0"], 2, "at least 1"
    yield [str(run), "epsode=1"], 2, "Did you mean 'episode'?"
    yield [str(run), "--web"], 2, "unknown option --web"
    yield [str(run), "--html"], 2, "--html: expected one argument"
    yield [str(run), "--html", str(run)], 2, "is a folder"
    yield [str(run), "--html", ""], 2, "--html is empty"
    yield [str(run), "--htm", str(run / "page.html")], 2, "unknown option --htm"
    yield [str(run), "--html", str(run / "config.yaml")], 2, "config.yaml exists and is no .html file"
    yield [str(run), "--html", "/dev/null"], 2, "/dev/null is no regular file"
    yield [str(run), "--html", str(run / "config.yaml" / "page.html")], 1, "choose another place with --html FILE"


@pytest.mark.parametrize("number", range(17))
def test_a_refusal_is_one_message_and_an_exit_code(run: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    arguments, code, words = list(refusals(run))[number]
    assert replay.main(arguments) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_run_without_episodes_yet_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "trajectories" / "iteration_000007.jsonl.gz").unlink()
    assert replay.main([str(run)]) == 2
    assert "no episodes of a training iteration yet" in capsys.readouterr().err


@pytest.mark.fault("a damaged file of episodes", lost="its episodes")
def test_a_damaged_file_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "trajectories" / "iteration_000007.jsonl.gz"
    file.write_bytes(b"nothing of the kind")
    assert replay.main([str(run)]) == 1
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_every_level_s_text_is_readable(palette: Palette) -> None:
    assert min(contrast(palette.ink(at), palette.ground(at)) for at in range(-STEPS, STEPS + 1)) >= 4.5


def test_the_scale_is_symmetric_and_hides_no_credit() -> None:
    values = np.linspace(0.0, 3.0, 200)
    assert [level(v, 3.0) for v in values] == [-(level(-v, 3.0) or 0) for v in values]
    assert (level(1e-9, 3.0), level(-1e-9, 3.0), level(0.0, 3.0), level(None, 3.0)) == (1, -1, 0, None)
    assert level(99.0, 3.0) == STEPS
    assert [level(stands_for(at, 3.0), 3.0) for at in range(-STEPS, STEPS + 1)] == list(range(-STEPS, STEPS + 1))


def test_the_scale_s_ends_are_the_largest_credit_of_tokens_and_of_steps(tmp_path: Path) -> None:
    uneven = step("open door", {"advantage": [4.0, -4.0, 1.5], "value": [9.0, 9.0, 9.0]})
    write_run(tmp_path / "it", [episode([uneven])])
    iteration: Iteration = read(tmp_path / "it")
    scale = scale_of(iteration.episodes)
    assert (scale.color, scale.length) == (4.0, 0.5)


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "+1.23"), (-0.5, "-0.50"), (0.0041, "+0.0041"), (0.0, "0"), (None, "none")]
)
def test_a_credit_s_sign_is_always_said(value: float | None, text: str) -> None:
    assert signed(value) == text
