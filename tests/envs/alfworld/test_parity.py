"""Our engine against recorded answers of the official one, and the check itself against faults it must find."""

import gzip
import json
import tarfile
from collections import Counter

import numpy as np
import pytest

from envs.alfworld import parity
from envs.alfworld.engine import Engine
from envs.alfworld.game import TASK_TYPES, parse_game, read_json
from envs.base import TaskError
from scripts import check_parity
from tests.envs.alfworld import games

NAME = "train/pick_and_place_simple-Apple-None-Fridge-1/trial_1/game.tw-pddl"
WALKTHROUGH = ["go to countertop 1", "take apple 2 from countertop 1", "go to sinkbasin 1", "move apple 2 to sinkbasin 1"]


@pytest.mark.data
@games.needs_data
@games.needs_transcripts
def test_every_recorded_answer_of_the_official_engine_is_given():
    transcripts = parity.read_transcripts(games.TRANSCRIPTS)
    wanted = frozenset(transcript.game for transcript in transcripts)
    engines = {
        name: Engine(parse_game(read_json(data, name), name)) for name, data in parity.read_games(games.OFFICIAL, wanted)
    }
    differences = [d for transcript in transcripts for d in parity.replay(engines[transcript.game], transcript)]
    assert [str(d) for d in differences] == []
    assert sum(len(transcript.steps) for transcript in transcripts) > 1000


@pytest.mark.data
@games.needs_data
def test_every_walkthrough_of_every_official_game_wins():
    counts: Counter[str] = Counter()
    for name, data in parity.read_games(games.OFFICIAL):
        game = parse_game(read_json(data, name), name)
        assert name.split("/")[1].startswith(game.task_type)
        assert parity.wins_by_walkthrough(Engine(game)), name
        counts[game.task_type] += 1
    assert set(counts) == set(TASK_TYPES)


@pytest.fixture
def folder(tmp_path):
    """A folder of one game in the official layout, and its transcript."""
    file = tmp_path / "games" / NAME
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(games.contents(walkthrough=WALKTHROUGH)))
    transcript = parity.record(games.engine(walkthrough=WALKTHROUGH), NAME, np.random.default_rng(0), 30)
    write(tmp_path / "t.jsonl.gz", transcript)
    return tmp_path


def write(path, transcript):
    with gzip.open(path, "wt") as out:
        out.write(json.dumps({"game": transcript.game, "steps": transcript.steps}) + "\n")


def check(folder, *arguments, games_at="games"):
    return check_parity.main(["alfworld", "--games", str(folder / games_at), *map(str, arguments)])


def test_equal_answers_are_no_difference(folder, capsys):
    assert check(folder, "--transcripts", folder / "t.jsonl.gz", "--walkthroughs") == 0
    assert " 35 " in capsys.readouterr().out  # reset, 30 random steps, 4 of the walkthrough


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("observation", lambda text: text + " "),
        ("admissible", lambda commands: commands[1:]),
        ("admissible", lambda commands: commands[::-1]),
        ("won", lambda won: not won),
    ],
)
def test_any_changed_answer_is_found_with_its_place(folder, capsys, field, change):
    (transcript,) = parity.read_transcripts(folder / "t.jsonl.gz")
    transcript.steps[7][field] = change(transcript.steps[7][field])
    write(folder / "changed.jsonl.gz", transcript)
    assert check(folder, "--transcripts", folder / "changed.jsonl.gz") == 1
    assert f"{NAME} step 7 ({transcript.steps[7]['action']!r}): {field} should be" in capsys.readouterr().out


def test_a_walkthrough_that_does_not_win_is_found(folder, capsys):
    file = folder / "games" / NAME
    for commands in (WALKTHROUGH[:-1], [*WALKTHROUGH, "look"], [*WALKTHROUGH[:1], "dance", *WALKTHROUGH[1:]], []):
        file.write_text(json.dumps(games.contents(walkthrough=commands)))
        assert check(folder, "--walkthroughs") == 1
        assert "its walkthrough does not win" in capsys.readouterr().out


def test_a_broken_game_is_a_difference_and_the_others_are_played(folder, capsys):
    other = folder / "games" / NAME.replace("trial_1", "trial_0")
    other.parent.mkdir()
    other.write_text("{")
    assert check(folder, "--walkthroughs") == 1
    assert "trial_0/game.tw-pddl: not JSON" in capsys.readouterr().out.replace("\n", "")


def test_games_are_read_from_an_archive_as_from_a_folder(folder):
    with tarfile.open(folder / "games.tar.xz", "w:xz") as archive:
        archive.add(folder / "games", "json_2.1.1")
    plain, packed, among_others = (list(parity.read_games(folder / name)) for name in ("games", "games.tar.xz", "."))
    assert plain == packed == among_others
    assert [name for name, _ in plain] == [NAME]
    assert check(folder, "--transcripts", folder / "t.jsonl.gz", games_at="games.tar.xz") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to check"),
        (["--transcripts", "gone.jsonl.gz"], "gone.jsonl.gz, line 1: not a transcript"),
        (["--transcripts", "t.jsonl.gz", "--games", "gone"], "neither a folder of"),
        (["--transcripts", "cut.jsonl.gz"], "cut.jsonl.gz, line 1: not a transcript"),
        (["--transcripts", "other.jsonl.gz"], "1 games of other.jsonl.gz are not there"),
        (["--walkthroughs", "--games", "broken.tar.xz"], "cannot be read to its end"),
    ],
)
def test_unusable_input_is_told_from_a_difference(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "cut.jsonl.gz").write_bytes((folder / "t.jsonl.gz").read_bytes()[:-20])
    (folder / "broken.tar.xz").write_bytes(b"no archive")
    (transcript,) = parity.read_transcripts(folder / "t.jsonl.gz")
    write(folder / "other.jsonl.gz", parity.Transcript("train/a/b/game.tw-pddl", transcript.steps))
    assert check(folder, *arguments) == 2
    assert message in capsys.readouterr().err.replace("\n", "")


def test_an_empty_or_torn_folder_of_games_is_refused(folder):
    (folder / "empty").mkdir()
    with pytest.raises(TaskError, match="neither a folder"):
        list(parity.read_games(folder / "empty"))
