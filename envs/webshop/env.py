"""WebShop as a text environment: find, configure and buy what an instruction asks for, in a generated or in the official shop.

Which goals there are is said in `tasks`, how a visit goes in `engine`, what a model reads in `prompt`, how an oracle shops in
`oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from envs.base import Split, TextEnv, Turn
from envs.webshop import oracle, pages, queries, reward, tasks
from envs.webshop.engine import Session, parse
from envs.webshop.shop import Shop, open_shop
from envs.webshop.subgoals import NAMES, Subgoals


@dataclass
class WebShopConfig:
    """Settings of the environment. Raises ValueError for numbers that cannot be."""

    source: Literal["generated", "official"] = "generated"
    """Where products and goals come from: drawn from a seed (no data needed), or the files of WebShop."""
    data: str | None = None
    """Folder of the official files, or a store made of them; None: the environment variable WEBSHOP_DATA."""
    products: int | None = None
    """Products in the shop; None: the default number (generated) or all there are (official)."""
    goals: Literal["synthetic", "human"] = "synthetic"
    """Whose words the instructions are: put together by rule, or a person's (generated: in the manner of one)."""
    observation: pages.Mode = "text"
    """Form of the pages: text, text_rich (buttons marked), html, or url (which never states the instruction)."""
    reward: reward.Mode = "official"
    """official: some goals with options cannot score 1.0, as in the original; fixed: they can."""
    pays: Literal["success", "score"] = "success"
    """What the purchase pays: `success_reward` if it scores 1.0 and nothing else (GiGPO), or that times the score."""
    success_reward: float = 10.0
    """Reward of a purchase that scores 1.0; every other step has 0."""
    show_attributes: bool = False
    """Offer a page with the article's attributes, which the reward knows and the other pages do not always say."""
    max_steps: int = 15
    train_goals: int | None = None
    """Goals in the panel, the first ones of it; None: all there are."""
    eval_goals: int | None = None
    test_goals: int | None = None

    def __post_init__(self) -> None:
        for name in ("products", "train_goals", "eval_goals", "test_goals"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1, or null for the default")
        if self.data is not None and self.source != "official":
            raise ValueError(f"data is '{self.data}', but source={self.source} reads no files; set source=official")


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
        """Task ids of a panel, the same on every machine."""
        return tasks.panel(self.config, split)

    def panel_hash(self, split: Split) -> str:
        """16 hex digits that name the panel's goals and the shop they are to be met in."""
        return tasks.panel_hash(self.config, split)

    def task_type(self, task_id: str) -> str:
        """The department of the goal."""
        return self.shop.goals[tasks.number(self.shop, task_id)].department

    def subgoals(self, task_id: str) -> Sequence[str]:
        """The milestones of a purchase."""
        return NAMES

    def start(self, task_id: str, rng: np.random.Generator) -> Turn:
        """Enter the shop; nothing in it is random. Raises TaskError."""
        self._session = self._visit(task_id)
        self._subgoals = Subgoals(self._session)
        return self._turn(valid=True)

    def act(self, action: str) -> Turn:
        """Execute `search[words]` or `click[value]`; what is not possible leaves the page as it is."""
        return self._turn(self.session.act(action).valid)

    def demonstration(self, task_id: str, rng: np.random.Generator, detours: float, dawdling: bool) -> list[str]:
        """Actions of a customer who knows the goal; see `oracle`. Raises TaskError."""
        return oracle.demonstration(self._visit(task_id), rng, detours, dawdling)

    def _visit(self, task_id: str) -> Session:
        shop, place = self.shop, tasks.number(self.shop, task_id)
        c = self.config
        return Session(shop.products, shop.search, shop.goals[place], str(place), c.reward, c.show_attributes)

    def _turn(self, valid: bool) -> Turn:
        session, subgoals, c = self.session, self._subgoals, self.config
        assert subgoals is not None
        score = session.bought.total if session.bought else 0.0
        success = score == 1.0
        return Turn(
            observation=pages.render(session, c.observation),
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
