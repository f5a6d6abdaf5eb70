"""WebShop as a text environment: find, configure and buy what an instruction asks for, in a generated or in the official shop.

Which goals there are is said in `tasks`, how a visit goes in `engine`, what a model reads in `prompt`, how an oracle shops in
`oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from envs.base import Split, StepResult, TextEnv
from envs.webshop import observation, oracle, queries, tasks
from envs.webshop.config import WebShopConfig
from envs.webshop.engine import Session, parse
from envs.webshop.shop import Shop, open_shop
from envs.webshop.subgoals import NAMES, Subgoals


class WebShopEnv(TextEnv):
    """One customer in the shop. `score` is the shop's own reward, success a score of 1.0."""

    name: ClassVar[str] = "webshop"

    def __init__(self, config: WebShopConfig | None = None) -> None:
        self.config = config or WebShopConfig()
        super().__init__(self.config.max_steps)
        self._session: Session | None = None
        self._subgoals: Subgoals | None = None

    @property
    def shop(self) -> Shop:
        """Products, goals and search; the same for every environment of the process."""
        return open_shop(self.config)

    @property
    def session(self) -> Session:
        """The visit under way, to be read only."""
        assert self._session is not None
        return self._session

    def tasks(self, split: Split) -> Sequence[str]:
        """Task ids of a split, the same on every machine."""
        return tasks.split_tasks(self.config, split)

    def split_hash(self, split: Split) -> str:
        """16 hex digits that name the split's goals and the shop they are to be met in."""
        return tasks.split_hash(self.config, split)

    def task_type(self, task_id: str) -> str:
        """The department of the goal."""
        return self.shop.goals[tasks.number(self.shop, task_id)].department

    def subgoals(self, task_id: str) -> Sequence[str]:
        """The milestones of a purchase."""
        return NAMES

    def answer(self, task_id: str) -> str:
        """Title of the article that the instruction was written for. Others may score 1.0 too."""
        return self.shop.goals[tasks.number(self.shop, task_id)].title

    def start(self, task_id: str, rng: np.random.Generator) -> StepResult:
        """Enter the shop; nothing in it is random. Raises TaskError."""
        self._session = self._visit(task_id)
        self._subgoals = Subgoals(self._session)
        return self._turn(valid=True)

    def act(self, action: str) -> StepResult:
        """Execute `search[words]` or `click[value]`; what is not possible leaves the page as it is."""
        return self._turn(self.session.act(action).valid)

    def demonstration(self, task_id: str, rng: np.random.Generator) -> list[str]:
        """Actions of a customer who knows the goal; see `oracle`. Raises TaskError."""
        return self.imperfect_demonstration(task_id, rng, detours=0.0, suboptimal=False)

    def imperfect_demonstration(self, task_id: str, rng: np.random.Generator, detours: float, suboptimal: bool) -> list[str]:
        """The same with other searches and articles on the way. Raises TaskError."""
        return oracle.demonstration(self._visit(task_id), rng, detours, suboptimal)

    def _visit(self, task_id: str) -> Session:
        shop, place = self.shop, tasks.number(self.shop, task_id)
        c = self.config
        return Session(shop.products, shop.search, shop.goals[place], str(place), c.reward, c.show_attributes)

    def _turn(self, valid: bool) -> StepResult:
        session, subgoals, c = self.session, self._subgoals, self.config
        assert subgoals is not None
        score = session.bought.total if session.bought else 0.0
        success = score == 1.0
        return StepResult(
            observation=observation.render(session.view, c.observation),
            state_key=session.state_key,
            reward=c.success_reward * (score if c.pays == "score" else float(success)),
            terminated=session.bought is not None,
            valid=valid,
            success=success,
            score=score,
            admissible_actions=_possible(session),
            subgoals=subgoals.update(),
        )


def _possible(session: Session) -> list[str]:
    """What can be clicked, and on the search page the searches that suggest themselves; others are possible too.

    A value with brackets or a line break is shown and listed as clickable, officially too, but no action names it.
    """
    clicks = [f"click[{text}]" for text in session.clickables if text != "search" and parse(f"click[{text}]")[1] == text]
    if session.page != "search":
        return clicks
    return [f"search[{query}]" for query in queries.suggestions(session.goal.instruction)] + clicks
