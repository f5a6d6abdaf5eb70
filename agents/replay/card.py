"""One step on the page: what was seen, what was done, token by token, and why it got its credit."""

from __future__ import annotations

from agents.replay.branches import in_words
from agents.replay.drawing import anchor, bar, shade
from agents.replay.html import Markup, tag
from agents.replay.view import BESIDE, Episode, Iteration, Known, Row, Scale, Step, Token, logprob, rows, signed

FOLD = (420, 6)
"""An observation of more characters or lines is folded."""
PROSE = 40
"""A response of more tokens is set like text, its numbers shown on demand."""
PLACES = 12
"""Of a row are named."""
ROWS, FOLDED = 8, 24
"""Of a comparison so many rows are in sight, and so many more folded."""


def card(step: Step, iteration: Iteration, scale: Scale, present: set[int]) -> Markup:
    """A list item. `present` are the numbers of the episodes on the page."""
    marks = [tag("span", mark, class_=f"mark {mark.split(':')[0].replace(' ', '-')}") for mark in step.marks]
    marks += [tag("span", f"reward {step.reward:+g}", class_="mark paid")] if step.reward else []
    marks += [tag("span", f"{name} paid {signed(paid)}", class_="mark shaping") for name, paid in step.shaped.items()]
    marks += [tag("span", f"reached: {name}", class_="mark reached") for name in step.reached]
    because = [_parts(step, iteration, scale), _peers(step, iteration, scale, present)]
    return tag(
        "li",
        tag(
            "a",
            tag("b", f"{step.number}"),
            tag("span", signed(step.advantage), title="advantage of this step"),
            href=f"#{anchor(step)}",
            class_="score",
        ),
        tag(
            "div",
            _state(step.frame, step.observation),
            tag("p", tag("code", step.action or "(nothing)"), *marks, class_="action"),
            _tokens(step, scale),
            tag("p", in_words(step.branches), class_="branches") if step.branches else None,
            tag("div", *because, class_="because"),
        ),
        class_=f"step {shade(step.advantage, scale)}",
        id=anchor(step),
    )


def after(episode: Episode) -> Markup | None:
    """What came of the last step."""
    state = _state(episode.final_frame, episode.final_observation or "")
    return tag("section", tag("h4", "what came of it"), state, class_="after") if state else None


def _state(frame: str | None, observation: str) -> Markup | None:
    """The state as it is drawn, if it is, and as the agent reads it."""
    read = _observation(observation) if observation.strip() else None
    return read if frame is None else tag("div", tag("pre", frame, class_="frame"), read, class_="state")


def _observation(text: str) -> Markup:
    text = text.strip()
    lines = text.splitlines()
    if len(text) <= FOLD[0] and len(lines) <= FOLD[1]:
        return tag("pre", text, class_="seen")
    opening = " ".join(text[:240].split())
    return tag(
        "details",
        tag("summary", tag("span", f"{opening} …"), tag("i", f"{len(text)} characters")),
        tag("pre", text, class_="seen"),
        class_="seen",
    )


def _tokens(step: Step, scale: Scale) -> Markup | None:
    if not step.tokens:
        return None
    prose = len(step.tokens) > PROSE
    chips = [_chip(token, step.per_token, prose, scale) for token in step.tokens]
    numbers = ["advantage"] if step.per_token else []
    numbers += ["true advantage"] if any(token.truth for token in step.tokens) else []
    numbers += ["log-probability"] if any(token.logprob is not None for token in step.tokens) else []
    where = " (point at one, or switch them on above)" if prose else ""
    caption = tag("span", f"{len(chips)} tokens: {', '.join(numbers)}{where}", class_="caption")
    return tag("div", *chips, caption, class_="tokens prose" if prose else "tokens")


