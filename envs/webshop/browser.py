"""The shop for a person with a browser: a page as an agent reads it, and beside it all that the agent and its trainer are told.

Serving is left to `serve.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, get_args

from envs.base import StepResult
from envs.webshop import html, observation
from envs.webshop.config import WebShopConfig
from envs.webshop.engine import Session
from envs.webshop.products import NO_PRICE_LIMIT
from envs.webshop.subgoals import NAMES

_SCORE = {
    "r_type": "how far it is the kind of thing asked for; multiplies the sum of what is weighed",
    "query_match": "found under the goal's search phrase",
    "category_match": "shares two levels of the goal's category",
    "title_score": "share of the nouns in the goal's title",
    "r_att": "share of the attributes asked for",
    "w_att": "what the attributes weigh",
    "r_option": "share of the options asked for",
    "w_option": "what the options weigh",
    "r_price": "within the price",
    "w_price": "what the price weighs",
}


def start_page(facts: str, splits: Mapping[str, int], task: str = "", error: str = "") -> str:
    """Where a visitor chooses a goal: a random one of a split (name -> number of goals), or `task`, which is filled in."""
    random = "".join(
        f'<button class="btn" name="split" value="{split}">{split} <small>{count:,} goals</small></button>\n'
        for split, count in splits.items()
    )
    return _document(
        "WebShop",
        f"""<main class="start">
<h1>WebShop</h1>
<p>{escape(facts)}</p>
{_alert(error)}<p>You get an instruction, as an agent would, and buy what it asks for. Beside each page stands what an agent is
told of it; after the purchase you see its score.</p>
<h2>A random goal of a split</h2>
<form method="post">{random}</form>
<h2>A certain goal</h2>
<form method="post"><input name="task" value="{escape(task)}" aria-label="goal" placeholder="goal/000042 or 42" required>
<button class="btn">Shop</button></form>
</main>""",
    )


def visit_page(session: Session, turn: StepResult, task: str, steps: int, config: WebShopConfig, alert: str = "") -> str:
    """The page that a visit is on, with what the agent and its trainer are told of it."""
    return _document(
        f"WebShop, {task}",
        f"""<header><b>WebShop</b> <span>{escape(task)}</span> <span>step {steps} (an agent has {config.max_steps})</span>
<a href="/">Another goal</a></header>
<div class="columns">
<main class="{session.page}">
{_alert(alert)}{"".join(html.body(session.view))}</main>
<aside>
{_outcome(session, turn, task) if session.bought else ""}<h2>What the agent sees</h2>
{"".join(_observations(session, config.observation))}{_actions(turn.admissible_actions or [], session.bought is not None)}
<h2>What its trainer sees</h2>
{_table(("state_key", turn.state_key), ("reward", turn.reward), ("valid", turn.valid))}
<details><summary>Subgoals (they tell something of the goal)</summary>
{_table(*((name, "reached" if name in turn.subgoals else "") for name in NAMES))}</details>
</aside>
</div>""",
    )


def _document(title: str, body: str) -> str:
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    head += f'<title>{escape(title)}</title>\n<link rel="stylesheet" href="/style.css">'
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _alert(text: str) -> str:
    return f'<p role="alert">{escape(text)}</p>\n' if text else ""


def _observations(session: Session, opened: observation.Mode) -> Iterator[str]:
    for mode in get_args(observation.Mode):
        opens = " open" if mode == opened else ""
        text = escape(observation.render(session.view, mode))
        yield f"<details{opens}><summary>observation={mode}</summary><pre>{text}</pre></details>\n"


def _actions(actions: Iterable[str], over: bool) -> str:
    if over:
        return "<p>The episode is over.</p>"
    buttons = "".join(f'<button name="action" value="{escape(one)}">{escape(one)}</button>\n' for one in actions)
    return f"""<h3>Actions</h3>
<form method="post"><input name="action" aria-label="action" placeholder="search[words] or click[text]" required>
<button class="btn">Act</button></form>
<form method="post" class="actions">{buttons}</form>"""


def _outcome(session: Session, turn: StepResult, task: str) -> str:
    assert session.bought is not None
    parts = [(name, value, _SCORE[name]) for name, value in session.bought.parts.items()]
    return f"""<h2>Score {session.bought.total:.3f} of 1.0</h2>
