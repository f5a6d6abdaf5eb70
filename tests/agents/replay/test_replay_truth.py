"""The truth in the replay: what an audit measured stands beside the credit, with its error, on a scale of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.replay import __main__ as replay
from agents.replay.reading import read
from agents.replay.view import Known, scale_of
from tests.agents.replay.replayed import episode, step, write_run


def measured(advantage: float, error: float = 0.1, **more: Any) -> dict[str, Any]:
    return {"advantage": advantage, "error": error, "value": 0.4, "value_error": 0.05, **more}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An episode of which an audit knows all but the last step, and one that nobody audited."""
    steps = [step("open door", {"advantage": 30.0}), step("wait", {"advantage": -10.0}), step("look", {"advantage": 5.0})]
    tokens = len(steps[0].response_ids)
    steps[0].truth = measured(0.5, tokens=[0.3, *[None] * (tokens - 1)], token_errors=[0.2, *[None] * (tokens - 1)])
    steps[1].truth = measured(-0.25)
    write_run(tmp_path / "it", [episode(steps), episode([step("wait", {"advantage": 1.0})], "g1")])
    return tmp_path / "it"


def test_a_step_has_its_true_advantage_and_the_value_before_it(run: Path) -> None:
    first, second, third = read(run).episodes[0].steps
    assert (first.truth, first.worth) == (Known(0.5, 0.1), Known(0.4, 0.05))
    assert second.truth == Known(-0.25, 0.1)
    assert (third.truth, third.worth) == (None, None)
    assert first.tokens[0].truth == Known(0.3, 0.2)
    assert all(token.truth is None for token in (*first.tokens[1:], *second.tokens))


def test_credit_and_truth_have_scales_of_their_own(run: Path) -> None:
    scale = scale_of(read(run).episodes)
    assert (scale.length, scale.truth) == (30.0, pytest.approx(0.6))
    assert scale.of_truth.length == scale.of_truth.color == pytest.approx(0.6)
    assert scale_of(read(run).episodes[1:]).truth == 1


def test_the_terminal_says_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(run), "episode=1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "true advantage +0.50 ± 0.1 true value before +0.40 ± 0.05" in printed
    assert printed.count("true advantage") == 2


def test_the_page_draws_it_and_says_how_to_read_it(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert replay.main([str(run), "--all", "--html", str(page)]) == 0
    text = page.read_text()
    assert text.count('class="dot"') == 2
    assert text.count("dots: true advantage") == 1, "of the episode that was audited"
    assert text.count("true advantage of each step") == 2, "in the index and above the episodes of its group"
    assert "+0.50 ± 0.1" in text
    assert "true +0.30" in text


def test_without_an_audit_a_page_is_as_it_was(tmp_path: Path) -> None:
    write_run(tmp_path / "it", [episode([step("wait", {"advantage": 1.0})])])
    page = tmp_path / "page.html"
    assert replay.main([str(tmp_path / "it"), "--html", str(page)]) == 0
    for word in ("true", 'class="dot"', 'class="error"'):
        assert word not in page.read_text().partition("</style>")[2].partition("<script>")[0].replace('aria-hidden="true"', "")


@pytest.mark.parametrize("noted", [{}, {"advantage": "much"}, {"advantage": 1.0}, {"tokens": 3, "token_errors": None}])
def test_what_a_stranger_noted_is_no_reason_to_fail(tmp_path: Path, noted: dict[str, Any]) -> None:
    one = step("wait", {"advantage": 1.0})
    one.truth = noted
    write_run(tmp_path / "it", [episode([one])])
    assert read(tmp_path / "it").episodes[0].steps[0].truth is None
    assert replay.main([str(tmp_path / "it")]) == 0
