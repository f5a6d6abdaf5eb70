"""The study's numbers as a page in Markdown, which is written anew whenever a result is added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .plan import REFERENCE, Setting, Study
from .results import Results
from .summary import (
    MEASURES,
    Learned,
    Pooled,
    ahead,
    audits_of,
    interval,
    learned,
    mean,
    mean_of,
    methods_of,
    pooled,
    rank_correlation,
)


def document(study: Study, results: Results, command: str, images: str) -> str:
    """The page; images: where it finds the figures."""
    arms = learned(study, results)
    parts = [
        "# The numbers of the credit study",
        f"Written by `{command}` from the results in this folder. docs/credit.md says what the measures are and what came out.",
        *_state(study, results),
    ]
    for setting in study.settings:
        parts += _setting(study, results, setting)
    if arms:
        parts += _learning(study, arms, images)
    if arms and audits_of(study, results, study.learns):
        parts += _both(study, results, arms, images)
    return "\n\n".join(parts) + "\n"


def _state(study: Study, results: Results) -> Iterator[str]:
    audits = sum(results.of_audit(one) is not None for one in study.audits)
    runs = sum(results.of_run(one) is not None for one in study.runs)
    yield f"Done so far: {audits} of {len(study.audits)} audits, {runs} of {len(study.runs)} trainings."


def _setting(study: Study, results: Results, setting: Setting) -> Iterator[str]:
    stages = {stage: audits_of(study, results, setting.name, stage) for stage in setting.stages}
    everything = [audit for audits in stages.values() for audit in audits]
    if not everything:
        return
    yield f"## How true: {setting.title}"
    yield _table(
        ["stage", "audits", "success", "steps", "states", "continuations", "reliability", "within episodes", "decisive steps"],
        [[stage, *_truth(audits)] for stage, audits in stages.items() if audits],
    )
    yield "All stages together; in brackets 95% intervals."
    rows = []
    for method in methods_of(study, results):
        found = [pooled(everything, method, measure) for measure in MEASURES]
        if any(found):
            rows.append(
                [
                    f"`{method}`",
                    *map(_pooled, found),
                    *(_number(mean_of(everything, method, name)) for name in ("sign_corrected", "silent", "common")),
                    _number(mean([a["methods"][method]["tokens"] for a in everything if method in a["methods"]]), 1),
                ]
            )
    yield _table(["method", *MEASURES.values(), "sign", "silent", "common", "tokens"], rows)
    stages = {stage: audits for stage, audits in stages.items() if audits}
    rows = []
    for method in methods_of(study, results):
        of_stages = [pooled(audits, method, measure) for measure in ("correlation", "cosine") for audits in stages.values()]
        if any(of_stages):
            rows.append([f"`{method}`", *(_number(one.value if one else None) for one in of_stages)])
    if len(stages) > 1:
        yield "By stage:"
        yield _table(["method", *(f"{MEASURES[m]}, {s}" for m in ("correlation", "cosine") for s in stages)], rows)


def _truth(audits: list[dict[str, Any]]) -> list[str]:
    steps = [audit["truth"]["steps"] for audit in audits]
    decisive = sum(next(iter(audit["methods"].values()))["decisive"] for audit in audits)
    return [
        str(len(audits)),
        _number(mean([audit["success"] for audit in audits])),
        f"{sum(one['decisions'] for one in steps):.0f}",
        str(sum(audit["truth"]["states"] for audit in audits)),
        str(sum(audit["truth"]["continuations"] for audit in audits)),
        _number(mean([one["reliability"] for one in steps])),
        _number(mean([one["reliability_within"] for one in steps])),
        str(decisive),
    ]


def _learning(study: Study, arms: Mapping[str, Learned], images: str) -> Iterator[str]:
    setting = next(one for one in study.settings if one.name == study.learns)
    yield f"## How fast: {setting.title}"
    yield (
        "Success of the episodes played for training (temperature 1): its mean over the environment steps of the run, and over "
        "the last tenth. Brackets: lowest and highest seed."
    )
    rows = []
    for arm, found in arms.items():
        difference = ahead(arms, arm) if REFERENCE in arms else np.array([])
        rows.append(
            [
                f"`{arm}`",
                ", ".join(map(str, found.seeds)),
                f"{np.mean([x[-1] for x in found.steps]):,.0f}",
                _number(float(found.start.mean())),
                _range(found.area),
                _range(found.final),
                _difference(difference),
                f"{found.cpu.mean():.0f}",
                f"{found.tokens.mean() / 1e6:.1f} M",
            ]
        )
    heads = ["arm", "seeds", "steps", "start", "mean success", "last tenth", f"mean, above `{REFERENCE}`", "CPU s", "tokens"]
    yield _table(heads, rows)
    yield f"![success over environment steps]({images}/learning.png)"


def _both(study: Study, results: Results, arms: Mapping[str, Learned], images: str) -> Iterator[str]:
    audits = audits_of(study, results, study.learns)
    lines = []
    for measure, title in MEASURES.items():
        pairs = [
            (found.value, float(difference.mean()))
            for arm in arms
            if (found := pooled(audits, arm, measure)) is not None and len(difference := ahead(arms, arm))
        ]
        rank = rank_correlation([x for x, _ in pairs], [y for _, y in pairs])
        lines.append([title, str(len(pairs)), _number(rank)])
    yield "## Does truer credit learn faster?"
    yield "Spearman's rank correlation, over methods, between the truth of the credit and the mean success in training."
    yield _table(["measure of truth", "methods", "rank correlation"], lines)
    yield f"![truth against learning]({images}/against.png)"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _pooled(found: Pooled | None) -> str:
    return "-" if found is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _range(values: Any) -> str:
    return f"{values.mean():.2f} [{values.min():.2f}, {values.max():.2f}]"


def _difference(values: Any) -> str:
    if not len(values):
        return "-"
    low, high = interval(values)
    return f"{values.mean():+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if len(values) > 1 else "")
