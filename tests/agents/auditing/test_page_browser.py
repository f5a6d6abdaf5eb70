"""The page of an audit in a real browser: nothing is refused, the numbers stand there, and it leads to a method's episodes.

Chromium is driven as in tests/envs/webshop/test_browser.py. Skipped where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import audit
from tests.agents.auditing.tabular import table_engine  # noqa: F401
from tests.agents.test_audit import QUICK
from tests.envs.webshop import test_browser
from tests.envs.webshop.test_browser import Browser

browser = test_browser.browser
pytestmark = test_browser.pytestmark


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("audit")
    assert audit.main([*QUICK, "methods=[grpo,gigpo]", "tokens=5", f"out={out}"]) == 0
    (page,) = Path(out).glob("*/audit.html")
    return page.as_uri()


def test_nothing_on_the_page_is_refused(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.complaints() == []
    assert browser.does("GET", "/title") == "tiny on table · audit of credit"
    shown = browser.does("POST", "/elements", using="xpath", value="//figure//*[name()='polyline']")
    assert len(shown) == 2, "a calibration for each method"


def test_a_method_s_episodes_are_a_click_away_with_the_truth_beside_the_credit(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.click("//a[contains(@href, 'gigpo')]")
    assert browser.does("GET", "/title") == "gigpo · iteration 1 · replay"
    browser.click("//*[@id='index']//a[@href='#e1']")
    dots = browser.does("POST", "/elements", using="xpath", value="//section[@id='e1']//*[name()='circle']")
    steps = browser.does("POST", "/elements", using="xpath", value="//section[@id='e1']//li")
    assert len(dots) == len(steps) > 0
    assert "±" in browser.text("(//section[@id='e1']//tr[@class='truth'])[1]")
    assert browser.complaints() == []
