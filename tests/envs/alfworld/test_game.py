import json
import os

import pytest

from envs.alfworld.game import load_game, parse_game
from envs.base import TaskError
from tests.envs.alfworld import games

LAMP_GOAL = """(and (exists (?l - location ?x - object ?y - receptacle ?me - agent) (and (atLocation ?me ?l) (isToggled ?x)
    (toggleable ?x) (objectType ?x LampType) (inReceptacle ?x ?y) (receptacleAtLocation ?y ?l)))
    (exists (?z - object ?me - agent) (and (holds ?me ?z) (objectType ?z AppleType))))"""
CHANGED = "(exists (?r - receptacle) (exists (?o - object) (and (%s ?o) (%s ?o) " + games.PICK.split("(and ", 1)[1]
TWO = """(exists (?r - receptacle) (exists (?a - object) (and (objectType ?a AppleType) (receptacleType ?r FridgeType)
    (inReceptacle ?a ?r) (exists (?b - object) (and (not (= ?a ?b)) (objectType ?b AppleType) (receptacleType ?r FridgeType)
    (inReceptacle ?b ?r))))))"""


def refusal(**changes):
    with pytest.raises(TaskError) as error:
        parse_game(games.contents(**changes), "some/game.tw-pddl")
    assert str(error.value).startswith("some/game.tw-pddl: ")
    return str(error.value)


def test_names_count_down_in_the_order_of_ids():
    game = parse_game(games.contents(), "kitchen")
    assert [item.name for item in game.objects] == ["apple 2", "apple 1", "knife 1", "lamp 1"]
    assert [r.name for r in game.receptacles] == ["countertop 1", "drawer 1", "fridge 1", "microwave 1", "sinkbasin 1"]


def test_a_game_keeps_ids_types_places_and_task():
    game = parse_game(games.contents(), "kitchen")
    assert game.task == "put a apple in sinkbasin."
    fridge, apple = game.receptacles[2], game.objects[1]
    assert (fridge.id, fridge.type, fridge.openable, fridge.opened) == ("Fridge_bar_1", "FridgeType", True, False)
    assert (apple.id, apple.type, apple.places) == ("Apple_bar_2", "AppleType", (2,))
    assert game.locations[game.start] == "loc_bar_0"
    assert ("FridgeType", "AppleType") in game.can_contain
    assert ("DrawerType", "AppleType") not in game.can_contain


def test_pddl_does_not_tell_upper_from_lower_case():
    text = games.problem()
    shouted = text.replace("inReceptacle", "INRECEPTACLE").replace("(pickupable Apple_bar_1)", "(Pickupable APPLE_BAR_1)")
    plain, loud = parse_game(games.contents(), "a"), parse_game(games.contents(pddl_problem=shouted), "a")
    assert (plain.objects, plain.receptacles, plain.goal) == (loud.objects, loud.receptacles, loud.goal)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (games.PICK.format(o="AppleType", r="FridgeType"), ("pick_and_place_simple", "AppleType", "FridgeType", None)),
        (CHANGED % ("cleanable", "isClean"), ("pick_clean_then_place_in_recep", "AppleType", "FridgeType", None)),
        (CHANGED % ("heatable", "isHot"), ("pick_heat_then_place_in_recep", "AppleType", "FridgeType", None)),
        (CHANGED % ("coolable", "isCool"), ("pick_cool_then_place_in_recep", "AppleType", "FridgeType", None)),
        (TWO, ("pick_two_obj_and_place", "AppleType", "FridgeType", None)),
        (LAMP_GOAL, ("look_at_obj_in_light", "AppleType", None, "LampType")),
    ],
)
def test_each_type_of_task_is_known_by_its_goal(goal, expected):
    found = parse_game(games.contents(goal=goal.format(o="AppleType", r="FridgeType")), "kitchen").goal
    assert (found.task_type, found.object, found.receptacle, found.lamp) == expected


@pytest.mark.parametrize(
    "goal",
    [
        "(and (isHot Apple_bar_1))",
        games.PICK.format(o="AppleType", r="FridgeType").replace("(and", "(or"),
        TWO.replace("(not (= ?a ?b))", ""),
        TWO.replace("(inReceptacle ?b ?r)", "(inReceptacle ?b ?s)").replace(
            "?r FridgeType)\n    (inReceptacle ?b", "?s FridgeType) (inReceptacle ?b"
        ),
        TWO.replace("?b AppleType", "?b KnifeType"),
        CHANGED % ("heatable", "isCool"),
        "(exists (?r - receptacle) (exists (?o - object) (and (inReceptacle ?o ?r) (objectType ?o AppleType))))",
    ],
)
def test_a_goal_of_another_kind_is_refused(goal):
    assert "none of ALFWorld's six types" in refusal(goal=goal.format(o="AppleType", r="FridgeType"))


