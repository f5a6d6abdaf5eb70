"""The report in a real browser: nothing on it is refused, an episode is a click away, and it follows the reader's colors.

Chromium is driven as in tests/envs/webshop/test_browser.py. Skipped where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import report
from tests.agents.replay.test_replay_browser import emulate
from tests.agents.reporting.reported import write
from tests.envs.webshop import test_browser
from tests.envs.webshop.test_browser import Browser

browser = test_browser.browser
pytestmark = test_browser.pytestmark

HOSTILE = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def page(tmp_path: Path) -> str:
    return report.report([str(write(tmp_path / "it", word=HOSTILE).path)]).as_uri()


def test_hostile_text_is_shown_and_an_episode_is_a_click_away(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.complaints() == []
    assert browser.does("GET", "/title") == "it · report"
    assert f"the model wrote {HOSTILE}" in browser.text("//ul[@class='said']")
    assert len(browser.does("POST", "/elements", using="xpath", value="//figure//*[name()='polyline']")) > 3
    browser.click("(//h2[text()='Episodes to look at']/following-sibling::div//td/a)[1]")
    assert browser.does("GET", "/title") == "it · iteration 2 · replay"
    assert browser.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_stand_out_in_the_reader_s_colors(browser: Browser, page: str, scheme: str) -> None:
    emulate(browser, "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)

    def brightness(xpath: str, style: str) -> float:
        color = browser.does("GET", f"{browser.find(xpath)}/css/{style}")
        return sum(map(int, color[color.index("(") + 1 : -1].split(",")[:3])) / 3

    curve = brightness("(//*[name()='polyline'])[1]", "stroke")
    ground = brightness("(//figure)[1]", "background-color")
    assert (ground > curve + 60) if scheme == "light" else (curve > ground + 60)
