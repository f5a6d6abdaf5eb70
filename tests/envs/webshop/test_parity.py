"""Our shop against what the official one was recorded to answer, and the check itself against faults it must find."""

import copy
import gzip
import json
import shutil

import pytest

from envs.base import TaskError
from envs.webshop import parity
from envs.webshop.shop import Shop
from scripts import check_parity
from tests.envs.webshop.shops import CATALOGUE, SHIRT, find, goal

SYNTHETIC, HUMAN = "golden_official_1k_synth.jsonl.gz", "golden_official_1k_human.jsonl.gz"
PURCHASES, TRAJECTORIES = "golden_reward_pairs_5k.jsonl.gz", "agenttraj_webshop_103.jsonl.gz"


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """The shop's search index goes to a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPCREDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def check(folder, *arguments):
    return check_parity.main(["webshop", "--data", str(folder), *map(str, arguments)])


def read(path):
    with gzip.open(path) as lines:
        return [json.loads(line) for line in lines]


def write(path, records):
    with gzip.open(path, "wt") as out:
        out.writelines(json.dumps(record) + "\n" for record in records)
    return path


# -- the official shop ---------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_every_recorded_value_of_the_official_shop_is_given(webshop_data, capsys):
    episodes = [argument for file in (SYNTHETIC, HUMAN) for argument in ("--episodes", webshop_data / file)]
    rest = ("--rewards", webshop_data / PURCHASES, "--trajectories", webshop_data / TRAJECTORIES)
    assert check(webshop_data, *episodes, *rest) == 0
    out = capsys.readouterr().out
    for words, count in (
        ("synthetic: text ", 805),
        ("synthetic: lists", 162),
        ("human: url", 96),
        ("purchases: rewards", "5,000"),
    ):
        assert any(words in line and f" {count} " in line for line in out.splitlines()), (words, count)


@pytest.fixture(scope="module")
def recorded(webshop_data):
    return read(webshop_data / HUMAN)


def spoil(episode, path, change):
    """Change the value at a path of keys."""
    spoilt = copy.deepcopy(episode)
    *way, last = path
    inner = spoilt
    for key in way:
        inner = inner[key]
    inner[last] = change(inner[last])
    return spoilt


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("goal", "price_upper"), lambda bound: bound + 10),
        (("goal", "goal_options"), lambda values: [*values, "x"]),
        (("steps", 0, "text"), lambda text: text + " "),
        (("steps", 1, "text_rich"), lambda text: text[:-1]),
        (("steps", 1, "url"), lambda url: url.replace("+", " ")),
        (("steps", 1, "avail", "clickables"), lambda texts: texts[::-1]),
        (("steps", 0, "avail", "has_search_bar"), lambda there: not there),
        (("steps", -1, "reward"), lambda score: score + 1e-15),
        (("steps", -1, "done"), lambda done: not done),
        (("steps", 1, "action"), lambda action: "search[something else]"),
        (("reward_info", "title_score"), lambda score: score / 2),
        (("reward",), lambda score: 0.0 if score else 1.0),
        (("asin",), lambda asin: "B000000000"),
        (("price",), lambda price: price + 0.01),
    ],
)
def test_a_changed_recording_is_a_difference(webshop_data, recorded, tmp_path, path, change):
    head, episode = recorded[:2]
    assert check(webshop_data, "--episodes", write(tmp_path / "as_it_was.jsonl.gz", [head, episode])) == 0
    assert check(webshop_data, "--episodes", write(tmp_path / "spoilt.jsonl.gz", [head, spoil(episode, path, change)])) == 1


@pytest.mark.data
def test_a_price_that_was_drawn_otherwise_is_a_difference(webshop_data, recorded, tmp_path, capsys):
    head = spoil(recorded[0], ("meta", "prices", "B06Y52T6KC"), lambda price: price + 1)
    assert check(webshop_data, "--episodes", write(tmp_path / "r.jsonl.gz", [head, recorded[1]])) == 1
    assert "B06Y52T6KC: prices should be 86.77" in capsys.readouterr().out


@pytest.mark.data
@pytest.mark.parametrize("path", [("reward",), ("info", "r_att"), ("price",), ("price_upper",)])
def test_a_changed_purchase_is_a_difference(webshop_data, tmp_path, path):
    purchases = read(webshop_data / PURCHASES)[:3]
    assert check(webshop_data, "--rewards", write(tmp_path / "as_it_was.jsonl.gz", purchases)) == 0
    purchases[2] = spoil(purchases[2], path, lambda value: value + 0.001)
    assert check(webshop_data, "--rewards", write(tmp_path / "spoilt.jsonl.gz", purchases)) == 1


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("steps", 2, "action"), lambda action: "click[not there]"),
        (("steps", 1, "obs"), lambda text: text.replace("Page 1", "Page 2")),
        (("reward",), lambda score: 0.5),
    ],
)
def test_a_changed_trajectory_is_a_difference(webshop_data, tmp_path, path, change):
    trajectories = read(webshop_data / TRAJECTORIES)[:1]
    assert check(webshop_data, "--trajectories", write(tmp_path / "as_it_was.jsonl.gz", trajectories)) == 0
    trajectories[0] = spoil(trajectories[0], path, change)
    assert check(webshop_data, "--trajectories", write(tmp_path / "spoilt.jsonl.gz", trajectories)) == 1


@pytest.mark.data
def test_goals_that_are_not_there_are_named(webshop_data, recorded, tmp_path, capsys):
    file = write(tmp_path / "r.jsonl.gz", [recorded[0], recorded[1] | {"goal_idx": 13}])
    assert check(webshop_data, "--episodes", file) == 2
    assert capsys.readouterr().err.startswith("error: goal 13 is not among the shop's 13")
    assert check(webshop_data, "--human", "--rewards", webshop_data / PURCHASES) == 2


# -- files that cannot be used -------------------------------------------------------------------------------------------------


def test_nothing_to_check_is_said(tmp_path, capsys):
    assert check(tmp_path) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: nothing to check: give --episodes FILE")
    assert said.out == ""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no record"),
        (["{"], "line 1: cannot be read"),
        (["[]"], "line 1 is []; expected an object"),
        (["{}"], "line 1: meta is None; expected an object"),
        (['{"meta": {"prices": {}}}'], "line 1: meta: 'human_goals' is None; expected int"),
        (['{"meta": {"prices": {}, "human_goals": 0}}'], "line 1: meta: 'prices' is empty"),
        (['{"meta": {"prices": {"B0": 1.0}, "human_goals": 0}}', "{}"], "line 2: 'goal_idx' is None; expected int"),
    ],
)
def test_a_recording_that_is_none_is_refused_by_name(tmp_path, lines, message):
    file = tmp_path / "recording.jsonl"
    file.write_text("\n".join(lines))
    with pytest.raises(TaskError) as refused:
        parity.read_recording(file)
    assert str(file) in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize("reader", [parity.read_recording, parity.read_purchases, parity.read_trajectories])
def test_files_that_are_missing_cut_off_or_of_another_kind_are_refused(reader, tmp_path):
    whole = write(tmp_path / "whole.jsonl.gz", [{"a": "b" * 1000}] * 100)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole.read_bytes()[:-30])
    garbled = tmp_path / "garbled.jsonl.gz"
    garbled.write_bytes(gzip.compress(b"")[:10] + b"\xff" * 20)  # a head, then what no compressor writes
    plain = tmp_path / "plain.jsonl.gz"
    shutil.copy(__file__, plain)
    for file in (tmp_path / "nowhere.jsonl.gz", whole, cut, garbled, plain):
        with pytest.raises(TaskError, match=file.name):
            reader(file)


def test_steps_are_checked_before_anything_is_played(tmp_path):
    page = {"action": None, "text": "", "text_rich": "", "url": "", "avail": {"clickables": []}}
    after = page | {"action": "search[x]", "reward": 0.0, "done": False}
    episode = {"goal_idx": 0, "goal": {}, "reward": 0.0, "reward_info": {}, "asin": "", "options": {}, "price": 1.0}
    head = {"meta": {"prices": {"B0": 1.0}, "human_goals": 0}}
    for wrong, message in (
        ({"reward": None}, "step 1: 'reward' is None; expected int or float"),
        ({"action": None}, "step 1: 'action' is None; expected str"),
        ({"avail": {"clickables": None}}, "step 1: avail: 'clickables' is None; expected list"),
    ):
        file = write(tmp_path / "r.jsonl.gz", [head, episode | {"steps": [page, after | wrong]}])
        with pytest.raises(TaskError, match=f"line 2: {message}"):
            parity.read_recording(file)
    file = write(tmp_path / "t.jsonl.gz", [{"goal_idx": 0, "reward": 1.0, "steps": [{"obs": ""}, {"obs": None}]}])
    with pytest.raises(TaskError, match="line 1: step 1: 'action' is None; expected str"):
        parity.read_trajectories(file)


@pytest.mark.parametrize("lacking", ["bought", "wanted"])
def test_a_purchase_of_an_article_that_the_shop_does_not_have_is_named(lacking):
    wanted = goal(asin="B0NOWHERE1") if lacking == "wanted" else goal()
    bought = "B0NOWHERE1" if lacking == "bought" else SHIRT
    shop = Shop(CATALOGUE, [wanted], lambda query: tuple(find(query)), "")
    purchase = {"goal_idx": 0, "asin": bought, "options": {}, "price": 1.0, "price_upper": 10.0, "reward": 0.0, "info": {}}
    with pytest.raises(TaskError, match=f"goal 0, {bought} with {{}}: the shop has no article B0NOWHERE1"):
        list(parity.score_again(shop, purchase))


def test_values_nested_deeply_are_told_in_short(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"goal_idx": ' + "[" * 1000 + "]" * 1000 + "}")
    with pytest.raises(TaskError, match=r"p\.jsonl, line 1: 'goal_idx' is \[\[.*\.\.\..*; expected int"):
        parity.read_purchases(file)


def test_an_option_that_is_no_text_is_refused(tmp_path):
    purchase = {"goal_idx": 0, "asin": "B0", "price": 1.0, "price_upper": 10.0, "reward": 0.0, "info": {}}
    file = write(tmp_path / "p.jsonl.gz", [purchase | {"options": {"size": 5}}])
    with pytest.raises(TaskError, match="line 1: options: 'size' is 5; expected str"):
        parity.read_purchases(file)
