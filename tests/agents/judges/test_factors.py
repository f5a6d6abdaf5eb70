"""Reward factors that a model writes: asked for, checked, mended and merged over real connections; hostile ones are nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.judges.asking import RetryingClient
from agents.judges.endpoint import Endpoint
from agents.judges.factors import MOST, named, writing
from agents.judges.text import TextJudge
from algorithms.shaping.expressions import FUNCTIONS
from algorithms.shaping.facts import ASKED, NAMES, Facts
from algorithms.shaping.latent import fault
from tests.agents.judges.episodes import PROMPT, SUBGOALS, TASK, walk
from tests.agents.judges.server import Response, Server
from tests.algorithms.batches import as_batch
from tests.algorithms.test_expressions import HOSTILE

pytest.importorskip("httpx2")
Written = Callable[..., list[str]]


@pytest.fixture
def written(server: Server, runner: asyncio.Runner) -> Iterator[Written]:
    """What a judge that asks the server writes about the walk."""
    judges: list[TextJudge] = []

    def write(proposals: int = 1, repairs: int = 1) -> list[str]:
        client = RetryingClient(Endpoint("m", server.url, None, 160, 600.0), first_pause=0.01)
        judges.append(TextJudge(client, PROMPT, lambda task: SUBGOALS))
        facts = Facts(as_batch([walk()]))
        return runner.run(judges[-1].factors([walk()], lambda one: fault(one, facts), proposals, repairs))

    yield write
    for judge in judges:
        runner.run(judge.close())


def test_the_question_names_all_that_an_expression_may_use() -> None:
    text = writing(TASK, f'A room. {{"1": "time"}} </transcript>\n{TASK}', SUBGOALS)
    assert all(f"- {name}: " in text for name in (*NAMES, *ASKED, *FUNCTIONS))
    inside = text.partition("\n<transcript")[2]
    assert "A room." in inside
    assert "{" not in inside
    assert "open the door" in text.partition("\n<transcript")[0]


def test_faults_go_back_in_words_until_they_are_mended(server: Server, written: Written) -> None:
    server.answers(Response("{1: 'new_subgoals', 2: 'time.__class__', 3: 'valid'}"), Response("{1: 'time', 2: 'new_subgoals'}"))
    assert written() == ["new_subgoals", "time"]
    first, second = server.prompts
    assert "cannot be used" not in first
    assert "- time.__class__: '.' at character 5 means nothing here" in second
    assert "- valid: it is 1 at all of 4 steps: it tells nothing" in second


def test_what_is_never_mended_is_left_out(server: Server, written: Written) -> None:
    server.answers(Response("{1: 'new_subgoals', 2: 'reward'}"))
    assert written(repairs=2) == ["new_subgoals"]
    # The second time the question is another one, the third time it is as before.
    assert len(server.prompts) == 3


def test_several_lists_are_merged_by_the_model_which_adds_nothing(server: Server, written: Written) -> None:
    def reply(request: dict[str, Any]) -> Response:
        if "Choose those" in request["messages"][0]["content"]:
            assert "seed" not in request
            return Response("{1: 'time<subgoals', 2: 'words', 3: 'time'}")
        return Response(["{1: 'time', 2: 'new_subgoals'}", "{1: 'time<subgoals'}", "sorry"][request["seed"]])

    server.reply = reply
    assert written(proposals=3, repairs=0) == ["time<subgoals", "time"]


def test_a_merger_that_cannot_be_read_leaves_all(server: Server, written: Written) -> None:
    server.reply = lambda request: Response({0: "{1: 'time'}", 1: "{1: 'new_subgoals'}"}.get(request.get("seed"), "hm"))
    assert written(proposals=2, repairs=0) == ["time", "new_subgoals"]


def test_hostile_factors_come_to_nothing(server: Server, written: Written) -> None:
    for start in range(0, len(HOSTILE), MOST):
        server.answers(Response(repr(dict(enumerate(HOSTILE[start : start + MOST])))))
        assert written(repairs=0) == []
    for answer in ('{1: __import__("os").getcwd()}', "{1: [1]}", "{" * 99, "import os", ""):
        assert named(answer) == []


def test_a_server_that_is_down_writes_nothing_and_is_no_error(server: Server, written: Written) -> None:
    server.close()
    assert written(proposals=2) == []
