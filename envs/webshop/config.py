"""Settings of WebShop: which shop, what a page looks like, what a purchase pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from envs.webshop import observation, reward


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
    observation: observation.Mode = "text"
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
    """Goals in the split, the first ones of it; None: all there are."""
    eval_goals: int | None = None
    test_goals: int | None = None

    def __post_init__(self) -> None:
        for name in ("products", "train_goals", "eval_goals", "test_goals"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1, or null for the default")
        if self.data is not None and self.source != "official":
            raise ValueError(f"data is '{self.data}', but source={self.source} reads no files; set source=official")
