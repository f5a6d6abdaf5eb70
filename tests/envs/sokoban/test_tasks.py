"""Levels and splits: the same on every machine, solvable, as long as asked for, and no room in two splits."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from envs.base import SPLITS, TaskError
from envs.sokoban.board import Room, cells
from envs.sokoban.config import SokobanConfig
from envs.sokoban.distances import MOST
from envs.sokoban.generator import digest, dug
from envs.sokoban.tasks import split_hash, split_tasks, task

SMALL = SokobanConfig()
SIZES = [
    SMALL,
    SokobanConfig(boxes=2, shortest=4, longest=20, max_steps=30),
    SokobanConfig(height=5, width=8, boxes=2, longest=15),
    SokobanConfig(height=5, width=5, longest=6),
    SokobanConfig(height=8, width=8, boxes=3, longest=30, max_steps=40),
]


def drawings(config: SokobanConfig, split: str, count: int) -> list[str]:
    levels = [task(config, task_id).level for task_id in split_tasks(config, split)[:count]]  # type: ignore[arg-type]
    return [level.room.drawn(level.start) for level in levels]


def test_splits_mean_the_levels_they_always_meant() -> None:
    """If this fails, results on these tasks cannot be compared with earlier ones: raise tasks.VERSION."""
    everything = "\n\n".join(drawing for split in SPLITS for drawing in drawings(SMALL, split, 40))
    assert hashlib.sha256(everything.encode()).hexdigest()[:16] == "3a173c690caf4716"
    larger = "\n\n".join(drawings(SIZES[4], "train", 2))
    assert hashlib.sha256(larger.encode()).hexdigest()[:16] == "090f7912e57231c5"


def turned(room: Room) -> Room:
    """The room a quarter further."""
    to = {cell: (cell % room.width) * room.height + room.height - 1 - cell // room.width for cell in range(64)}
    floor, targets = (sum(1 << to[cell] for cell in cells(one)) for one in (room.floor, room.targets))
    return Room(room.width, room.height, floor, targets)


def mirrored(room: Room) -> Room:
    to = {cell: cell // room.width * room.width + room.width - 1 - cell % room.width for cell in range(64)}
    floor, targets = (sum(1 << to[cell] for cell in cells(one)) for one in (room.floor, room.targets))
    return Room(room.height, room.width, floor, targets)


def images(room: Room) -> set[Room]:
    found = {room}
    for _ in range(3):
        room = turned(room)
        found.add(room)
    return found | {mirrored(one) for one in found}


def test_no_room_of_a_split_is_in_another_not_even_turned_or_mirrored() -> None:
    rooms = {
        split: {digest(task(SMALL, task_id).level.room) for task_id in split_tasks(SMALL, split)[:count]}
        for split, count in (("train", 300), ("eval", 120), ("test", 120))
    }
    assert not rooms["train"] & rooms["eval"]
    assert not rooms["train"] & rooms["test"]
    assert not rooms["eval"] & rooms["test"]


def test_rooms_that_are_turned_or_mirrored_have_one_digest_and_others_have_others() -> None:
    rooms = [dug(6, 7, 2, np.random.default_rng(number)) for number in range(30)]
    for room in rooms:
        assert {digest(image) for image in images(room)} == {digest(room)}
    assert len({digest(room) for room in rooms}) == 30
    one = rooms[0]
    free = next(cell for cell in cells(one.floor) if not one.targets >> cell & 1)
    first = next(cells(one.targets))
    assert digest(Room(6, 7, one.floor, one.targets ^ (1 << free | 1 << first))) != digest(one)


@pytest.mark.parametrize("config", SIZES, ids=lambda config: f"{config.height}x{config.width}-{config.boxes}")
def test_every_level_is_as_it_was_asked_for(config: SokobanConfig) -> None:
    for split in SPLITS:
        for task_id in split_tasks(config, split)[: 8 if config.height < 8 else 1]:
            made = task(config, task_id)
            room, (player, boxes) = made.level.room, made.level.start
            assert (room.height, room.width) == (config.height, config.width)
            assert boxes.bit_count() == room.targets.bit_count() == config.boxes
            assert room.placed(boxes) == 0
            assert not boxes >> player & 1
            solution = made.solution()
            assert len(solution) == made.moves
            assert config.shortest <= made.moves <= config.longest
            assert (made.known is not None) == (room.positions <= MOST)


def test_lengths_are_about_equally_frequent() -> None:
    lengths = Counter(task(SMALL, task_id).moves for task_id in split_tasks(SMALL, "train")[:300])
    assert set(lengths) == set(range(2, 11))
    assert min(lengths.values()) >= 12


def test_levels_are_many() -> None:
    assert len(set(drawings(SMALL, "train", 300))) > 280


def test_a_split_has_as_many_tasks_as_configured_and_its_hash_knows_the_lengths() -> None:
    assert [len(split_tasks(SMALL, split)) for split in SPLITS] == [10000, 120, 120]
    hashes = {
        split_hash(SokobanConfig(**settings), "eval")  # type: ignore[arg-type]
        for settings in ({}, {"longest": 11}, {"shortest": 3}, {"boxes": 2}, {"eval_tasks": 7})
    }
    assert len(hashes) == 5


@pytest.mark.parametrize(
    ("task_id", "what"),
    [
        ("nonsense", "ids look like '6x6-1/train/000042'"),
        ("6x6-1/train/42", "ids look like '6x6-1/train/000042'"),
        ("7x7-2/train/000042", "with env.height=6, env.width=6 and env.boxes=1 ids look like"),
    ],
)
def test_an_unknown_task_is_refused_with_how_ids_look(task_id: str, what: str) -> None:
    with pytest.raises(TaskError, match=what):
        task(SMALL, task_id)


def test_settings_without_levels_say_which_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.sokoban.tasks.TRIES", 50)
    with pytest.raises(TaskError, match=r"env\.shortest=40 to env\.longest=50 moves; lower env\.shortest"):
        task(SokobanConfig(height=5, width=5, shortest=40, longest=50, max_steps=60), "5x5-1/train/000000")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"height": 4}, "height is 4; it must be from 5 to 20"),
        ({"boxes": 5}, "boxes is 5; it must be from 1 to 4"),
        ({"longest": 16}, "longest 16 and max_steps 15"),
        ({"shortest": 0}, "shortest is 0"),
        ({"train_tasks": 0}, "train_tasks is 0"),
        ({"solved_reward": float("inf")}, "solved_reward is inf; it must be a finite number"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        SokobanConfig(**settings)  # type: ignore[arg-type]
