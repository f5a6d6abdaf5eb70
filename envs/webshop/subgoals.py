"""Milestones of a purchase, by rules on the session: what shaping and reports call progress. They never change a reward.

They are monotone: what was once reached stays reached. The last one is the purchase that scores 1, and it brings all others, so
that all are reached in exactly the episodes that succeed.
"""

from __future__ import annotations

from envs.webshop.engine import Session
from envs.webshop.reward import kind, reward

NAMES = ("search", "kind in results", "kind opened", "attributes", "price", "options", "buy")


class Subgoals:
    """The milestones of one episode; make a new one at a reset."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reached = dict.fromkeys(NAMES, False)

    def update(self) -> tuple[str, ...]:
        """Names of the milestones reached so far, in their order; to be called after the reset and after every step."""
        session, reached = self._session, self._reached
        reached["search"] |= session.page != "search"
        if session.page == "results" and not reached["kind in results"]:
            reached["kind in results"] = any(
                kind(product, session.nouns_of_goal, session.goal)["r_type"] == 1 for product in session.shown
            )
        if session.page == "item" and session.product is not None:
            parts = reward(session.product, session.nouns_of_goal, session.goal, session.options, session.mode).parts
            if parts["r_type"] == 1:
                reached["kind opened"] = True
                reached["attributes"] |= parts["r_att"] == 1
                reached["price"] |= parts["r_price"]
                reached["options"] |= parts.get("r_option", 1) == 1
        if session.bought is not None and session.bought.total == 1:
            reached.update(dict.fromkeys(NAMES, True))
        return tuple(name for name, done in reached.items() if done)
