"""Shows the results of an audit as tables, from the same plain values that its JSON file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from envs.common.text import printable

CORRELATIONS = {"all": "correlation", "within": "within", "gradient": "cosine"}
"""Columns that have a value as it was measured and one freed of the truth's error."""
OTHERS = {"sign": "sign_corrected", "wasted": "wasted", "silent": "silent", "common": "common", "slope": "slope"}
AGAIN = ("bias", "deviation")
EXPLAINED = (
    "all, within: correlation with the true advantage over all decisions, and within episodes; gradient: cosine with the true "
    "policy gradient. The first line of a method is freed of the truth's error, with its 95% interval; the second one is as "
    "measured."
)
EXPLAINED_TOO = (
    "sign: share of the decisive advantage whose sign is right; wasted: share of the credit on decisions that are not "
    "decisive; silent: share of decisive decisions without credit; common: share of the credit's variance that an episode's "
    "decisions have in common; slope: true advantage per credit; bias, deviation: what is wrong on average, and by chance, "
    "relative to the true advantage; tokens: computed by models for this credit, per sampled token."
)


def show(results: Mapping[str, Any], console: Console) -> None:
    """Truth, correlations, and the rest, a table each."""
    for line in about(results):
        console.print(printable(line), markup=False, highlight=False)
    for level in ("steps", "tokens"):
        rows = {method["name"]: method for method in results["methods"] if method[level] is not None}
        if rows:
            console.print()
            console.print(_correlations(level, rows))
    console.print(Text(EXPLAINED, "dim"))
    console.print()
    console.print(_others(results))
    console.print(Text(EXPLAINED_TOO, "dim"))


def about(results: Mapping[str, Any]) -> list[str]:
    """What was audited, in lines."""
    truth, steps = results["truth"], results["truth"]["steps"]
    left_out = f", {results['left_out']} left out" if results["left_out"] else ""
    lines = [
        f"{results['policy']} on {results['environment']}, split {results['split']}: {results['episodes']} episodes in groups "
        f"of {results['group_size']}{left_out}, success {results['success']:.3f}",
        f"{steps['decisions']:.0f} steps, {truth['states']} different states, {truth['continuations']} continuations "
        f"({truth['fewest']} to {truth['most']} a state)",
        f"true advantage: root mean square {number(steps['size'])}, its standard error {number(steps['error'])}; reliability "
        f"{number(steps['reliability'])} over all steps, {number(steps['reliability_within'])} within episodes",
    ]
    decisive = {method["steps"]["decisive"] for method in results["methods"]}
    if decisive:
        most = max(decisive)
        wasted = number(1 - most / steps["decisions"])
        lines.append(f"decisive (two standard errors from 0): {most} steps; equal credit for all would waste {wasted}")
    if steps["unknown"]:
        lines.append(f"of {steps['unknown']:.0f} steps the truth is not known: faults cut their continuations off")
    costs = results["costs"]
    if rounds := [one for one in costs.values() if "continuations" in one]:
        lines.append(f"cost of the truth: {_spent(rounds)}")
    if (branches := costs.get("branches")) is not None:
        lines.append(f"cost of the methods' branches: {branches['branches']:.0f} episodes, {_spent([branches])}")
    return lines


def _spent(stages: Sequence[Mapping[str, float]]) -> str:
    """What some stages of continuations took."""
    took = {name: sum(one.get(name, 0.0) for one in stages) for name in ("steps", "replayed", "tokens", "sampled", "seconds")}
    return (
        f"{took['steps']:.0f} steps ({took['replayed']:.0f} replayed), {took['sampled']:.0f} tokens sampled, "
        f"{took['tokens']:.0f} computed, {took['seconds']:.0f} s"
    )


def _correlations(level: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    title = {"steps": "credit of steps", "tokens": "credit of choices within steps"}[level]
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("method", overflow="fold")
    names = {k: v for k, v in CORRELATIONS.items() if level == "steps" or k != "gradient"}
    for column in names:
        table.add_column(column, justify="right", no_wrap=True)
    for name, method in rows.items():
        numbers = {**method[level]["numbers"], **(method["cosine"] or {})} if level == "steps" else method[level]["numbers"]
        table.add_row(Text(printable(name), "bold"), *(interval(numbers.get(f"{key}_corrected")) for key in names.values()))
        table.add_row("", *(Text(number((numbers.get(key) or {}).get("value")), "dim") for key in names.values()))
        for part, measured in (method["parts"] if level == "steps" else {}).items():
            shown = [f"{key}_corrected" for key in names.values()]
            cells = [interval(measured["numbers"].get(key)) for key in shown]
            table.add_row(Text(f"  {printable(part)} alone"), *cells, style="dim")
    return table


def _others(results: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("method", overflow="fold")
    for column in (*OTHERS, *AGAIN, "tokens"):
        table.add_column(column, justify="right", no_wrap=True)
    for method in results["methods"]:
        numbers, again = method["steps"]["numbers"], method["again"] or {}
        table.add_row(
            Text(printable(method["name"]), "bold"),
            *(number(numbers[name]["value"]) for name in OTHERS.values()),
            *(number((again.get(name) or {}).get("value")) for name in AGAIN),
            number(method["cost"]["share"]),
        )
    if (spent := of_truth(results["costs"])) is not None:
        table.add_row(Text("(the truth)", "dim"), *[""] * (len(OTHERS) + len(AGAIN)), number(spent))
    return table


def of_truth(costs: Mapping[str, Mapping[str, float]]) -> float | None:
    """Tokens that were computed for the truth, per token that was sampled in the audited episodes."""
    computed = sum(one.get("tokens", 0.0) for name, one in costs.items() if "continuations" in one)
    sampled = costs.get("episodes", {}).get("sampled", 0.0)
    return computed / sampled if sampled and computed else None


def number(value: float | None) -> str:
    """In few characters; - where there is none."""
    return "-" if value is None else f"{value:.3f}" if abs(value) < 9.9995 else f"{value:.3g}"


def interval(estimate: Mapping[str, float | None] | None) -> Text:
    """A value, and its interval: 0.352 .301-.398."""
    if estimate is None or estimate["value"] is None:
        return Text("-", "dim")
    if estimate["low"] is None:
        return Text(number(estimate["value"]))
    low, high = (f"{estimate[end]:.2f}".replace("0.", ".", 1) for end in ("low", "high"))
    return Text.assemble(number(estimate["value"]), (f" {low} to {high}", "dim"))
