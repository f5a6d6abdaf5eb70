"""Asks a model through its client: many questions at once, answers cached on disk, failed ones asked again, within a budget,
and none during an outage. Nothing that goes wrong with a question stops the run: it is left without an answer, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from agents.judges.cache import AnswerCache
from agents.judges.client import HOPELESS, Client, ClientError, Draw, Kind

log = logging.getLogger("stepcredit.judge")

OUTAGE = 3
"""After so many questions in a row that failed for good, an outage is assumed."""
LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question. open: it was not asked, because the budget is spent or there is an outage."""

    fate: Literal["answered", "cached", "failed", "open"]
    text: str | None = None


def pause(attempt: int, wait: float | None, first: float) -> float:
    """Seconds before a question is asked again: `first`, doubled at each further attempt, or what the server asks for."""
    return min(max(first * 2**attempt, wait or 0.0), LONGEST_PAUSE_S)


class RetryingClient:
    """Asks one client. Holds state: the calls of the whole run, and whether there is an outage."""

    def __init__(
        self,
        client: Client,
        cache: AnswerCache | None = None,
        concurrency: int = 8,
        retries: int = 2,
        budget: int | None = None,
        first_pause: float = 1.0,
    ) -> None:
        """budget: most calls of a run; first_pause: seconds. Answers of a client without identity are not cached."""
        self._client, self._concurrency, self._retries = client, concurrency, retries
        self._cache, self._budget, self._first_pause = cache, budget, first_pause
        self.calls = 0
        """Calls of the run so far, those before it was resumed included."""
        self.seconds: list[float] = []
        """Of each call that was answered, since the list was last taken away."""
        self._failed_in_a_row = 0
        self._out = False
        self._told_of_budget = False
        self._counts: Counter[str] = Counter()

    async def ask(self, prompts: Iterable[str], draw: Draw | None = None) -> dict[str, Answer]:
        """The answers to different questions, the likeliest or sampled ones. After an outage the first one alone tries whether
        it is over."""
        answers = {prompt: self._kept(prompt, draw) for prompt in prompts}
        missing = [prompt for prompt, answer in answers.items() if answer.fate == "open"]
        if self._out and missing:
            answers[missing[0]] = await self._put(missing[0], draw, probe=True)
            missing = missing[1:]  # while it is still out, they are left open one by one
        places = asyncio.Semaphore(self._concurrency)

        async def one(prompt: str) -> None:
            async with places:
                answers[prompt] = await self._put(prompt, draw)

        async with asyncio.TaskGroup() as tasks:
            for prompt in missing:
                tasks.create_task(one(prompt))
        return answers

    def take(self) -> dict[str, float]:
        """Counts since the last `take()`: calls, cached answers, tokens where they are known, failed calls by kind."""
        names = ["calls", "cached", "prompt_tokens", "answer_tokens", *(f"failed_{kind}" for kind in get_args(Kind))]
        counts = {name: float(self._counts[name]) for name in names}
        self._counts.clear()
        return counts

    async def close(self) -> None:
        """Close the client and the file of answers."""
        await self._client.close()
        if self._cache is not None:
            self._cache.close()

    def _identity(self, draw: Draw | None) -> str | None:
        """What an answer depends on besides the question; None: it is not kept."""
        identity = self._client.identity
        if identity is None or draw is None:
            return identity
        return f"{identity} at {draw.temperature:g}, draw {draw.number}"

    def _kept(self, prompt: str, draw: Draw | None) -> Answer:
        identity = self._identity(draw)
        if self._cache is None or identity is None:
            return Answer("open")
        text = self._cache.get(identity, prompt)
        self._counts["cached"] += text is not None
        return Answer("open") if text is None else Answer("cached", text)

    async def _put(self, prompt: str, draw: Draw | None, probe: bool = False) -> Answer:
        for attempt in range(self._retries + 1):
            if (self._out and not probe) or self._spent():
                return Answer("failed" if attempt else "open")
            self.calls += 1
            self._counts["calls"] += 1
            started = time.perf_counter()
            try:
                said = await (self._client.ask(prompt) if draw is None else self._client.ask(prompt, draw))
            except ClientError as error:
                self._counts[f"failed_{error.kind}"] += 1
                if probe or attempt == self._retries or error.kind in HOPELESS:
                    self._note_failure(error)
                    break
                await asyncio.sleep(pause(attempt, error.wait, self._first_pause))
            else:
                self._note_answer()
                self.seconds.append(time.perf_counter() - started)
                self._counts["prompt_tokens"] += said.prompt_tokens
                self._counts["answer_tokens"] += said.answer_tokens
                identity = self._identity(draw)
                if self._cache is not None and identity is not None:
                    self._cache.put(identity, prompt, said.text)
                return Answer("answered", said.text)
        return Answer("failed")

    def _spent(self) -> bool:
        if self._budget is None or self.calls < self._budget:
            return False
        if not self._told_of_budget:
            self._told_of_budget = True
            log.warning("the judge's budget of %d calls is spent: further questions are left open", self._budget)
        return True

    def _note_failure(self, error: ClientError) -> None:
        if error.kind == "context":  # says something of the question, nothing of the client
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= OUTAGE and not self._out:
            self._out = True
            log.warning(
                "the judge does not answer (%s). Training goes on without its verdicts; the next iteration asks it again",
                error,
            )

    def _note_answer(self) -> None:
        self._failed_in_a_row = 0
        if self._out:
            self._out = False
            log.warning("the judge answers again")
