import random

import pytest

from envs.alfworld.engine import Engine
from envs.alfworld.game import parse_game
from envs.alfworld.texts import HELP
from tests.envs.alfworld import games
from tests.envs.alfworld.games import engine, play
from tests.envs.alfworld.test_game import CHANGED, LAMP_GOAL, TWO

ROOM = ["go to countertop 1", "go to drawer 1", "go to fridge 1", "go to microwave 1", "go to sinkbasin 1"]
ALWAYS = ["help", "inventory", "look"]


def snapshot(e: Engine) -> tuple[object, ...]:
    """A copy of the whole state."""
    marks = e.opened, e.clean, e.hot, e.cool, e.sliced, e.toggled
    return (e.location, e.held, tuple(map(frozenset, e.places)), *map(frozenset, marks))


def test_first_observation_is_banner_room_and_task():
    assert engine().reset() == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see a "
        "countertop 1, a drawer 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n\nYour task is to: put a apple in sinkbasin."
    )


def test_in_the_middle_of_the_room_nothing_is_seen_and_every_place_can_be_gone_to():
    e = engine()
    assert e.admissible == ROOM + ALWAYS
    assert play(e, "look") == "You are in the middle of a room. Looking quickly around you, you see nothing."


def test_the_place_where_one_stands_cannot_be_gone_to():
    e = engine()
    play(e, "go to fridge 1")
    assert "go to fridge 1" not in e.admissible
    assert e.step("go to fridge 1") == ("Nothing happens.", False)


def test_receptacles_that_share_a_spot_are_reached_together():
    e = engine()
    assert play(e, "go to microwave 1") == "You arrive at microwave 1. The microwave 1 is closed."
    assert {"examine microwave 1", "examine sinkbasin 1", "open microwave 1"} <= set(e.admissible)
    assert not {"go to microwave 1", "go to sinkbasin 1"} & set(e.admissible)
    assert play(e, "look") == "You are facing the microwave 1, and sinkbasin 1. Next to it, you see nothing."
    assert play(e, "examine sinkbasin 1") == "On the sinkbasin 1, you see nothing."


def test_a_closed_receptacle_hides_its_contents():
    e = engine()
    assert play(e, "go to fridge 1") == "You arrive at fridge 1. The fridge 1 is closed."
    assert "take apple 1 from fridge 1" not in e.admissible
    assert play(e, "open fridge 1") == "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1."
    assert "take apple 1 from fridge 1" in e.admissible
    assert "open fridge 1" not in e.admissible
    assert play(e, "close fridge 1") == "You close the fridge 1."
    assert play(e, "examine fridge 1") == "The fridge 1 is closed."


def test_a_closed_receptacle_takes_nothing():
    e = engine()
    play(e, "go to countertop 1", "take apple 2 from countertop 1", "go to fridge 1")
    assert e.step("move apple 2 to fridge 1") == ("Nothing happens.", False)
    assert play(e, "open fridge 1", "move apple 2 to fridge 1") == "You move the apple 2 to the fridge 1."
    assert play(e, "examine fridge 1") == "The fridge 1 is open. In it, you see a apple 2, and a apple 1."


def test_only_what_is_held_can_be_examined():
    e = engine()
    play(e, "go to countertop 1")
    assert "examine apple 2" not in e.admissible
    play(e, "take apple 2 from countertop 1")
    assert play(e, "examine apple 2") == "There's nothing special about apple 2."
    assert play(e, "inventory") == "You are carrying: a apple 2."
    play(e, "move apple 2 to countertop 1")
    assert e.step("examine apple 2") == ("Nothing happens.", False)
    assert play(e, "inventory") == "You are not carrying anything."


def test_hands_hold_one_thing():
    e = engine()
    play(e, "go to countertop 1", "take apple 2 from countertop 1")
    assert not any(command.startswith("take") for command in e.admissible)


def test_a_thing_goes_only_where_its_type_fits():
    e = engine()
    play(e, "go to countertop 1", "take knife 1 from countertop 1", "go to drawer 1", "open drawer 1")
    assert "move knife 1 to drawer 1" in e.admissible
    play(e, "go to sinkbasin 1")
    assert "move knife 1 to sinkbasin 1" not in e.admissible


