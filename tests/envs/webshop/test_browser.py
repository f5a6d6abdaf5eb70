"""A real browser in the served shop: a whole purchase by mouse and keyboard, without scripts, and text that stays text.

Chromium is driven by its own driver over plain HTTP (the W3C's WebDriver protocol). Skipped where there is none.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

from envs.webshop.engine import parse
from envs.webshop.env import WebShopEnv
from envs.webshop.serve import ServeConfig, Shopfront
from tests.envs.webshop.test_serve import MARKUP, hostile_shop, serving

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
FLAGS += ["disable-dev-shm-usage", "disable-component-update", "disable-sync", "window-size=1280,1000"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id, by the standard."""
CONFIG = ServeConfig(port=0, products=100)

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


class Browser:
    """A window of Chromium."""

    def __init__(self, driver: str, profile: Path) -> None:
        chrome = {"binary": CHROMIUM, "args": [*FLAGS, f"user-data-dir={profile}"]}
        asked = {"browserName": "chrome", "goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        self._window = driver
        session = self.does("POST", "/session", capabilities={"alwaysMatch": asked})["sessionId"]
        self._window = f"{driver}/session/{session}"

    def does(self, method: str, path: str, **body: Any) -> Any:
        """One command of the protocol."""
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self._window + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def open(self, url: str) -> None:
        self.does("POST", "/url", url=url)

    def find(self, xpath: str) -> str:
        """Path of the one element there."""
        (found,) = self.does("POST", "/elements", using="xpath", value=xpath)
        return f"/element/{found[ELEMENT]}"

    def click(self, xpath: str) -> None:
        """On something that leads to another page, which is waited for."""
        with self._leaving():
            self.does("POST", f"{self.find(xpath)}/click")

    def enter(self, xpath: str, text: str) -> None:
        """Type into a field and press the enter key, which leads to another page."""
        with self._leaving():
            self.does("POST", f"{self.find(xpath)}/value", text=f"{text}\ue006")

    def press(self, keys: str) -> None:
        """Keys for whatever has the focus, the last of which leads to another page."""
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        with self._leaving():
            self.does("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": presses}])

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        here = self.does("GET", "/url")
        yield
        while self.does("GET", "/url") == here:
            sleep(0.01)

    def text(self, xpath: str) -> str:
        """Also of what is folded."""
        return self.does("GET", f"{self.find(xpath)}/property/textContent")

    def complaints(self) -> list[str]:
        """What stands in the console since the last look."""
        return [entry["message"] for entry in self.does("POST", "/se/log", type="browser")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert DRIVER is not None
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = next(found[1] for line in process.stdout if (found := re.search(r"successfully on port (\d+)", line)))
            window = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
            yield window
            window.does("DELETE", "")
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def shopfront() -> Iterator[Shopfront]:
    with serving(CONFIG) as shopfront:
        yield shopfront


def enter(browser: Browser, shopfront: Shopfront, task: str) -> None:
    browser.open(shopfront.url)
    browser.enter("//input[@name='task']", task)


def by_hand(browser: Browser, action: str) -> None:
    """Do on the page what an agent's action means."""
    name, argument = parse(action)
    assert argument is not None
    if name == "search":
        browser.enter("//input[@id='search_input']", argument)
        return
    lower = "translate(., 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')"
    browser.click(f"//main//*[self::a or self::button or self::label[not(a)]][{lower}={json.dumps(argument)}]")


def roundabout_purchase(env: WebShopEnv) -> tuple[str, list[str]]:
    """A goal, and the actions of somebody who looks at everything before buying the right thing."""
    seen = {"click[next >]", "click[< prev]", "click[description]", "click[features]", "click[back to search]"}
    for seed, task in enumerate(env.tasks("train")):
        actions = env.imperfect_demonstration(task, np.random.default_rng(seed), 1.0, True)
        if seen <= set(actions) and len(actions) < 30 and env.shop.goals[int(task[5:])].options:
            return task, actions
    raise AssertionError("nobody goes astray")


def test_a_whole_purchase_by_mouse_shows_what_an_agent_sees_and_scores_one(browser: Browser, shopfront: Shopfront) -> None:
    agent = WebShopEnv(CONFIG)
    task, actions = roundabout_purchase(agent)
    turn = agent.start(task, np.random.default_rng(0))
    enter(browser, shopfront, task)
    for action in actions:
        assert browser.text("//details[@open]/pre") == turn.observation
        by_hand(browser, action)
        turn = agent.act(action)
    assert browser.text("//details[@open]/pre") == turn.observation
    assert browser.text("//aside/h2[1]") == "Score 1.000 of 1.0"
    assert browser.complaints() == []


def test_a_page_gone_back_to_leads_to_where_the_visit_is(browser: Browser, shopfront: Shopfront) -> None:
    enter(browser, shopfront, "goal/000000")
    by_hand(browser, "search[shirt]")
    browser.does("POST", "/back")  # the browser may show the old page as it was, until it is loaded again
    browser.does("POST", "/refresh")
    assert browser.text("//main/h3").startswith("Page 1 ")
    assert browser.text("//*[@role='alert']").startswith("You came from an old page")


def test_an_action_that_is_not_possible_is_told(browser: Browser, shopfront: Shopfront) -> None:
    enter(browser, shopfront, "goal/000000")
    browser.enter("//input[@name='action']", "click[<b>buy</b> now]")
    assert browser.text("//*[@role='alert']") == "Nothing happened, this is not possible here: click[<b>buy</b> now]"


def test_markup_in_the_catalogue_stays_text(browser: Browser, tmp_path: Path) -> None:
    with serving(hostile_shop(tmp_path)) as shopfront:
        enter(browser, shopfront, "0")
        by_hand(browser, "search[lamp]")
        assert browser.text("//main//article/h2") == f"{MARKUP} lamp"
        browser.click("//a[@class='product-link']")
        assert browser.text("//main//article/h2") == f"{MARKUP} lamp"
        browser.click("//section/label[1]")
        chosen = "//input[@type='radio'][@checked]/following-sibling::label[1]"
        assert browser.text(chosen) == MARKUP.lower().replace("/", " | ")  # as the official shop spells it
        browser.click("//button[text()='Features']")
        assert browser.text("//main//li") == f" {MARKUP}"
        assert browser.does("GET", "/title") == "WebShop, goal/000000"
        complaints = browser.complaints()
    # The article's picture, wherever it may be, is not fetched.
    assert complaints
    assert all("https://example.org/lamp.jpg' violates" in complaint for complaint in complaints)


def test_a_page_is_used_by_keyboard_alone(browser: Browser, shopfront: Shopfront) -> None:
    enter(browser, shopfront, "goal/000000")
    browser.press("shirt\ue007")  # the search field has the focus
    browser.press("\ue004" * 4 + "\ue007")  # past "Another goal", "Back to Search" and "Next >" to the first article
    assert browser.text("//main/article/p[@class='rating']") == "Rating: N.A."
