"""Splits: disjoint, balanced, and the same on every machine."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import orjson
import pytest

from envs.alfworld import tasks
from envs.alfworld.config import ALFWorldConfig
from envs.alfworld.generator import generate, write_game
from envs.alfworld.goals import TASK_TYPES
from envs.alfworld.household import SIZES
from envs.alfworld.tasks import generated_household, load, split_hash, split_tasks, task_type
from envs.base import SPLITS, TaskError

SMALL = ALFWorldConfig()


def official(root: Path, **more: int) -> ALFWorldConfig:
    return ALFWorldConfig(source="official", data=str(root), **more)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three games of each of two types in the official layout, and things that are none."""
    for kind in TASK_TYPES[:2]:
        for number in range(3):
            path = tmp_path / "json_2.1.1" / "train" / f"{kind}-X-None-Y-{number}" / "trial_1" / "game.tw-pddl"
            write_game(path, generate(kind, "small", number))
    folder = tmp_path / "json_2.1.1" / "train"
    (folder / "pick_and_place_simple-X-None-Y-9" / "trial_without_game").mkdir(parents=True)
    shutil.copytree(folder / "pick_and_place_simple-X-None-Y-0", folder / "pick_and_place_with_movable_recep-X-Y-1")
    shutil.copytree(folder / "pick_and_place_simple-X-None-Y-0", folder / "pick_and_place_simple-XSliced-None-Y-1")
    (folder / "notes.txt").write_text("a stray file")
    return tmp_path


# -- generated games -----------------------------------------------------------------------------------------------------------


def test_splits_have_the_default_or_the_configured_size() -> None:
    assert [len(split_tasks(SMALL, split)) for split in SPLITS] == [1200, 120, 120]
    assert len(split_tasks(ALFWorldConfig(train_games=7), "train")) == 7


def test_types_are_balanced_also_in_a_part_of_a_split() -> None:
    ids = split_tasks(SMALL, "eval")
    assert Counter(map(task_type, ids)) == dict.fromkeys(TASK_TYPES, 20)
    assert Counter(map(task_type, ids[:12])) == dict.fromkeys(TASK_TYPES, 2)


def test_a_smaller_split_begins_a_larger_one() -> None:
    assert split_tasks(ALFWorldConfig(train_games=50), "train") == split_tasks(SMALL, "train")[:50]


def test_no_game_is_in_two_splits_or_twice_in_one() -> None:
    contents = {split: [generated_household(i)[0].content() for i in split_tasks(SMALL, split)] for split in SPLITS}
    everything = [content for split_contents in contents.values() for content in split_contents]
    assert len(everything) == len(set(everything)) == 1440


def test_splits_of_any_size_stay_disjoint_because_contents_are_shared_out() -> None:
    for number in (0, 5000, 999999):
        for split in SPLITS:
            home, _ = generated_household(f"small/{split}/pick_two_obj_and_place/{number:06d}")
            assert tasks._SHARES[int(home.content(), 16) % len(tasks._SHARES)] == split


def test_content_does_not_depend_on_wording_or_numbering() -> None:
    home, _ = generated_household("small/train/pick_and_place_simple/000000")
    content = home.content()
    last = len(home.receptacles) - 1
    home.wording = 1 - home.wording
    home.receptacles.reverse()
    home.objects = [(kind, last - place) for kind, place in reversed(home.objects)]
    assert home.content() == content
    home.objects = home.objects[1:]
    assert home.content() != content


def test_an_id_means_the_same_game_whatever_was_loaded_before() -> None:
    task_id = "small/eval/pick_cool_then_place_in_recep/000003"
    before = load(SMALL, task_id)
    tasks._generated_game.cache_clear()
    load(SMALL, "full/train/pick_cool_then_place_in_recep/000003")
    assert load(SMALL, task_id) == before