def _chip(token: Token, per_token: bool, prose: bool, scale: Scale) -> Markup:
    facts = [f"id {token.id}", *(f"{name} {signed(value)}" for name, value in token.credit.items())]
    facts += [] if token.truth is None else [f"true advantage {token.truth}"]
    facts += [] if token.logprob is None else [f"log-probability {token.logprob:.4g}"]
    text = f"#{token.id}" if token.text is None else token.text if prose else token.text.strip(" ")
    return tag(
        "span",
        tag("span", text if text.strip() else text.replace("\n", "⏎") or "␣"),
        tag("i", signed(token.advantage)) if per_token else None,
        None if token.truth is None else tag("i", f"true {signed(token.truth.value)}", class_="true"),
        None if token.logprob is None else tag("i", logprob(token.logprob)),
        class_=f"t {shade(token.advantage, scale)}",
        title=" · ".join(facts),
    )


def _parts(step: Step, iteration: Iteration, scale: Scale) -> Markup:
    mean = " (mean over tokens)" if step.per_token else ""
    lines = [_part(name, value, scale) for name, value in step.parts.items()]
    total = _part("advantage", step.advantage, scale, "total")
    true = None if step.truth is None else _true(step.truth, scale)
    discount = f" (discount {iteration.gamma:g})" if iteration.gamma != 1 else ""
    facts = [] if step.return_to_go is None else [(f"return from here{discount}", f"{step.return_to_go:.3g}")]
    facts += [(words, signed(step.credit[name])) for name, words in BESIDE.items() if name in step.credit]
    facts += [] if step.worth is None else [("true value before", str(step.worth))]
    return tag(
        "section",
        tag("h4", f"credit{mean}"),
        tag("table", *lines, total, true, class_="parts"),
        tag("p", *[tag("span", f"{name} ", tag("b", value)) for name, value in facts], class_="facts"),
    )


def _part(name: str, value: float | None, scale: Scale, kind: str | None = None) -> Markup:
    return tag(
        "tr", tag("th", name, scope="row"), tag("td", bar(value, scale)), tag("td", signed(value), class_="num"), class_=kind
    )


def _true(known: Known, scale: Scale) -> Markup:
    return tag(
        "tr",
        tag("th", "truth", scope="row"),
        tag("td", bar(known.value, scale.of_truth, error=known.error)),
        tag("td", str(known), class_="num"),
        class_="truth",
        title="the true advantage, in units of the environment's reward and with its standard error, on a scale of its own",
    )


def _peers(step: Step, iteration: Iteration, scale: Scale, present: set[int]) -> Markup | None:
    if not step.peers:
        return None
    everything = rows(step)
    found = [row for at, row in enumerate(everything) if at < ROWS + FOLDED or step in row.steps]
    lines = [_peer(row, step, scale, present) for row in found]
    visits = len(step.peers)
    title = f"compared with {visits - 1} other steps" if iteration.compared else f"{visits} visits of the same state"
    head = tag("tr", *(tag("th", name, scope="col") for name in ("action", "return", "advantage", "", "where")))
    more = None
    if len(lines) > ROWS:
        left_out = f" of {len(everything) - ROWS}" if len(found) < len(everything) else ""
        more = tag("details", tag("summary", f"{len(lines) - ROWS}{left_out} more"), tag("table", *lines[ROWS:]))
    return tag("section", tag("h4", title), tag("table", head, *lines[:ROWS]), more, class_="peers")


def _peer(row: Row, step: Step, scale: Scale, present: set[int]) -> Markup:
    # The step that is looked at must not be among those left out.
    steps = sorted(row.steps, key=lambda peer: peer is not step)[:PLACES]
    places = [_place(peer, step, present) for peer in steps]
    places += [tag("span", f"and {len(row.steps) - PLACES} more")] if len(row.steps) > PLACES else []
    return tag(
        "tr",
        tag("td", tag("code", row.action)),
        tag("td", "" if row.return_to_go is None else f"{row.return_to_go:.3g}", class_="num"),
        tag("td", signed(row.advantage), class_="num"),
        tag("td", bar(row.advantage, scale, half=24, height=10)),
        tag("td", *places, class_="places"),
        class_="this" if step in row.steps else None,
    )


def _place(peer: Step, step: Step, present: set[int]) -> Markup:
    name = f"{peer.episode}.{peer.number}"
    if peer is step:
        return tag("b", "this")
    return tag("a", name, href=f"#{anchor(peer)}") if peer.episode in present else tag("span", name)
