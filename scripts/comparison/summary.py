"""From what the runs wrote to the numbers of the report: everything that report.json holds, page and figure show."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.config.differences import differences, settings
from envs import registry

from . import evidence, intervals
from .figure import AXES
from .intervals import Floats
from .plan import Plan, Run
from .runs import final_file, shown

OFF = 0.05
"""Share of the budget by which a run may miss it before success at equal steps is shown too."""
POINTS = 41
"""Places at which curves are drawn; between its evaluations a run's success is interpolated linearly."""
COVERAGE = {2: 50, 3: 75, 4: 79, 5: 84, 6: 85, 8: 89, 10: 89, 20: 91}
"""How many of a hundred 95% percentile intervals of N normal values hold their mean (simulated)."""


def summarize(plan: Plan) -> dict[str, Any]:
    """The report's numbers. Runs that failed are left out and named; at least one must have finished. Raises ConfigError."""
    done = {arm: [run for run in plan.of(arm) if run.failed is None] for arm in plan.arms}
    done = {arm: runs for arm, runs in done.items() if runs}
    tables = {run.name: evidence.rows(run) for runs in done.values() for run in runs}
    some = next(iter(tables.values()))
    configs = {arm: settings(plan.of(arm)[0].config) for arm in plan.arms}
    differing = {key: row for key, row in differences(configs).items() if key != "seed"}
    first = next(iter(configs.values()))
    config, tasks = plan.runs[0].config, _tasks(plan)
    files = [final_file(run) for runs in done.values() for run in runs] if plan.repeats > 1 else []
    types = {t: evidence.task_types(list(tables.values()), files, t) for t in evidence.temperatures(some)}
    equal = _equal_steps(plan, tables)
    return {
        "command": shlex.join(["python", "scripts/compare.py", *plan.arguments]),
        "environment": config.env.name,
        "model": config.model.name,
        "split": config.evaluation.split,
        "splits": evidence.splits(next(iter(done.values()))[0]),
        "seeds": plan.seeds,
        "budget": plan.budget,
        "budget_source": plan.budget_source,
        "equal_steps": equal,
        "repeats": plan.repeats,
        "bootstrap": {"resamples": intervals.REPEATS, "level": intervals.LEVEL},
        "arms": {
            arm: {
                "overrides": shlex.join(overrides),
                "seeds": [run.seed for run in done.get(arm, [])],
                "commands": [shown(run) for run in plan.of(arm)],
            }
            for arm, overrides in plan.arms.items()
        },
        "failed": [{"arm": run.arm, "seed": run.seed, "reason": run.failed} for run in plan if run.failed],
        "tasks": tasks,
        "temperatures": {t: _measured(plan, done, tables, t, kept, equal) for t, (kept, _) in types.items()},
        "cost": {arm: _cost([tables[run.name] for run in runs]) for arm, runs in done.items()},
        "settings": {
            "differing": differing,
            "common": {key: value for key, value in first.items() if key not in differing and key != "seed"},
        },
        "notes": [
            *_cut_off(plan, done, list(types), sum(tasks.values())),
            *_notes(plan, done, tables, {kind for _, others in types.values() for kind in others}, min(tasks.values())),
            *_floor(tables),
        ],
    }


def _measured(
    plan: Plan,
    done: Mapping[str, Sequence[Run]],
    tables: Mapping[str, evidence.Rows],
    temperature: str,
    types: Sequence[str],
    equal: float | None,
) -> dict[str, Any]:
    """Curves, final success, success at `equal` steps, and comparison of the arms at one evaluation temperature."""
    arms, scores, totals = {}, {}, {}
    for arm, runs in done.items():
        finals = [evidence.final(run, types, temperature, final_file(run) if plan.repeats > 1 else None) for run in runs]
        totals[arm] = {run.seed: total for run, (total, _) in zip(runs, finals, strict=True)}
        scores[arm] = np.array([by_type for _, by_type in finals])
        starts = [evidence.success(tables[run.name][0], types, temperature, run.name)[0] for run in runs]
        arms[arm] = {
            "start": _mean(np.array(starts)),
            "all": _mean(np.array(list(totals[arm].values()))),
            "at_equal_steps": None
            if equal is None
            else _mean(_success_at(equal, [tables[run.name] for run in runs], temperature)),
            "iqm": _iqm(scores[arm]),
            "types": {kind: _mean(scores[arm][:, k]) for k, kind in enumerate(types)},
            "curves": {x: _curve([evidence.curve(tables[run.name], x, types, temperature) for run in runs]) for x in AXES},
        }
    pairs = [_pair(a, b, scores, totals) for a, b in itertools.combinations(done, 2)]
    return {"types": types, "arms": arms, "pairs": pairs}