def test_heating_and_cooling_need_no_open_door_and_undo_each_other():
    e = engine()
    play(e, "go to countertop 1", "take apple 2 from countertop 1", "go to microwave 1")
    assert "open microwave 1" in e.admissible
    assert play(e, "heat apple 2 with microwave 1") == "You heat the apple 2 using the microwave 1."
    assert play(e, "examine apple 2") == "This is a hot apple 2."
    assert play(e, "clean apple 2 with sinkbasin 1", "examine apple 2") == "This is a hot and clean apple 2."
    assert play(e, "go to fridge 1", "cool apple 2 with fridge 1", "examine apple 2") == "This is a cool and clean apple 2."


def test_only_able_things_are_heated_cleaned_cooled_and_sliced():
    e = engine()
    play(e, "go to countertop 1", "take knife 1 from countertop 1", "go to microwave 1")
    assert not {"heat knife 1 with microwave 1", "clean knife 1 with sinkbasin 1"} & set(e.admissible)


def test_slicing_needs_a_knife_in_hand_and_the_thing_at_the_spot():
    e = engine()
    play(e, "go to countertop 1")
    assert not any(command.startswith("slice") for command in e.admissible)
    play(e, "take knife 1 from countertop 1")
    assert play(e, "slice apple 2 with knife 1") == "You sliced the apple 2 with the knife 1."
    play(e, "go to fridge 1")
    assert not any(command.startswith("slice") for command in e.admissible)
    play(e, "go to countertop 1", "move knife 1 to countertop 1", "take apple 2 from countertop 1")
    assert play(e, "examine apple 2") == "This is a sliced apple 2."
    play(e, "go to fridge 1", "cool apple 2 with fridge 1")
    assert play(e, "examine apple 2") == "This is a cool sliced apple 2."


def test_a_lamp_is_used_where_it_is_even_in_a_closed_drawer_and_stays_on():
    e = engine()
    assert "use lamp 1" not in e.admissible
    play(e, "go to drawer 1")
    assert play(e, "use lamp 1") == "You turn on the lamp 1."
    assert play(e, "use lamp 1") == "You turn on the lamp 1."
    assert "take lamp 1 from drawer 1" not in play(e, "open drawer 1") + str(e.admissible)


def test_look_lists_what_was_moved_between_receptacles_of_one_spot():
    e = engine(more="(inReceptacle Knife_bar_1 Sink_bar_1_bar_SinkBasin) (canContain MicrowaveType KnifeType)")
    play(e, "go to sinkbasin 1", "open microwave 1", "take knife 1 from sinkbasin 1", "move knife 1 to microwave 1")
    assert play(e, "look") == "You are facing the microwave 1, and sinkbasin 1. Next to it, you see a knife 1."


def test_a_thing_in_two_places_leaves_only_the_one_it_is_taken_from():
    e = engine(more="(inReceptacle Knife_bar_1 Sink_bar_1_bar_SinkBasin)")
    play(e, "go to countertop 1", "take knife 1 from countertop 1", "go to sinkbasin 1")
    assert play(e, "examine sinkbasin 1") == "On the sinkbasin 1, you see a knife 1."
    assert play(e, "inventory") == "You are carrying: a knife 1."


def test_anything_else_does_nothing_and_changes_nothing():
    e = engine()
    play(e, "go to countertop 1")
    before = e.state_key, list(e.admissible), snapshot(e)
    for command in (
        "",
        "dance",
        "go to",
        "Look",
        "take apple 2",
        "take apple 1 from countertop 1",
        "go to  fridge 1",
        "help me",
    ):
        assert e.step(command) == ("Nothing happens.", False)
    assert (e.state_key, e.admissible, snapshot(e)) == before
    assert e.step("  look \n") == ("You are facing the countertop 1. Next to it, you see nothing.", True)
    assert e.step("help") == (HELP, True)


