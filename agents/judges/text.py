"""A judge that reads: a language model is asked about each step that changed anything, and its answers become verdicts.

What is asked stands in `question`, how it is asked in `asking`, who answers in `endpoint` and `local`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agents.judges.asking import RetryingClient
from agents.judges.client import Draw
from agents.judges.critique import critique, wrong_steps
from agents.judges.factors import write
from agents.judges.proposal import Proposals, key, named, proposal
from agents.judges.question import question, verdict
from agents.judges.transitions import transitions
from envs.prompt import Prompt
from envs.trajectory import Trajectory


class TextJudge:
    """Judges by asking. Each step is judged by itself, whatever was said of others; equal questions are asked once.

    Holds state: the calls of the run.
    """

    def __init__(
        self,
        client: RetryingClient,
        prompt: Prompt,
        subgoals: Callable[[str], Sequence[str]] | Proposals,
        window: int = 1,
        actions: bool = True,
        temperature: float = 1.0,
    ) -> None:
        """subgoals: from a task's id to the names of its subgoals, or a file of proposed ones. temperature: of answers that are
        sampled."""
        self._client, self._prompt, self._subgoals = client, prompt, subgoals
        self._window, self._actions, self._temperature = window, actions, temperature
        self.metrics: dict[str, float] = {}
        self.seconds: list[float] = []
        """Of each call of the last `judge` that was answered."""

    async def judge(self, trajectories: Sequence[Trajectory]) -> list[list[tuple[str, ...]]]:
        started = time.perf_counter()
        tasks = [self._prompt.task(t.steps[0].observation) if t.steps else "" for t in trajectories]
        names = await self._names(trajectories, tasks)
        asked: list[tuple[int, int, int, str]] = []
        for episode, trajectory in enumerate(trajectories):
            for step, transition in transitions(trajectory, self._window) if names[episode] else ():
                legend = self._prompt.legend(transition.after)
                text = question(transition, tasks[episode], names[episode], legend, self._actions)
                asked.append((episode, step, len(transition.moves), text))
        answers = await self._client.ask(text for *_, text in asked)
        verdicts: list[list[tuple[str, ...]]] = [[()] * len(trajectory.steps) for trajectory in trajectories]
        fates = Counter({"judged": 0, "broken": 0, "failed": 0, "open": 0})
        for episode, step, moves, text in asked:
            answer = answers[text]
            if answer.text is None:
                fates[answer.fate] += 1
                continue
            said = verdict(answer.text, names[episode], moves)
            fates["broken" if said is None else "judged"] += 1
            verdicts[episode][step] = said or ()
        self._measure(
            trajectories,
            fates,
            started,
            achieved=float(sum(len(names) for episode in verdicts for names in episode)),
            questions=float(len(answers)),
            without_subgoals=float(sum(not found for found in names)),
        )
        return verdicts

    async def critiques(self, trajectories: Sequence[Trajectory], count: int) -> list[list[tuple[int, ...] | None]]:
        started = time.perf_counter()
        texts = [
            critique(one, self._prompt.task(one.steps[0].observation), self._prompt.legend(one.steps[0].observation))
            for one in trajectories
            if one.steps
        ]
        said: list[list[tuple[int, ...] | None]] = [[] for _ in trajectories]
        fates = Counter({"judged": 0, "broken": 0, "failed": 0, "open": 0})
        for number in range(count):
            answers = await self._client.ask(texts, Draw(number, self._temperature))
            left = iter(texts)
            for one, critiques in zip(trajectories, said, strict=True):
                answer = answers[next(left)] if one.steps else None
                wrong = wrong_steps(answer.text, len(one.steps)) if answer and answer.text is not None else None
                if answer is not None and answer.text is None:
                    fates[answer.fate] += 1
                elif answer is not None:
                    fates["broken" if wrong is None else "judged"] += 1
                critiques.append(wrong)
        self._measure(trajectories, fates, started, questions=float(len(set(texts)) * count))
        return said

    async def factors(
        self, trajectories: Sequence[Trajectory], fault: Callable[[str], str | None], proposals: int, repairs: int
    ) -> list[str]:
        started = time.perf_counter()
        one = next((one for one in trajectories if one.steps), None)
        if one is None:
            return []
        first, known = one.steps[0].observation, self._subgoals
        subgoals = () if isinstance(known, Proposals) else tuple(known(one.task_id))
        arguments = self._prompt.task(first), first, subgoals, fault, proposals, repairs, self._temperature
        found = await write(self._client, *arguments)
        self._measure(trajectories, Counter(), started, written=float(len(found)))
        return found

    def _measure(self, trajectories: Sequence[Trajectory], fates: Counter[str], started: float, **more: float) -> None:
        """What the call that began at `started` cost, and what became of its questions."""
        self.metrics = {
            "steps": float(sum(len(trajectory.steps) for trajectory in trajectories)),
            **{fate: float(count) for fate, count in fates.items()},
            **more,
            **self._client.take(),
            "seconds": time.perf_counter() - started,
        }
        self.seconds, self._client.seconds = self._client.seconds, []

    async def _names(self, trajectories: Sequence[Trajectory], tasks: Sequence[str]) -> list[tuple[str, ...]]:
        """The subgoals of each episode's task; () where there are none, or where a proposal has failed for now."""
        known = self._subgoals
        if not isinstance(known, Proposals):
            return [tuple(known(trajectory.task_id)) for trajectory in trajectories]
        questions: dict[str, str] = {}
        for task, trajectory in zip(tasks, trajectories):
            if trajectory.steps and key(task) not in questions and known.get(task) is None:
                first = trajectory.steps[0].observation
                questions[key(task)] = proposal(key(task), first, self._prompt.legend(first))
        answers = await self._client.ask(questions.values())
        for task, text in questions.items():
            found = named(answers[text].text or "")
            if found:
                known.add(task, found)
        return [known.get(task) or () for task in tasks]

    def state(self) -> dict[str, Any]:
        return {"calls": self._client.calls}

    def load_state(self, state: dict[str, Any]) -> None:
        self._client.calls = int(state.get("calls", 0))

    async def close(self) -> None:
        await self._client.close()
