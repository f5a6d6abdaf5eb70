"""The served shop over HTTP: visitors and what they are shown. What is refused stands in test_serve_refusals.py."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
import pytest

from envs.base import SPLITS
from envs.webshop.__main__ import main
from envs.webshop.config import WebShopConfig
from envs.webshop.env import WebShopEnv
from envs.webshop.serve import MOST_VISITS, ServeConfig, Shopfront
from tests.envs.webshop.test_official import article, asking, choices, write_files

CONFIG = ServeConfig(port=0, products=60)
MARKUP = "\"><script>document.title = 1</script><i x='&amp;"
FORM = "application/x-www-form-urlencoded"


@contextmanager
def serving(config: ServeConfig) -> Iterator[Shopfront]:
    """The shop, as long as the block lasts."""
    with Shopfront(config) as shopfront:
        thread = Thread(target=shopfront.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield shopfront
        finally:
            shopfront.shutdown()
            thread.join()


def hostile_shop(folder: Path) -> ServeConfig:
    """Official files in which every text is markup."""
    said = {"LAMP000001": asking("easy clean", text=f"{MARKUP} a lamp")}
    lamp = article(name=f"{MARKUP} lamp", full_description=MARKUP, small_description=[MARKUP])
    lamp["customization_options"] = choices(**{MARKUP: [MARKUP, "action"], "action": ["option"], "option": ["search_query"]})
    return ServeConfig(port=0, source="official", data=str(write_files(folder, [lamp], said)))


@pytest.fixture(scope="module")
def shopfront() -> Iterator[Shopfront]:
    with serving(CONFIG) as shopfront:
        yield shopfront


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        """Where it leads."""
        assert (self.status, self.text) == (303, "")
        return self.headers["Location"]


def ask(shopfront: Shopfront, method: str, path: str, body: str | bytes | None = None, **headers: str | None) -> Reply:
    """One request, as a browser would send it but for `headers`; None leaves one out."""
    host = f"127.0.0.1:{shopfront.server_port}"
    sent: dict[str, str | None] = {"Host": host}
    if method == "POST":
        data = body or b""
        sent |= {"Origin": f"http://{host}", "Content-Type": FORM, "Content-Length": str(len(data))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = HTTPConnection("127.0.0.1", shopfront.server_port)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body.encode() if isinstance(body, str) else body)
    answer = connection.getresponse()
    reply = Reply(answer.status, dict(answer.getheaders()), answer.read().decode())
    connection.close()
    return reply


def send(shopfront: Shopfront, path: str, **fields: str) -> Reply:
    return ask(shopfront, "POST", path, urlencode(fields))


def page(shopfront: Shopfront, path: str) -> str:
    reply = ask(shopfront, "GET", path)
    assert reply.status == 200
    return reply.text


def enter(shopfront: Shopfront, task: str) -> str:
    """Path of a new visit."""
    return send(shopfront, "/", task=task).place


def act(shopfront: Shopfront, path: str, *actions: str) -> str:
    """Path of the page that the actions lead to."""
    for action in actions:
        path = send(shopfront, path, action=action).place
    return path


def shopping(place: int, config: WebShopConfig = CONFIG) -> tuple[WebShopEnv, str, list[str]]:
    """An agent's environment, a task of the train split, and the oracle's actions in it."""
    env = WebShopEnv(config)
    task = env.tasks("train")[place]
    return env, task, env.imperfect_demonstration(task, np.random.default_rng(place), 0.5, True)


# -- what a visitor is shown ---------------------------------------------------------------------------------------------------


def test_each_page_shows_exactly_what_an_agent_is_told(shopfront: Shopfront) -> None:
    env, task, actions = shopping(3)
    path, turn = enter(shopfront, task), env.start(task, np.random.default_rng(0))
    for action in [*actions, None]:
        text = page(shopfront, path)
        _, _, aside = text.partition("<aside>")
        told = [unescape(one) for one in re.findall(r"<pre>(.*?)</pre>", aside, re.DOTALL)]
        assert told[0] == turn.observation
        possible = re.findall(r'<button name="action" value="(.*?)">', aside)
        if turn.terminated:
            assert possible == []
        else:
            assert [unescape(one) for one in possible] == turn.admissible_actions
        assert f"<td>{turn.state_key.replace(chr(39), '&#x27;')}</td>" in aside
        assert re.findall(r"<th>([a-z ]+)</th><td>reached</td>", aside) == list(turn.subgoals)
        if action is not None:
            path, turn = act(shopfront, path, action), env.act(action)
    assert turn.score == 1.0


def test_the_configured_observation_is_the_open_one() -> None:
    with serving(ServeConfig(port=0, products=60, observation="text_rich")) as shopfront:
        text = page(shopfront, enter(shopfront, "0"))
    assert re.findall(r"<details open><summary>(.*?)</summary>", text) == ["observation=text_rich"]


def test_buttons_options_and_the_search_field_are_the_actions_of_an_agent(shopfront: Shopfront) -> None:
    env = WebShopEnv(CONFIG)
    task = next(task for task in env.tasks("train") if env.shop.goals[int(task[5:])].options)
    query = env.demonstration(task, np.random.default_rng(0))[0][7:-1]
    goal = env.shop.goals[int(task[5:])]
    assert isinstance(goal.options, dict)
    value = next(iter(goal.options.values()))
    path = send(shopfront, enter(shopfront, task), search_query=query).place
    path = send(shopfront, path, action=f"click[{goal.asin}]").place
    assert f'value="{value}" checked' not in page(shopfront, path)
    path = send(shopfront, path, option=value).place
    assert f'value="{value}" checked' in page(shopfront, path)


def test_score_and_goal_are_told_after_the_purchase_and_not_before(shopfront: Shopfront) -> None:
    env, task, actions = shopping(5)
    path = enter(shopfront, task)
    goal = env.shop.goals[int(task[5:])]
    before = page(shopfront, path)
    assert goal.asin not in before
    assert "Score" not in before
    after = page(shopfront, act(shopfront, path, *actions))
    assert "<h2>Score 1.000 of 1.0</h2>" in after
    folded = after[after.index("<details><summary>What was asked for") :]
    assert f"<td>{goal.asin}</td>" in folded[: folded.index("</details>")]
    assert after.index(f"<td>{goal.asin}</td>") > after.index("<details>")


def test_a_wrong_purchase_shows_its_parts(shopfront: Shopfront) -> None:
    env, task, _ = shopping(0)
    goal = env.shop.goals[int(task[5:])]
    other = next(product for product in env.shop.products if product.department != goal.department)
    path = act(shopfront, enter(shopfront, task), f"search[{other.title}]", f"click[{other.asin}]", "click[buy now]")
    text = page(shopfront, path)
    assert "<p>No success; an agent's reward is 0.</p>" in text
    assert "<th>query_match</th><td>False</td>" in text


def test_what_is_not_possible_is_told_and_changes_nothing(shopfront: Shopfront) -> None:
    path = enter(shopfront, "goal/000000")
    before = page(shopfront, path)
    text = page(shopfront, send(shopfront, path, search_query="").place)
    assert '<p role="alert">Nothing happened, this is not possible here: search[]</p>' in text
    for mode in range(4):
        assert re.findall(r"<pre>.*?</pre>", before, re.DOTALL)[mode] in text


def test_the_entrance_takes_a_split_a_number_or_a_name(shopfront: Shopfront) -> None:
    env = WebShopEnv(CONFIG)
    for split in SPLITS:
        assert f'name="split" value="{split}"' in page(shopfront, "/")
        text = page(shopfront, send(shopfront, "/", split=split).place)
        assert re.search(r"<span>(goal/\d{6})</span>", text)[1] in env.tasks(split)  # type: ignore[index]
    for task in ("42", " 42 ", "goal/000042"):
        assert "<span>goal/000042</span>" in page(shopfront, enter(shopfront, task))


@pytest.mark.parametrize("task", ["999999999", "-1", "goal/42", "", "٤٢", MARKUP])
def test_a_goal_that_does_not_exist_is_told_at_the_entrance(shopfront: Shopfront, task: str) -> None:
    reply = send(shopfront, "/", task=task)
    assert reply.status == 400
    assert '<p role="alert">no task &#x27;' in reply.text
    assert "<script" not in reply.text


def test_the_task_of_the_settings_stands_ready_at_the_entrance() -> None:
    with serving(ServeConfig(port=0, products=60, task="goal/000007")) as shopfront:
        assert 'name="task" value="goal/000007"' in page(shopfront, "/")


def test_markup_in_catalogue_instruction_and_action_stays_text(tmp_path: Path) -> None:
    with serving(hostile_shop(tmp_path)) as shopfront:
        path = enter(shopfront, "0")
        for action in ("search[lamp]", "click[lamp000001]", f"click[{MARKUP.lower()}]", MARKUP, "click[features]"):
            path = act(shopfront, path, action)
            text = page(shopfront, path)
            assert "&lt;script&gt;" in text
            assert "<script" not in text
            assert "<i" not in re.sub(r"<(input|img) ", "", text)


def test_options_named_like_the_shop_s_own_fields_can_be_chosen(tmp_path: Path) -> None:
    with serving(hostile_shop(tmp_path)) as shopfront:
        path = act(shopfront, enter(shopfront, "0"), "search[lamp]", "click[lamp000001]")
        for value in ("action", "option", "search_query"):
            path = send(shopfront, path, option=value).place
            assert f'value="{value}" checked' in page(shopfront, path)


# -- visitors ------------------------------------------------------------------------------------------------------------------


def test_visitors_at_the_same_time_do_not_mix(shopfront: Shopfront) -> None:
    def shops(place: int) -> tuple[bool, bool]:
        env, task, actions = shopping(place)
        path = enter(shopfront, task)
        told = env.shop.goals[int(task[5:])].instruction in unescape(page(shopfront, path))
        return told, "<h2>Score 1.000 of 1.0</h2>" in page(shopfront, act(shopfront, path, *actions))

    with ThreadPoolExecutor(8) as people:
        assert list(people.map(shops, range(16))) == [(True, True)] * 16


def test_one_goal_shopped_for_twice_is_two_visits(shopfront: Shopfront) -> None:
    one, two = enter(shopfront, "1"), enter(shopfront, "1")
    act(shopfront, one, "search[shirt]")
    assert one != two
    assert '<main class="search">' in page(shopfront, two)


def test_an_old_page_does_nothing_and_leads_to_the_new_one(shopfront: Shopfront) -> None:
    start = enter(shopfront, "1")
    found = act(shopfront, start, "search[shirt]")
    before = page(shopfront, found)
    assert act(shopfront, start, "search[trousers]") == f"{found}?old"
    assert ask(shopfront, "GET", start).place == f"{found}?old"
    assert ask(shopfront, "GET", found.rsplit("/", 1)[0]).place == f"{found}?old"
    assert page(shopfront, found) == before
    assert '<p role="alert">You came from an old page' in page(shopfront, f"{found}?old")


def test_looking_changes_nothing(shopfront: Shopfront) -> None:
    path = enter(shopfront, "1")
    before = page(shopfront, path)
    for method in ("GET", "HEAD"):
        assert ask(shopfront, method, f"{path}?action=search[shirt]&search_query=shirt").status == 200
    assert page(shopfront, path) == before


def test_the_visit_left_alone_longest_makes_room() -> None:
    with serving(CONFIG) as shopfront:
        first, second = enter(shopfront, "1"), enter(shopfront, "2")
        for _ in range(MOST_VISITS - 2):
            enter(shopfront, "3")
        page(shopfront, first)
        enter(shopfront, "4")
        assert ask(shopfront, "GET", first).status == 200
        gone = ask(shopfront, "GET", second)
    assert gone.status == 404
    assert f"Only the last {MOST_VISITS} visits are kept" in gone.text


# -- the command ---------------------------------------------------------------------------------------------------------------


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = capsys.readouterr().out
    for name in ("source", "data", "products", "goals", "reward", "port", "task"):
        assert f"\n  {name} " in said


def test_ctrl_c_ends_it_with_one_line() -> None:
    # A shell that starts the tests in the background makes them ignore SIGINT, and their children inherit that.
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from envs.webshop.__main__ import main; sys.exit(main(['serve', 'port=0', 'products=60']))"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert re.fullmatch(r"WebShop is at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\n", process.stdout.readline())
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate()
    # The signal may come before the first line counts as written, and then that line is shown again.
    assert re.fullmatch(r"(WebShop is at .*\n)?\nWebShop is closed\n", said)
    assert complained == ""
    assert process.returncode == 0
