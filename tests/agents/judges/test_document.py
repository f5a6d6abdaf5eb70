"""The judge of docs/judges.md, behind its server, says of an oracle's episodes what the page says of it."""

from __future__ import annotations

import asyncio
import re
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepcredit
from agents.judges.endpoint import Endpoint
from agents.judges.question import question, verdict
from agents.judges.transitions import transitions
from envs.alfworld.prompt import ALFWorldPrompt

pytest.importorskip("httpx2")
DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "judges.md").read_text(encoding="utf-8")


def test_the_judge_of_the_page_misses_what_it_does_not_know_and_is_right_otherwise(tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, Any] = {"__name__": "keywords"}
    exec(compile(source, "docs/judges.md", "exec"), names)
    env = stepcredit.RecordTrajectories(stepcredit.make("alfworld"), tmp_path / "episodes.jsonl")
    base: Any = env.unwrapped
    for task in base.tasks("train")[:24]:
        env.reset(seed=0, options={"task": task})
        for action in base.demonstration(task, np.random.default_rng(0)):
            env.step(action)
    env.close()

    async def judged() -> list[tuple[set[str], set[str]]]:
        client = Endpoint("keywords", f"http://127.0.0.1:{server.server_port}/v1", None, 160, 10.0)
        found = []
        for one in stepcredit.read_trajectories(tmp_path / "episodes.jsonl"):
            subgoals, before = base.subgoals(one.task_id), set()
            task = ALFWorldPrompt().task(one.steps[0].observation)
            for step, transition in transitions(one, 1):
                reply = await client.ask(question(transition, task, subgoals))
                said = verdict(reply.text, subgoals, 1)
                assert said is not None, reply.text
                true = set(one.steps[step].subgoals) - before
                before |= true
                found.append((set(said), true))
        await client.close()
        return found

    with ThreadingHTTPServer(("127.0.0.1", 0), names["Handler"]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = asyncio.run(judged())
        server.shutdown()
    known = set(names["SAYS"])
    assert known <= {name for _, true in found for name in true}
    assert all(said == true & known for said, true in found)
