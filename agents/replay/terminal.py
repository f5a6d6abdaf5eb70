"""An episode and its credit in the terminal, for 80 columns; on a terminal without colors the numbers say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agents.replay.branches import in_words
from agents.replay.scale import DARK, level
from agents.replay.view import BESIDE, Episode, Iteration, Scale, Step, logprob, named, rows, scale_of, signed, spanned
from algorithms.segments import Credit

LINES = 6
"""Of an observation, unless it is the first one."""
TOKENS = 60
"""Of a response are shown with their numbers."""
ROWS = 8
"""Of a comparison, the step's own apart."""
MARK = {"won": "+", "lost": "-", "fault": "!"}
BARS = "▁▂▃▄▅▆▇█"
WIDEST = 110
"""Columns that are used of a wider terminal."""


def show(iteration: Iteration, episode: Episode, why: str, console: Console) -> None:
    """Print the iteration's groups, the episode's group, and the episode step by step."""
    console.width = min(console.width, WIDEST)
    scale = scale_of(iteration.group_of(episode).episodes)
    title = f"{iteration.run}, iteration {iteration.number}: {iteration.method} on {iteration.environment}"
    console.print(Text(title, "bold"))
    for note in iteration.notes:
        console.print(Text(f"note: {note}", "yellow"))
    console.print(listing(iteration, episode))
    _segments(["segments, averaged", "episodes", "steps"], iteration.averages, scale, console)
    console.print(_members(iteration, episode, scale))
    console.print()
    console.print(Rule(Text(f"episode {episode.number}: {_outcome(episode)}", "bold"), align="left", characters="-"))
    console.print(Text(f"shown because: {why}", "dim"))
    console.print(Text(f"task: {iteration.group_of(episode).task}"))
    if episode.left_out is not None:
        console.print(Text(episode.left_out, "yellow"))
    found = [(segment.name, [spanned(segment)], credit) for segment, credit in episode.segments]
    _segments(["segments", "steps"], found, scale, console)
    drawn: str | None = None
    for step in episode.steps:
        _step(step, iteration, scale, console, step.frame != drawn)
        drawn = step.frame
    came = [Text((episode.final_observation or "").strip(), "dim")]
    came += [_drawing(episode.final_frame)] if episode.final_frame and episode.final_frame != drawn else []
    if any(came):
        console.print(Text("\nwhat came of it", "bold"))
        _indented(came, console)


def listing(iteration: Iteration, episode: Episode) -> Table:
    """All groups: which episodes, how they ended, the task."""
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=True)
    table.add_column("episodes", no_wrap=True)
    table.add_column("won (+)", no_wrap=True)
    table.add_column("task", ratio=1, no_wrap=True, overflow="ellipsis")
    for group in iteration.groups:
        numbers = [one.number for one in group.episodes]
        ends = "".join(MARK[one.outcome] for one in group.episodes)
        style = "bold" if episode in group.episodes else ""
        about = f"({group.left_out}) {group.task}" if group.left_out else group.task
        table.add_row(Text(f"{numbers[0]}-{numbers[-1]}"), Text(ends), Text(_line(about)), style=style)
    return table


def _segments(
    names: Sequence[str], found: Sequence[tuple[str | None, Sequence[str], Credit]], scale: Scale, console: Console
) -> None:
    """Print a row a segment, if there is one: its name, what is said of it in the columns `names`, what its steps got."""
    shaped = any(credit.shaped for _, _, credit in found)
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=True)
    table.add_column(names[0], ratio=1, no_wrap=True, overflow="ellipsis")
    for name in (*names[1:], "mean adv.", "reward"):
        table.add_column(name, justify="right", no_wrap=True)
    if shaped:
        table.add_column("shaped rewards", overflow="fold")
    for segment, words, credit in found:
        paid = ", ".join(f"{source} {signed(value)}" for source, value in credit.shaped.items())
        table.add_row(
            Text(_line(named(segment)), "dim" if segment is None else ""),
            *words,
            Text(signed(credit.advantage), DARK.foreground(level(credit.advantage, scale.color))),
            f"{credit.reward:.3g}",
            *([Text(paid or "0")] if shaped else []),
        )
    if found:
        console.print(table)