def test_equal_games_have_equal_hashes_and_a_changed_fact_changes_it():
    same = {parse_game(games.contents(), source).hash for source in ("here", "there")}
    assert len(same) == 1
    assert parse_game(games.contents(more="(opened Fridge_bar_1)"), "here").hash not in same
    assert parse_game(games.contents(task="put some apple on sinkbasin."), "here").hash not in same


@pytest.mark.parametrize("key", ["pddl_domain", "grammar", "pddl_problem"])
def test_a_missing_key_is_named(key):
    data = games.contents()
    del data[key]
    with pytest.raises(TaskError, match=f"key '{key}' is missing; found:"):
        parse_game(data, "some/game.tw-pddl")
    assert f"key '{key}' holds a int; expected text" in refusal(**{key: 3})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(pickupable Apple_bar_1)", "(pickupable Apple_bar_1", "not a fact: '(pickupable Apple_bar_1"),
        ("(pickupable Apple_bar_1)", "pickupable", "not a fact: 'pickupable"),
        ("(pickupable Apple_bar_1)", "(pickupable Apple_bar_9)", "'apple_bar_9' is not declared"),
        ("(pickupable Apple_bar_1)", "(edible Apple_bar_1)", "'edible' is unknown"),
        ("(pickupable Apple_bar_1)", "(holds agent1 Apple_bar_1)", "'holds' is unknown or cannot hold at the start"),
        ("(pickupable Apple_bar_1)", "(pickupable Apple_bar_1 Apple_bar_2)", "'pickupable' takes 1 names"),
        ("(atLocation agent1 loc_bar_0)", "", "0 facts atLocation; expected one"),
        ("(receptacleAtLocation Fridge_bar_1 loc_bar_1)", "", "'Fridge_bar_1' needs both facts"),
        ("(receptacleAtLocation Fridge_bar_1 loc_bar_1)", "(receptacleAtLocation Fridge_bar_1 loc_bar_1) "
         "(receptacleAtLocation Fridge_bar_1 loc_bar_2)", "'Fridge_bar_1' has more than one fact receptacleatlocation"),
        ("(objectType Apple_bar_1 AppleType)", "", "'Apple_bar_1' in (inreceptacle apple_bar_1 countertop_bar_1) has no type"),
        ("LampType - otype", "LampType", "'AppleType' has no kind"),
        ("Fridge_bar_1", "Fridge1", "the id 'fridge1' has no '_bar_'"),
        ("(objectType ?o AppleType)", "(objectType ?o PearType)", "'PearType' is not declared"),
        ("(:init", "(:start", "section (:init ..) is missing"),
    ],
)  # fmt: skip
def test_a_fault_in_the_problem_is_named(old, new, message):
    text = games.problem()
    assert old in text
    assert message in refusal(pddl_problem=text.replace(old, new))


def test_a_fault_is_named_with_its_line():
    text = games.problem()
    line = text[: text.index("(toggleable")].count("\n") + 1
    assert f"key 'pddl_problem', line {line}: 'oven_bar_1'" in refusal(
        pddl_problem=text.replace("(toggleable Lamp_bar_1)", "(toggleable Oven_bar_1)")
    )


def test_a_file_cut_short_anywhere_is_a_task_error(tmp_path):
    whole = json.dumps(games.contents()).encode()
    text = games.problem()
    file = tmp_path / "game.tw-pddl"
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises(TaskError, match=r"game\.tw-pddl: not JSON at line"):
            load_game(file)
    for length in range(0, len(text) - 2, 53):
        assert "key 'pddl_problem'" in refusal(pddl_problem=text[:length])


def test_a_file_that_is_not_there_or_no_object_is_a_task_error(tmp_path):
    with pytest.raises(TaskError, match=r"gone\.tw-pddl: cannot be read .*ALFWORLD_DATA"):
        load_game(tmp_path / "gone.tw-pddl")
    (tmp_path / "list").write_text("[]")
    with pytest.raises(TaskError, match="holds a JSON list"):
        load_game(tmp_path / "list")
    os.mkfifo(tmp_path / "pipe")  # reading one would wait for a writer for ever
    with pytest.raises(TaskError, match=r"pipe: cannot be read \(it is a pipe, socket or device, and no file\)"):
        load_game(tmp_path / "pipe")


def test_games_of_another_version_or_domain_are_refused():
    old = games.contents()["grammar"].replace("move {o} to {r}", "put {o} in/on {r}")
    assert "before 0.4" in refusal(grammar=old)
    assert "no line 'Your task is to" in refusal(grammar=old.replace("Your task is to", "Do"))
    domain = games.contents()["pddl_domain"].replace("(:action SliceObject", "(:action BreakObject")
    assert "breakobject, sliceobject" in refusal(pddl_domain=domain)