def _equal_steps(plan: Plan, tables: Mapping[str, evidence.Rows]) -> float | None:
    """Environment steps at which runs can be compared if one missed the budget: the budget, or what the shortest reached."""
    ends = [float(table[-1]["env/steps"]) for table in tables.values()]
    if plan.budget is None or all(abs(end - plan.budget) <= OFF * plan.budget for end in ends):
        return None
    return min(float(plan.budget), *ends)


def _success_at(steps: float, tables: Sequence[evidence.Rows], temperature: str) -> Floats:
    """[N] success over all tasks, interpolated between the evaluations of each run's training."""
    curves = [evidence.curve(table, "env/steps", [evidence.EVERY], temperature) for table in tables]
    return np.array([np.interp(steps, places, values[:, 0]) for places, values in curves])


def _tasks(plan: Plan) -> dict[str, int]:
    """How many tasks of each type are evaluated."""
    config = plan.runs[0].config
    env = registry.spec(config.env.name).env(config.env.settings)
    try:
        tasks = env.tasks(config.evaluation.split)[: config.evaluation.episodes]
        return dict(Counter(env.task_type(task) for task in tasks))
    finally:
        env.close()


def _mean(values: Floats) -> dict[str, Any]:
    """Mean [N] over seeds, its interval over resampled seeds (none for one seed), and the seeds' own values."""
    found: dict[str, Any] = {"mean": float(values.mean()), "low": None, "high": None, "seeds": values.tolist()}
    if len(values) > 1:
        found["low"], found["high"] = intervals.interval(intervals.whole_seeds(values).mean(axis=1))
    return found


def _iqm(scores: Floats) -> dict[str, Any]:
    """Interquartile mean of [N, K], with the interval of either way to resample."""
    found: dict[str, Any] = {"value": float(intervals.iqm(scores)), "stratified": None, "whole_seeds": None}
    if len(scores) > 1:
        found["stratified"] = intervals.interval(intervals.iqm(intervals.stratified(scores)))
        found["whole_seeds"] = intervals.interval(intervals.iqm(intervals.whole_seeds(scores)))
    return found


def _curve(runs: Sequence[tuple[Floats, Floats]]) -> dict[str, Any]:
    """Interquartile mean over x, as far as every seed goes, with the stratified interval, and each seed's own."""
    x = np.linspace(0.0, min(places[-1] for places, _ in runs), POINTS)
    scores = np.array(
        [[np.interp(x, places, values[:, k]) for k in range(values.shape[1])] for places, values in runs]
    )  # [N, K, POINTS]
    found: dict[str, Any] = {
        "x": x.tolist(),
        "iqm": intervals.iqm(np.moveaxis(scores, -1, 0)).tolist(),
        "seeds": [intervals.iqm(np.moveaxis(one[None], -1, 0)).tolist() for one in scores],
        "evaluations": [places.tolist() for places, _ in runs],
    }
    if len(runs) > 1:
        bands = [intervals.interval(intervals.iqm(intervals.stratified(scores[:, :, i]))) for i in range(POINTS)]
        found["low"], found["high"] = ([band[side] for band in bands] for side in (0, 1))
    return found