<p>{"A success" if turn.success else "No success"}; an agent's reward is {turn.reward:g}.</p>
{_table(*parts)}
<details><summary>What was asked for</summary>
{_table(*_goal(session).items())}</details>
<form method="post" action="/"><button class="btn" name="task" value="{escape(task)}">The same goal again</button></form>
"""


def _goal(session: Session) -> dict[str, Any]:
    goal = session.goal
    place = session.catalogue.index(goal.asin)
    assert place is not None  # a session refuses a goal without its article
    bound = "any" if goal.price_upper == NO_PRICE_LIMIT else f"at most ${goal.price_upper:.2f}"
    options = json.dumps(goal.options, ensure_ascii=False) if goal.options else "none"
    asked = {"attributes": ", ".join(goal.attributes), "options": options, "price": bound, "search phrase": goal.query}
    product = session.catalogue[place]
    own = {"an article that meets it": goal.asin, "title": product.title, "sold for": f"${product.price:.2f}"}
    return {**asked, "category": goal.category, **own, "its attributes": ", ".join(product.attributes)}


def _table(*rows: Sequence[Any]) -> str:
    """The first cell of a row names it."""
    lines = ""
    for name, *values in rows:
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)
        lines += f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>\n"
    return f"<table>{lines}</table>"


STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --line: #8885; --soft: #8881; --accent: #1f5fc4;
  --link: light-dark(#1f5fc4, #8ab4ff); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 0 1rem 3rem; }
header { display: flex; flex-wrap: wrap; gap: 0.25rem 1.5rem; padding: 0.75rem 0; border-bottom: 1px solid var(--line); }
header span { opacity: 0.75; }
header a { margin-left: auto; }
.columns { display: grid; gap: 2rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 60rem) { .columns { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); } }
main { display: flex; flex-direction: column; gap: 0.75rem; padding-top: 1rem; overflow-wrap: anywhere; }
main.start { max-width: 44rem; margin: 0 auto; }
main section { order: 1; }
main article ~ nav { order: 2; }
h1, h2, h3, h4, p { margin: 0; line-height: 1.3; }
p { line-height: 1.5; }
form, nav { display: flex; flex-wrap: wrap; gap: 0.5rem; }
nav form { flex: 1; }
form:empty { display: none; }
#instruction-text { background: var(--soft); border-left: 0.25rem solid var(--accent); padding: 0.5rem 1rem; }
#instruction-text h4 { font-weight: normal; }
.sub_page > p { white-space: pre-line; }
ul { margin: 0; padding-left: 1.25rem; }
.done { gap: 0.25rem; }
.done > p { font-size: 0.8rem; line-height: 1.3; opacity: 0.75; }
article { position: relative; }
main.results article { border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.75rem 1rem; }
main.results article:hover { background: var(--soft); }
main.results article h2 { font-size: 1rem; font-weight: normal; }
.product-link { font: 0.85rem ui-monospace, monospace; cursor: pointer; }
a { color: var(--link); }
.product-link::after { content: ""; position: absolute; inset: 0; }
.price { font-weight: bold; }
.rating, small { opacity: 0.75; }
section { display: flex; flex-wrap: wrap; align-items: center; gap: 0.4rem; }
section h4 { width: 100%; text-transform: capitalize; font-size: 0.9rem; margin-top: 0.25rem; }
input, button, label { font: inherit; }
input[type=radio], #product-image { display: none; }
input[type=submit] { position: absolute; opacity: 0; pointer-events: none; }
.btn, section label, input { border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.35rem 0.9rem; color: inherit; }
.btn, section label { background: var(--soft); cursor: pointer; }
.btn:hover, section label:hover { border-color: var(--accent); }
:checked + input + label, .item article ~ nav .btn:last-child { background: var(--accent); color: white; }
input:focus-visible + label { outline: 2px solid var(--link); outline-offset: 2px; }
input:not([type]), #search_input { flex: 1; min-width: 12rem; background: transparent; }
aside { display: flex; flex-direction: column; gap: 0.75rem; padding-top: 1rem; font-size: 0.875rem; min-width: 0; }
aside h2 { font-size: 1.1rem; }
aside h3 { font-size: 0.875rem; }
aside * + h2 { margin-top: 1rem; }
summary { cursor: pointer; }
pre { margin: 0.25rem 0 0; padding: 0.75rem; background: var(--soft); border-radius: 0.5rem; max-height: 24rem; overflow: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 0.8rem/1.5 ui-monospace, monospace; }
.actions { gap: 0.3rem; }
.actions button { background: none; border: 1px solid var(--line); border-radius: 0.3rem; padding: 0.1rem 0.4rem;
  font: 0.8rem/1.5 ui-monospace, monospace; text-align: left; cursor: pointer; color: inherit; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: normal; width: 8rem; }
td:last-child { overflow-wrap: anywhere; }
[role=alert] { border: 1px solid #c60; border-radius: 0.5rem; padding: 0.5rem 1rem; }
"""
"""What a person's pages look like; agents are not told."""