@pytest.mark.parametrize(
    ("goal", "commands"),
    [
        (games.PICK, "go to countertop 1; take apple 2 from countertop 1; go to sinkbasin 1; move apple 2 to sinkbasin 1"),
        (
            CHANGED % ("cleanable", "isClean"),
            "go to countertop 1; take apple 2 from countertop 1; go to sinkbasin 1; move apple 2 to sinkbasin 1; "
            "take apple 2 from sinkbasin 1; clean apple 2 with sinkbasin 1; move apple 2 to sinkbasin 1",
        ),
        (
            CHANGED % ("heatable", "isHot"),
            "go to countertop 1; take apple 2 from countertop 1; go to microwave 1; heat apple 2 with microwave 1; "
            "go to fridge 1; cool apple 2 with fridge 1; go to sinkbasin 1; move apple 2 to sinkbasin 1; "
            "take apple 2 from sinkbasin 1; heat apple 2 with microwave 1; move apple 2 to sinkbasin 1",
        ),
        (
            CHANGED % ("coolable", "isCool"),
            "go to countertop 1; take apple 2 from countertop 1; go to fridge 1; cool apple 2 with fridge 1; "
            "go to sinkbasin 1; move apple 2 to sinkbasin 1",
        ),
        (
            TWO.replace("FridgeType", "SinkBasinType"),
            "go to countertop 1; take apple 2 from countertop 1; go to sinkbasin 1; move apple 2 to sinkbasin 1; "
            "go to fridge 1; open fridge 1; take apple 1 from fridge 1; go to sinkbasin 1; move apple 1 to sinkbasin 1",
        ),
        (LAMP_GOAL, "go to drawer 1; use lamp 1; go to countertop 1; take apple 2 from countertop 1; go to drawer 1"),
        (LAMP_GOAL, "go to countertop 1; take apple 2 from countertop 1; go to drawer 1; use lamp 1"),
    ],
)
def test_a_game_is_won_by_its_last_step_and_not_before(goal, commands):
    e = engine(goal=goal.format(o="AppleType", r="SinkBasinType"))
    for command in commands.split("; "):
        assert not e.won
        play(e, command)
    assert e.won
    e.reset()
    assert not e.won


def test_admissible_commands_are_sorted_unique_and_exactly_what_is_valid():
    rng = random.Random(0)
    e = engine()
    seen: set[str] = set()
    for _ in range(400):
        assert e.admissible == sorted(set(e.admissible))
        seen.update(e.admissible)
        command = rng.choice(sorted(seen))
        assert (command in e.admissible) == e.step(command)[1]
    assert len(seen) > 25


def test_state_keys_are_equal_just_when_states_are():
    rng = random.Random(1)
    e = engine(more="(canContain MicrowaveType KnifeType) (canContain SinkBasinType KnifeType)")
    futures: dict[str, object] = {}
    for _ in range(20):
        e.reset()
        for _ in range(200):
            if rng.random() < 0.5:
                commands = [c for c in e.admissible if not c.startswith(("go to", "help", "examine", "inv"))]
            else:
                commands = e.admissible
            play(e, rng.choice(commands))
            taken = frozenset((o, r) for o, places in e._taken_from.items() for r in places)
            state = snapshot(e), tuple(map(frozenset, e._lies_at)), taken
            assert futures.setdefault(e.state_key, state) == state
    assert len(set(futures.values())) == len(futures) > 500


def test_state_keys_do_not_depend_on_the_way_or_the_process():
    one, other = engine(), engine()
    play(one, "go to fridge 1", "open fridge 1", "go to countertop 1", "take apple 2 from countertop 1")
    play(other, "go to countertop 1", "take apple 2 from countertop 1", "go to fridge 1", "open fridge 1", "go to countertop 1")
    assert one.state_key == other.state_key
    assert engine().state_key == parse_game(games.contents(), "elsewhere").hash
    assert engine().state_key != engine(task="put some apple on sinkbasin.").state_key


def test_reset_forgets_everything():
    e = engine()
    start = e.reset(), e.state_key, list(e.admissible), snapshot(e)
    play(
        e, "go to countertop 1", "take knife 1 from countertop 1", "slice apple 2 with knife 1", "go to drawer 1", "use lamp 1"
    )
    assert (e.reset(), e.state_key, e.admissible, snapshot(e)) == start


def test_engines_of_one_game_do_not_disturb_each_other():
    game = parse_game(games.contents(), "kitchen")
    one, other = Engine(game), Engine(game)
    play(one, "go to fridge 1", "open fridge 1", "take apple 1 from fridge 1")
    assert play(other, "go to fridge 1") == "You arrive at fridge 1. The fridge 1 is closed."


def test_a_start_at_a_receptacle_faces_it():
    e = engine(kitchen=games.KITCHEN.replace("(atLocation agent1 loc_bar_0)", "(atLocation agent1 loc_bar_1)"))
    assert "\n\nYou are facing the fridge 1. Next to it, you see nothing.\n\nYour task" in e.reset()
    assert "go to fridge 1" not in e.admissible


def test_a_vessel_shows_what_is_in_it():
    e = engine(more="(isReceptacleObject Knife_bar_1) (inReceptacleObject Lamp_bar_1 Knife_bar_1)")
    play(e, "go to countertop 1", "take knife 1 from countertop 1")
    assert play(e, "examine knife 1") == "This is a normal knife 1. In it, you see a lamp 1."
