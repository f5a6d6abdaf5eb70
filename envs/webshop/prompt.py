"""How a model sees the shop: the role, what can be done, and a short form of the pages for a model that was made for it."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

from envs.prompt import Prompt, Window
from envs.webshop.engine import PER_PAGE

_SEPARATOR = " [SEP] "
_INSTRUCTION = re.compile(r"Instruction:\s*(?:\[SEP\]\s*)?(.*?)\s*(?:\[SEP\]|\n|$)")
_MARKUP = re.compile(r"<[^>]*>")
_PHRASES = ("instruction:", "back to search", "< prev", "next >", "buy now", "your score", "price lower than", "find me")
_WORDS = (
    *("search", "click", "[", "]", ";", ":", "page", "results", "article", "more", "description", "features", "reviews"),
    *("price", "with"),
)


class WebShopPrompt(Prompt):
    """Texts of WebShop. Suggested searches are not listed: whoever can write may search for anything."""

    refusal = "That was none of the possible actions."
    turns_read = 16
    answer_lead = "article: "

    def role(self) -> str:
        """What the agent is, and what it can do."""
        return (
            "You are a customer in an online shop and have to buy what the instruction asks for. You act by search[words], "
            "which works on every page, and by click[button or value]. Choose the options that are asked for before you buy."
        )

    def task(self, observation: str) -> str:
        """The instruction, out of any page but a URL, which does not state it."""
        if observation.startswith("<!DOCTYPE"):
            observation = html.unescape(_MARKUP.sub("\n", observation))
        found = _INSTRUCTION.search(observation)
        return found.group(1) if found else ""

    def window(self, now: Window) -> str:
        """The whole prompt, rebuilt for one step: instruction, last turns, page, what can be done."""
        return self.rebuilt(now, "The instruction", "the page and what you did on it", "the page now: ")

    def listing(self, admissible: Sequence[str] | None) -> str:
        """The possible actions, one a line; all searches as one."""
        if not admissible:
            return ""
        clicks = [action for action in admissible if not action.startswith("search[")]
        searches = ["search[<your words>]"] if len(clicks) < len(admissible) else []
        return "\nPossible actions:\n" + "\n".join(searches + clicks)

    def plain(self, observation: str) -> str:
        """A page of observation=text without what every page repeats: instruction, buttons, ratings. Others as they are."""
        parts = observation.split(_SEPARATOR)
        if parts[0] == "WebShop" and len(parts) > 2:
            return f"instruction: {_apart(parts[2])}"
        if parts[0] != "Instruction:" or len(parts) < 4:
            return observation
        body = parts[3:]
        if body[0].startswith("Page "):
            articles = body[2 if body[1] == "Next >" else 3 :]
            # The place comes last: what a model has read of an article is then where the article is named.
            lines = [f"{_apart(title)} result {place}" for place, title in enumerate(articles[1::3], start=1)]
            return " ".join([f"results {body[0].split()[1]}", *lines])
        if parts[-1] == "Buy Now":
            return "article " + _apart(" ".join(_short(part) for part in body[1:] if part not in _BUTTONS))
        return "more " + _apart(" ".join(body[1:]))

    def plain_actions(self, actions: Sequence[str]) -> Sequence[str]:
        """Articles by their place on the page instead of their number, and no brackets."""
        written = [_apart(action.removesuffix("]").replace("[", " ", 1)) for action in actions]
        if "click[next >]" in actions and "click[buy now]" not in actions:  # a page of results: articles follow the buttons
            first = actions.index("click[next >]") + 1
            written[first:] = [f"click result {place}" for place in range(1, len(actions) - first + 1)]
        return written

    def lexicon(self) -> tuple[Sequence[str], Sequence[str]]:
        """(stock phrases, further words) of the generated shop."""
        from envs.webshop import generator

        language = generator.lexicon(generator.catalogue())
        numbers = [*(str(ten) for ten in range(0, 1010, 10)), *(f"result {place + 1}" for place in range(PER_PAGE))]
        return [*_PHRASES, *(one for one in language if " " in one)], [*language, *_WORDS, *numbers]


def _apart(text: str) -> str:
    """`text` with every number on its own: "almond 2 pack" would read like the second almond."""
    return re.sub(r" (?=\d)", " ; ", text)


def _short(part: str) -> str:
    """A price as the next ten dollars, which is how instructions count; other parts as they are."""
    price = _PRICE.match(part)
    return f"price {math.ceil(float(price.group(1)) / 10) * 10}" if price else part


_BUTTONS = frozenset({"Rating: N.A.", "Description", "Features", "Reviews", "Attributes", "Buy Now"})
_PRICE = re.compile(r"Price: \$(\d+(?:\.\d+)?)")
