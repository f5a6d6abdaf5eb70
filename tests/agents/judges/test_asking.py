"""Many questions, some of which fail: what is asked again, what is left open, and what people are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.judges.asking import LONGEST_PAUSE_S, RetryingClient, pause
from agents.judges.cache import AnswerCache
from agents.judges.client import ClientError, Reply
from agents.judges.endpoint import Endpoint
from tests.agents.judges.server import Response, Server, error

pytest.importorskip("httpx2")


Made = Callable[..., RetryingClient]


@pytest.fixture
def client(server: Server, runner: asyncio.Runner) -> Iterator[Made]:
    """Makes askers of the server, and closes them."""
    made: list[RetryingClient] = []

    def make(timeout_s: float = 600.0, cache: AnswerCache | None = None, **settings: Any) -> RetryingClient:
        made.append(RetryingClient(Endpoint("m", server.url, None, 160, timeout_s), cache, first_pause=0.01, **settings))
        return made[-1]

    yield make
    for one in made:
        runner.run(one.close())


def fates(runner: asyncio.Runner, asking: RetryingClient, count: int = 1, start: int = 0) -> list[str]:
    answers = runner.run(asking.ask([f"question {number}" for number in range(start, start + count)]))
    return [answer.fate for answer in answers.values()]


def test_every_question_gets_its_own_answer(server: Server, runner: asyncio.Runner, client: Made) -> None:
    server.reply = lambda request: Response(f"about {request['messages'][0]['content']}")
    answers = runner.run(client().ask([f"question {number}" for number in range(30)]))
    assert {prompt: answer.text for prompt, answer in answers.items()} == {
        f"question {number}": f"about question {number}" for number in range(30)
    }


def test_no_more_questions_are_under_way_than_allowed(runner: asyncio.Runner) -> None:
    class Counting:
        identity = None
        now = most = 0

        async def ask(self, prompt: str) -> Reply:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return Reply("", 0, 0)

        async def close(self) -> None: ...

    client = Counting()
    runner.run(RetryingClient(client, concurrency=3).ask(map(str, range(20))))
    assert client.most == 3


@pytest.mark.fault("a judge's server fails once", lost="time")
@pytest.mark.parametrize(
    "first", [error(500, "boom"), error(429, "slow", Retry_After="0"), Response(body=b"{"), Response(body=b"", kind="a/b")]
)
def test_a_question_that_failed_is_asked_again(server: Server, runner: asyncio.Runner, client: Made, first: Response) -> None:
    server.answers(first, first, Response("{}"))
    asking = client(retries=2)
    assert fates(runner, asking) == ["answered"]
    assert asking.take()["calls"] == 3


@pytest.mark.fault("a judge's server fails at one question", lost="that verdict")
def test_a_question_that_keeps_failing_is_given_up_alone(server: Server, runner: asyncio.Runner, client: Made) -> None:
    server.reply = lambda request: error(500, "boom") if "question 2" in str(request) else Response("{}")
    asking = client(retries=1)
    assert fates(runner, asking, 5) == ["answered", "answered", "failed", "answered", "answered"]
    counts = asking.take()
    assert (counts["calls"], counts["failed_server"]) == (6, 2)


@pytest.mark.fault("a judge's server refuses a question", lost="that verdict")
@pytest.mark.parametrize("reply", [error(404, "no such model"), error(400, "context too long")])
def test_what_is_refused_is_not_asked_again(server: Server, runner: asyncio.Runner, client: Made, reply: Response) -> None:
    server.answers(reply)
    assert fates(runner, client(retries=5)) == ["failed"]
    assert len(server.requests) == 1


def test_pauses_grow_and_the_servers_wish_counts_up_to_a_limit() -> None:
    assert [pause(attempt, None, 1.0) for attempt in range(8)] == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert pause(0, 7.5, 1.0) == 7.5
    assert pause(3, 0.0, 1.0) == 8
    assert pause(0, 3600.0, 1.0) == LONGEST_PAUSE_S


def test_tokens_are_counted_once_taken_and_begin_anew(server: Server, runner: asyncio.Runner, client: Made) -> None:
    asking = client()
    fates(runner, asking, 3)
    counts = asking.take()
    assert (counts["prompt_tokens"], counts["answer_tokens"]) == (210, 21)
    assert not any(asking.take().values())


# -- the budget -------------------------------------------------------------------------------------------------------------


def test_the_budget_holds_for_the_whole_run_and_counts_what_is_asked_again(
    server: Server, runner: asyncio.Runner, client: Made, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers(error(500, "boom"), Response("{}"))
    asking = client(budget=5, concurrency=1, retries=2)
    assert fates(runner, asking, 3) == ["answered"] * 3
    assert fates(runner, asking, 3, start=3) == ["answered", "open", "open"]
    assert fates(runner, asking, 3, start=6) == ["open"] * 3
    assert len(server.requests) == asking.calls == 5
    assert [record.message for record in caplog.records if "budget" in record.message] == [
        "the judge's budget of 5 calls is spent: further questions are left open"
    ]


def test_kept_answers_cost_no_budget(server: Server, runner: asyncio.Runner, client: Made, cache: Path) -> None:
    file = AnswerCache(cache / "answers")
    fates(runner, client(cache=file), 3)
    later = client(cache=file, budget=1)
    assert sorted(fates(runner, later, 4)) == ["answered", "cached", "cached", "cached"]
    assert (later.calls, later.take()["cached"]) == (1, 3)


def test_answers_of_a_speaker_that_changes_are_not_kept(runner: asyncio.Runner, cache: Path) -> None:
    class Changing:
        identity = None

        async def ask(self, prompt: str) -> Reply:
            return Reply("{}", 0, 0)

        async def close(self) -> None: ...

    file = AnswerCache(cache / "answers")
    assert [fates(runner, RetryingClient(Changing(), file)) for _ in range(2)] == [["answered"], ["answered"]]


# -- outages ----------------------------------------------------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return ["out" if "does not answer" in r.message else "back" for r in caplog.records if "answer" in r.message]


@pytest.mark.fault("a judge's server is down", lost="verdicts, which are asked for later")
def test_while_the_server_is_down_the_rest_is_left_open(
    server: Server, runner: asyncio.Runner, client: Made, caplog: pytest.LogCaptureFixture
) -> None:
    server.close()
    asking = client(concurrency=2, retries=1)
    found = fates(runner, asking, 100)
    assert found.count("failed") + found.count("open") == 100
    assert found.count("failed") <= 5
    assert asking.take()["failed_connection"] <= 8
    assert told(caplog) == ["out"]


@pytest.mark.fault("a judge's server hangs", lost="verdicts, which are asked for later")
def test_a_hanging_server_costs_each_further_iteration_one_call(server: Server, runner: asyncio.Runner, client: Made) -> None:
    server.answers(Response(hangs=True))
    asking = client(timeout_s=0.05, retries=1)
    fates(runner, asking, 20)
    for iteration in range(1, 4):
        asking.take()
        assert sorted(set(fates(runner, asking, 20, start=20 * iteration))) == ["failed", "open"]
        counts = asking.take()
        assert (counts["calls"], counts["failed_timeout"]) == (1, 1)


@pytest.mark.fault("a judge's server is down", lost="verdicts, which are asked for later")
def test_after_an_outage_one_question_tries_and_the_others_follow(
    server: Server, runner: asyncio.Runner, client: Made, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers(error(503, "overloaded"))
    asking = client(concurrency=1, retries=0)
    assert fates(runner, asking, 5) == ["failed", "failed", "failed", "open", "open"]
    assert fates(runner, asking, 5) == ["failed", "open", "open", "open", "open"]
    server.answers(Response("{}"))
    assert fates(runner, asking, 5) == ["answered"] * 5
    server.answers(error(503, "overloaded"))
    fates(runner, asking, 5)
    assert told(caplog) == ["out", "back", "out"]


def test_failures_with_answers_between_them_are_no_outage(server: Server, runner: asyncio.Runner, client: Made) -> None:
    odd = iter([error(500, "boom"), error(500, "boom"), Response("{}")] * 10)
    server.reply = lambda request: next(odd)
    found = fates(runner, client(concurrency=1, retries=0), 30)
    assert (found.count("failed"), found.count("answered")) == (20, 10)


def test_questions_that_are_too_long_are_no_outage(server: Server, runner: asyncio.Runner, client: Made) -> None:
    server.reply = lambda request: Response("{}") if "question 9" in str(request) else error(400, "maximum context length")
    assert fates(runner, client(concurrency=1), 10) == ["failed"] * 9 + ["answered"]


def test_an_outage_is_told_with_its_reason(
    server: Server, runner: asyncio.Runner, client: Made, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers(error(404, "the model `m` does not exist"))
    with caplog.at_level(logging.WARNING):
        fates(runner, client(), 10)
    [message] = caplog.messages
    assert "refused" in message
    assert "the model `m` does not exist" in message


def test_an_error_nobody_foresaw_is_not_hidden(runner: asyncio.Runner) -> None:
    class Broken:
        identity = None

        async def ask(self, prompt: str) -> Reply:
            raise ZeroDivisionError

        async def close(self) -> None: ...

    with pytest.RaisesGroup(ZeroDivisionError):
        runner.run(RetryingClient(Broken()).ask(["question"]))


def test_a_failure_that_is_not_hopeless_is_tried_as_often_as_is_set(runner: asyncio.Runner) -> None:
    class Failing:
        identity = None
        calls = 0

        async def ask(self, prompt: str) -> Reply:
            self.calls += 1
            raise ClientError("other", "no answer")

        async def close(self) -> None: ...

    client = Failing()
    assert fates(runner, RetryingClient(client, retries=4, first_pause=0.0)) == ["failed"]
    assert client.calls == 5
