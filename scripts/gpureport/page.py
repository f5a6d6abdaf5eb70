"""The report as a page: what each line found, in words and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

GIB = 2**30
Figures = Mapping[str, Any]


def page(report: Figures, titles: Mapping[str, str]) -> str:
    """Markdown of a report; `titles` are those of all lines, in their order."""
    lines = report["lines"]
    parts = [
        "# Report of a graphics card",
        "Made by `make gpu` (`python scripts/gpu_report.py`); the figures are in gpu-report.json.",
    ]
    if any(one.get("device") == "cpu" for one in lines.values()):
        parts.append("**A rehearsal on a processor, with small shapes: these figures say nothing about any card.**")
    for name, title in titles.items():
        if name in lines:
            parts += [f"## {title}", *_line(name, lines[name])]
    return "\n\n".join(parts) + "\n"


def _line(name: str, line: Figures) -> list[str]:
    said = {"done": "", "stopped": "Stopped at its limit of {limit_s:.0f} s; what it had until then: "}
    parts = []
    if line["status"] in said:
        parts += [said[line["status"]].format(**line)] if said[line["status"]] else []
    else:
        parts.append(f"{line['status'].capitalize()}: {line.get('reason', '')}")
    figures = line.get("figures") or {}
    if figures:
        try:
            parts += _SHOWN[name](figures)
        except KeyError:  # of a line that was stopped before it knew all
            parts.append(f"`{dict(figures)}`"[:2000])
    parts.append(f"*{line['seconds']:.0f} s, {line['when']}, {line['on']}, commit {line['commit']}.*")
    return parts


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, marks, *rows))


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def share(value: float | None) -> str:
    """A part of one in percent."""
    return "-" if value is None else f"{100 * value:.1f}%"


def _machine(f: Figures) -> list[str]:
    memory = f", {f['memory_gib']:.0f} GiB" if "memory_gib" in f else ""
    versions = f"Python {f['python']}, torch {f['torch']}, transformers {f['transformers']}"
    text = f"{f['device']}{memory}; {versions}, {f['cores']} cores."
    if "copy_gbs" in f:
        text += (
            f" A product of matrices (bfloat16, 8192 wide on a card) reaches {f['matmul_tflops']:,.1f} TFLOP/s, a copy moves "
            f"{f['copy_gbs']:,.0f} GB/s (read and written)."
        )
    return [text]


def _model(f: Figures) -> list[str]:
    return [f"Random weights in the shape of {f['shape']}, {f['bytes'] / GIB:.2f} GiB; tokenizer: {f['tokenizer']}."]


def _tests(f: Figures) -> list[str]:
    text = f"tests/gpu: {f['passed']} passed, {len(f['failed'])} failed, {f['skipped']} skipped."
    return [text, *(f"Failed: `{name}`" for name in f["failed"])]


def _demo(f: Figures) -> list[str]:
    reached = f["seconds_to_80"]
    text = (
        f"`make demo` reached {f['success']:.0%} success on held-out games after {reached:.0f} s, the warm start included."
        if reached is not None
        else f"`make demo` did not reach {f['success']:.0%} in this time."
    )
    rows = [[str(p["iteration"]), f"{p['seconds']:.0f}", f"{p['success']:.2f}"] for p in f["curve"]]
    return [text, table(["iteration", "seconds", "success"], rows)]


def _smollm2(f: Figures) -> list[str]:
    success = ", ".join(f"{one:.2f}" for one in f["success"])
    memory = f" Peak memory {f['peak_bytes'] / GIB:.1f} GiB." if "peak_bytes" in f else ""
    return [
        f"Iterations: {f['iterations']}, each of {f['episodes']} episodes of up to {f['most_steps']} steps, actions among the "
        f"possible ones. Rollout "
        f"{f['rollout_s']:.1f} s, credit and update {f['update_s']:.1f} s, {f['sampled_per_s']:,.0f} sampled tokens a second "
        f"(medians without the first). Success in training: {success}. Largest mean difference between the log-probabilities "
        f"of rollout and training: {f['mismatch_mean']:.1e}.{memory}"
    ]


def _recipe(f: Figures) -> list[str]:
    s, t, rate, mfu, least = (f[name] for name in ("seconds", "tokens", "tokens_per_s", "mfu", "least_seconds"))
    again = f["flop_computed_again"]
    rows = [
        ["rollout", number(s["rollout"]), number(t["rollout"], 0), number(rate["rollout"], 0), share(mfu["rollout"])],
        ["credit", number(s["credit"], 2), "", "", ""],
        ["update", number(s["update"]), number(t["update"], 0), number(rate["update"], 0), share(mfu["update"])],
        ["iteration", number(s["iteration"]), "", "", share(mfu["iteration"])],
    ]
    for row, name in ((rows[0], "rollout"), (rows[2], "update")):
        row.append(number(least[name]))
    rows[1].append("")
    rows[3].append(number(None if None in least.values() else sum(least.values())))
    parts = sorted(f["estimated"].items(), key=lambda item: -item[1])
    return [
        f"One iteration, {f['episodes']} episodes of {f['steps']:.0f} steps, {f['parameters'] / 1e6:,.1f} M random weights, "
        f"{f['answer_tokens']} tokens an answer, prompts of {f['prompt_tokens']:.0f} tokens (median of what a step adds), "
        f"{f['games']} games, tokenizer: {f['tokenizer']}.",
        table(["", "seconds", "tokens computed", "tokens/s", "MFU", "seconds at the card's peak"], rows),
        f"{rate['sampled']:,.0f} sampled tokens a second. The update computes {t['update']:,.0f} tokens ({t['padded']:,.0f} "
        f"with padding); rows that rebuild the conversation at each step have {t['rebuilt']:,.0f}. Gradient checkpointing "
        f"computes {again / 1e15:.2f} PFLOP again, which is in no MFU. Mean difference between the log-probabilities of "
        f"rollout and training: {f['mismatch_mean']:.1e}.",
        f"Peak memory {f['peak_bytes'] / GIB:.1f} GiB; the dry run estimates {f['estimated_bytes'] / GIB:.1f} GiB ("
        + ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts)
        + ").",
    ]


def _decoding(f: Figures) -> list[str]:
    rows = [
        [one["engine"], str(one["batch"]), number(one["tokens_per_s"], 0), number(one["prefill_tokens_per_s"], 0)]
        for one in f["rows"]
    ]
    text = f"Prompts of {f['prompt']} tokens, answers of {f['answer']}."
    return [text, table(["engine", "batch", "decoded tokens/s", "prompt tokens/s"], rows)]


_SHOWN: dict[str, Callable[[Figures], list[str]]] = {
    "machine": _machine,
    "model": _model,
    "tests": _tests,
    "demo": _demo,
    "smollm2": _smollm2,
    "window": _recipe,
    "full": _recipe,
    "decoding": _decoding,
}
