"""The replay's page in a real browser: what is in sight, where keys and clicks lead, and text that stays text.

Chromium is driven as in tests/envs/webshop/test_browser.py. Skipped where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.replay import __main__ as replay
from tests.agents.replay.replayed import episode, step, write_run
from tests.envs.webshop import test_browser
from tests.envs.webshop.test_browser import Browser

browser = test_browser.browser
pytestmark = test_browser.pytestmark

HOSTILE = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
LEFT, RIGHT = "\ue012", "\ue014"


@pytest.fixture
def page(tmp_path: Path) -> str:
    """Two groups; everything that an environment or a model may write is hostile in the first."""
    credit = {"advantage": 1.0, HOSTILE: 0.5}
    bad = step("open door", credit, observation=HOSTILE * 9, shaped_rewards={HOSTILE: 1.0}, subgoals=[HOSTILE])
    bad.action = HOSTILE
    plain = [step(action, {"advantage": value}) for action, value in (("wait", -0.5), ("look", 0.25), ("open door", 0.75))]
    groups = [episode([bad], HOSTILE, error=HOSTILE), episode([bad, *plain], HOSTILE), episode(plain, HOSTILE)]
    write_run(tmp_path / "it", [*groups, episode(plain, "g1", success=True)])
    target = tmp_path / "page.html"
    assert replay.main([str(tmp_path / "it"), "--all", "--html", str(target)]) == 0
    return target.as_uri()


def in_sight(browser: Browser, xpath: str) -> list[str]:
    """Ids of the elements there that are displayed."""
    found = browser.does("POST", "/elements", using="xpath", value=xpath)
    paths = [f"/element/{one[test_browser.ELEMENT]}" for one in found]
    return [browser.does("GET", f"{path}/attribute/id") for path in paths if browser.does("GET", f"{path}/displayed")]


def emulate(browser: Browser, command: str, **parameters: object) -> None:
    """A command of Chromium's own protocol."""
    browser.does("POST", "/goog/cdp/execute", cmd=f"Emulation.{command}", params=parameters)


EPISODES = "//section[contains(@class, 'episode')]"


def test_hostile_text_is_shown_and_does_nothing(browser: Browser, page: str) -> None:
    browser.open(page + "#e2")
    assert browser.text("//li[@id='e2s1']//details/pre") == HOSTILE * 9
    assert browser.text("//li[@id='e2s1']//p[@class='action']/code") == HOSTILE
    assert browser.does("GET", "/title") == "it · iteration 1 · replay"
    assert browser.does("POST", "/elements", using="xpath", value="//main//img | //main//script") == []
    assert browser.complaints() == []


def test_a_script_that_got_in_all_the_same_is_refused(browser: Browser, page: str) -> None:
    browser.open(page)
    add = "const s = document.createElement('script'); s.textContent = `document.title='owned'`; document.body.append(s)"
    browser.does("POST", "/execute/sync", script=add, args=[])
    assert browser.does("GET", "/title") == "it · iteration 1 · replay"
    assert "Content Security Policy" in " ".join(browser.complaints())


def test_the_index_comes_first_and_leads_to_an_episode(browser: Browser, page: str) -> None:
    browser.open(page)
    assert (in_sight(browser, "//*[@id='index']"), in_sight(browser, EPISODES)) == (["index"], [])
    browser.click("//*[@id='index']//a[@href='#e4']")
    assert (in_sight(browser, "//*[@id='index']"), in_sight(browser, EPISODES)) == ([], ["e4"])


def test_arrows_lead_through_the_group_and_not_out_of_it(browser: Browser, page: str) -> None:
    browser.open(page + "#e2")
    browser.press(RIGHT)
    assert in_sight(browser, EPISODES) == ["e3"]
    assert browser.text("//tr[@aria-current][ancestor::article]/td[1]") == "3"
    browser.does("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": [{"type": "keyDown", "value": RIGHT}]}])
    assert in_sight(browser, EPISODES) == ["e3"]
    browser.press(LEFT)
    assert in_sight(browser, EPISODES) == ["e2"]


def test_letters_lead_from_step_to_step(browser: Browser, page: str) -> None:
    browser.open(page + "#e4")
    browser.press("jj")
    assert browser.does("GET", "/url").endswith("#e4s2")
    browser.press("k")
    assert browser.does("GET", "/url").endswith("#e4s1")


def test_a_bar_of_the_timeline_leads_to_its_step(browser: Browser, page: str) -> None:
    browser.open(page + "#e3")
    browser.click("//section[@id='e3']//*[name()='svg'][@class='timeline']/*[name()='a'][3]")
    assert browser.does("GET", "/url").endswith("#e3s3")
    assert in_sight(browser, "//li[@id='e3s3']") == ["e3s3"]


def test_a_peer_leads_to_where_it_is(browser: Browser, page: str) -> None:
    browser.open(page + "#e3s1")
    browser.click("//li[@id='e3s1']//a[text()='2.2']")
    assert in_sight(browser, EPISODES) == ["e2"]


def test_links_work_without_scripts(browser: Browser, page: str) -> None:
    emulate(browser, "setScriptExecutionDisabled", value=True)
    try:
        browser.open(page + "#e2")
        browser.click("//section[@id='e2']//a[@rel='next']")
        assert in_sight(browser, "//section[@id='e3']") == ["e3"]
    finally:
        emulate(browser, "setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_reader_s_colors(browser: Browser, page: str, scheme: str) -> None:
    emulate(browser, "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)
    color = browser.does("GET", f"{browser.find('//body')}/css/background-color")
    brightness = sum(map(int, color.removeprefix("rgba(").split(",")[:3])) / 3
    assert (brightness > 128) == (scheme == "light")