def _pair(first: str, second: str, scores: Mapping[str, Floats], totals: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """How two arms compare: probability of improvement over types, and the difference of success seed by seed."""
    shared = [seed for seed in totals[first] if seed in totals[second]]
    found: dict[str, Any] = {
        "first": first,
        "second": second,
        "improvement": float(intervals.improvement(scores[first], scores[second])),
        "improvement_interval": None,
        "difference": None,
    }
    if min(len(scores[first]), len(scores[second])) > 1:
        resampled = [intervals.stratified(scores[arm], seed=i) for i, arm in enumerate((first, second))]
        found["improvement_interval"] = intervals.interval(intervals.improvement(*resampled))
    if shared:
        found["difference"] = _mean(np.array([totals[first][seed] - totals[second][seed] for seed in shared]))
    return found


def _cost(tables: Sequence[evidence.Rows]) -> dict[str, dict[str, Any]]:
    costs = [evidence.cost(table) for table in tables]
    return {name: {"mean": float(np.mean([c[name] for c in costs])), "seeds": [c[name] for c in costs]} for name in costs[0]}


def _cut_off(plan: Plan, done: Mapping[str, Sequence[Run]], temperatures: Sequence[str], tasks: int) -> list[str]:
    """What the final evaluations lost: a rate that leaves episodes out says of how many it is."""
    notes = []
    repeats = plan.repeats if plan.repeats > 1 else plan.runs[0].config.evaluation.repeats or 1
    for run in [run for runs in done.values() for run in runs]:
        for temperature in temperatures:
            faults, outgrown = evidence.cut_off(run, temperature, final_file(run) if plan.repeats > 1 else None)
            which = f"of the {tasks * repeats} episodes of the final evaluation of {run.name}, temperature {temperature},"
            if faults:
                notes.append(f"{which} {faults} were cut off by a fault and are not in its success")
            if outgrown:
                notes.append(
                    f"{which} {outgrown} outgrew the context (model.max_length={run.config.model.max_length}) and count as lost"
                )
    return notes


def _floor(tables: Mapping[str, evidence.Rows]) -> list[str]:
    """What random actions reach on the split."""
    found = [value for table in tables.values() if (value := table[0].get("eval/random_success")) is not None]
    return [f"actions drawn at random win {np.mean(found):.3f} of the episodes"] if found else []


def _notes(
    plan: Plan, done: Mapping[str, Sequence[Run]], tables: Mapping[str, evidence.Rows], left_out: set[str], rarest: int
) -> list[str]:
    """What a reader must know to judge the numbers; `rarest` is the number of tasks of the rarest type."""
    notes = [f"{run.name} failed and is not in any figure: {run.failed}" for run in plan if run.failed]
    for run in [run for runs in done.values() for run in runs]:
        last, limit = tables[run.name][-1], run.config.iterations
        steps, budget = last["env/steps"], plan.budget or last["env/steps"]
        ended = f"{run.name} ended after {last['iteration']} iterations and {steps:,.0f} environment steps"
        if steps < budget:
            reason = f"iterations={limit} or time_budget_s was reached first"
            notes.append(f"{ended}, short of the budget of {budget:,}: {reason}")
        elif steps > (1 + OFF) * budget:
            over = f"{steps / budget - 1:.0%} over the budget of {budget:,}"
            notes.append(f"{ended}, {over}: a run ends with an iteration, and its last one was large")
    finished = {run.name for runs in done.values() for run in runs}
    for one, other, what in evidence.starts(plan):
        if {one.name, other.name} <= finished:
            notes.append(f"{one.name} and {other.name} sample differently (engine.*): before training {what}")
    notes += [
        f"task type {kind} is left out: in some evaluation none of its episodes ended without a fault"
        for kind in sorted(left_out)
    ]
    episodes = rarest * (plan.repeats if plan.repeats > 1 else plan.runs[0].config.evaluation.repeats or 1)
    notes.append(
        "intervals tell how seeds differ, not how few episodes a value rests on: a seed's success at the rarest task type is "
        f"counted over {episodes} episode{'s' * (episodes != 1)}, and where all seeds agree the interval has no width"
    )
    fewest = min(len(runs) for runs in done.values())
    if fewest == 1:
        notes.append("an arm with one seed has no interval: nothing is known of its spread")
        return notes
    coverage = COVERAGE[max(n for n in COVERAGE if n <= fewest)]
    notes.append(
        f"with {fewest} seeds, nominal 95% bootstrap intervals are too narrow: in simulations with normal values those of a "
        f"mean hold the truth {coverage} times in 100" + (" (they are the range of the seeds)" if fewest <= 3 else "")
    )
    return notes