def test_splits_mean_the_games_they_always_meant() -> None:
    # A change here makes results incomparable with earlier ones: raise generator.VERSION with it.
    hashes = {size: [split_hash(ALFWorldConfig(size=size), split) for split in SPLITS] for size in SIZES}
    assert hashes == {
        "small": ["83be46c25b9d1529", "da98840559dcf300", "f0fa333aba0d7ef4"],
        "full": ["c16a9c782dc248ab", "66688c7392210c6f", "9837d10e70476cfb"],
    }
    files = [orjson.dumps(tasks.contents(SMALL, task_id)) for split in SPLITS for task_id in split_tasks(SMALL, split)[:12]]
    assert hashlib.sha256(b"".join(files)).hexdigest()[:16] == "4752356dde23faa0"


def test_the_hash_follows_the_split() -> None:
    hashes = {split_hash(ALFWorldConfig(size=size, eval_games=n), "eval") for size in SIZES for n in (6, 12)}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    "task_id", ["small/train/pick/000001", "huge/train/pick_and_place_simple/000001", "", "valid_seen/a/b"]
)
def test_a_malformed_id_shows_a_good_one(task_id: str) -> None:
    with pytest.raises(TaskError, match="small/train/pick_and_place_simple/000042"):
        load(SMALL, task_id)


# -- official games ------------------------------------------------------------------------------------------------------------


def test_official_splits_are_sorted_and_leave_out_what_cannot_be_played(root: Path) -> None:
    ids = split_tasks(official(root), "train")
    assert ids == tuple(sorted(f"train/{kind}-X-None-Y-{number}/trial_1" for kind in TASK_TYPES[:2] for number in range(3)))
    assert {task_type(task_id) for task_id in ids} == set(TASK_TYPES[:2])


def test_the_folder_above_or_the_folder_itself_may_be_named(root: Path) -> None:
    assert split_tasks(official(root / "json_2.1.1"), "train") == split_tasks(official(root), "train")


def test_alfworld_data_names_the_folder_where_the_configuration_does_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(root))
    config = ALFWorldConfig(source="official")
    assert load(config, split_tasks(config, "train")[0]).task_type == "look_at_obj_in_light"


@pytest.mark.fault("a damaged game", lost="its task")
def test_a_broken_file_is_an_error_of_its_task_alone(root: Path) -> None:
    config = official(root)
    first, second, *_ = split_tasks(config, "train")
    (root / "json_2.1.1" / first / "game.tw-pddl").write_text("{")
    with pytest.raises(TaskError, match=r"game\.tw-pddl"):
        load(config, first)
    assert load(config, second).receptacles


def test_the_hash_of_official_games_follows_their_contents(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not only their names and sizes: a game file of another version often has as many bytes."""
    copies = [shutil.copytree(root, tmp_path_factory.mktemp("copies") / "root") for _ in range(2)]
    game = copies[1] / "json_2.1.1" / split_tasks(official(root), "train")[0] / "game.tw-pddl"
    content = game.read_bytes()
    game.write_bytes(content.replace(b"walk, open", b"open, walk", 1))
    assert len(content) == game.stat().st_size != 0
    assert content != game.read_bytes()
    before, same, other = (split_hash(official(folder), "train") for folder in (root, *copies))
    assert before == same != other


def test_missing_data_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    for config in (ALFWorldConfig(source="official"), official(tmp_path)):
        with pytest.raises(TaskError, match=r"alfworld-download.*source=generated"):
            split_tasks(config, "train")


def test_a_missing_split_is_named(root: Path) -> None:
    with pytest.raises(TaskError, match="valid_unseen"):
        split_tasks(official(root), "test")


def test_an_id_cannot_leave_the_data_folder(root: Path) -> None:
    with pytest.raises(TaskError, match="no official task"):
        load(official(root), "train/../game")


def test_official_splits_can_be_cut_and_keep_their_variety(official_root: Path) -> None:
    whole, part = split_tasks(official(official_root), "test"), split_tasks(official(official_root, test_games=30), "test")
    assert len(whole) == 134
    assert len(part) == 30
    assert set(part) < set(whole)
    assert len(set(map(task_type, part))) >= 5
    assert split_hash(official(official_root, test_games=30), "test") != split_hash(official(official_root), "test")