def _members(iteration: Iteration, episode: Episode, scale: Scale) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("episode", "outcome", "return", "steps", "mean adv."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("advantage of each step", no_wrap=True, overflow="ellipsis")
    for one in iteration.group_of(episode).episodes:
        table.add_row(
            f"{'>' if one is episode else ' '}{one.number}",
            one.ending,
            f"{one.reward:g}",
            str(len(one.steps)),
            signed(one.mean_advantage),
            strip(one.steps, scale),
        )
    return table


def strip(steps: Sequence[Step], scale: Scale) -> Text:
    """A bar a step, from the lowest (-scale) to the highest (+scale)."""
    bars = Text()
    for step in steps:
        value = step.advantage
        place = round(((value or 0.0) / scale.length + 1) / 2 * (len(BARS) - 1))
        bars.append(BARS[place] if value is not None else "·", DARK.foreground(level(value, scale.color)))
    return bars


def _step(step: Step, iteration: Iteration, scale: Scale, console: Console, redraw: bool) -> None:
    console.print()
    head = Text(f"{step.number:>3}  ", "bold")
    head.append(f" {signed(step.advantage)} ", DARK.style(level(step.advantage, scale.color)))
    head.append(f"  {_line(step.action)}", "bold")
    for mark in step.marks:
        head.append(f"  [{mark}]", "yellow" if mark == "invalid" else "")
    console.print(head)
    body: list[Text | Table] = [_observation(step)]
    if step.frame is not None and redraw:
        body.append(_drawing(step.frame))
    if step.tokens:
        body.append(_tokens(step, scale))
    body.append(Text("  ".join(_facts(step))))
    if step.branches:
        body.append(Text(in_words(step.branches)))
    if step.peers:
        body.append(_peers(step, iteration, scale))
    _indented(body, console)


def _indented(parts: Iterable[Text | Table], console: Console) -> None:
    for part in parts:
        console.print(Padding(part, (0, 0, 0, 5), expand=False))


def _drawing(frame: str) -> Text:
    """A line of a drawing stays a line; what is wider than the terminal is cut."""
    return Text(frame, no_wrap=True, overflow="ellipsis")


def _observation(step: Step) -> Text:
    lines = step.observation.strip().splitlines()
    shown = lines if step.number == 1 else lines[:LINES]
    more = f"\n... {len(lines) - len(shown)} more lines" if len(lines) > len(shown) else ""
    return Text("\n".join(shown) + more, "dim")


def _tokens(step: Step, scale: Scale) -> Text:
    """Where all tokens have the step's credit, their numbers say how probable they were; else each one's advantage."""
    line = Text("tokens: ")
    for token in step.tokens[:TOKENS]:
        word = f"#{token.id}" if token.text is None else token.text.strip() or repr(token.text)
        line.append(f" {word} ", DARK.style(level(token.advantage, scale.color)))
        numbers = [signed(token.advantage)] if step.per_token else []
        numbers += [] if token.logprob is None else [logprob(token.logprob)]
        line.append("\u00a0" + "\u00a0".join(numbers) + "  ", "dim")
    if len(step.tokens) > TOKENS:
        line.append(f"... {len(step.tokens) - TOKENS} more")
    line.append(f"({'advantage, ' if step.per_token else ''}log-probability)", "dim")
    return line


def _facts(step: Step) -> list[str]:
    facts = ["credit: " + " | ".join(f"{name} {signed(value)}" for name, value in step.parts.items())] if step.parts else []
    facts += [] if step.return_to_go is None else [f"return from here {step.return_to_go:.3g}"]
    facts += [f"{words} {signed(step.credit[name])}" for name, words in BESIDE.items() if name in step.credit]
    facts += [f"true advantage {step.truth}"] if step.truth else []
    facts += [f"true value before {step.worth}"] if step.worth else []
    facts += [f"reward {step.reward:+g}"] if step.reward else []
    facts += [f"{name} paid {signed(value)}" for name, value in step.shaped.items()]
    return facts + [f"reached: {name}" for name in step.reached]


def _peers(step: Step, iteration: Iteration, scale: Scale) -> Table:
    title = "compared with" if iteration.compared else "same state at"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column(title, overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("action", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("return", justify="right", no_wrap=True)
    table.add_column("adv.", justify="right", no_wrap=True)
    everything = rows(step)
    found = [row for at, row in enumerate(everything) if at < ROWS or step in row.steps]
    for row in found:
        places = ", ".join(f"{peer.episode}.{peer.number}" for peer in row.steps[:4])
        places += f" +{len(row.steps) - 4}" if len(row.steps) > 4 else ""
        table.add_row(
            Text(places),
            Text(_line(row.action)),
            "" if row.return_to_go is None else f"{row.return_to_go:.3g}",
            Text(signed(row.advantage), DARK.foreground(level(row.advantage, scale.color))),
            style="bold" if step in row.steps else "",
        )
    if len(found) < len(everything):
        table.add_row(Text(f"+{len(everything) - len(found)} more", "dim"))
    return table


def _outcome(episode: Episode) -> str:
    mean = signed(episode.mean_advantage)
    return f"{episode.ending}, return {episode.reward:g}, {len(episode.steps)} steps, mean advantage {mean}"


def _line(text: str) -> str:
    return " ".join(text.split())
