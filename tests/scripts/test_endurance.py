"""A long training that is disturbed again and again: it ends well, every fault is counted once, and growth is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "scripts/faults"
sys.path.insert(0, str(FAULTS))
try:
    from endurance import Report, miscounted
    from enduring.faults import EPISODES, STOPS, planned
    from enduring.faults import FAULTS as KINDS
    from enduring.growth import FEWEST, SETTLING, growths
    from enduring.training import Sample, Training
finally:
    sys.path.remove(str(FAULTS))

ITERATIONS = 60
EVERY = 5


@pytest.fixture(scope="module")
def endured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The script's folder, and what it reports."""
    folder = tmp_path_factory.mktemp("endurance")
    words = ["--iterations", str(ITERATIONS), "--every", str(EVERY), "--keep", folder, "--json", folder / "report.json"]
    done = subprocess.run([sys.executable, FAULTS / "endurance.py", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads((folder / "report.json").read_text())


@pytest.mark.fault("one fault after the other in a training", lost="what each costs by itself")
def test_a_training_goes_on_through_one_fault_after_the_other(endured: tuple[Path, dict]) -> None:
    _, report = endured
    assert not report["problems"]
    planned_for = planned(ITERATIONS // EVERY - 1)
    done = sum(report["done"].values())
    assert len(planned_for) // 2 < done  # a training that is quicker than its watcher has room for fewer
    assert report["done"] == Counter(planned_for[:done])
    assert report["found"] == {name: count for name, count in report["done"].items() if name in EPISODES}
    assert {sample["kind"] for sample in report["samples"]} == {"trainer", "worker"}


def test_a_fault_that_nobody_counted_is_told(endured: tuple[Path, dict]) -> None:
    folder, report = endured
    told = Report(done=Counter(report["done"]))
    assert miscounted(Training(folder, ()), told, ITERATIONS) == []
    told = Report(done=Counter(report["done"]) + Counter([next(iter(EPISODES))]))
    assert len(miscounted(Training(folder, ()), told, ITERATIONS)) == 2


def test_every_fault_comes_up_in_thousands_of_iterations_and_processes_live_for_hundreds() -> None:
    plan = planned(149)
    assert set(plan) == set(KINDS)
    stops = [place for place, name in enumerate(plan) if name not in EPISODES]
    assert len(stops) < 25
    assert not [name for name in plan[-45:] if name in STOPS or KINDS[name].ends_worker]


def held(process: int, first: int, kilobytes: int, more: float) -> list[Sample]:
    """What a process held that grows by `more` kilobytes an iteration, in steps as allocators do."""
    return [
        Sample(process, "worker", first + n, kilobytes + int(more * n / 64) * 64, 7 + int(n / 50 * (more > 0)))
        for n in range(SETTLING + FEWEST)
    ]


@pytest.mark.parametrize("more", [0.0, 40.0])
def test_what_grows_is_told_from_a_new_process_that_is_larger(more: float) -> None:
    samples = [sample for n in range(3) for sample in held(n, 500 * n, 50_000 * (n + 1), more)]
    grown = {growth.what: growth for growth in growths(samples)}
    assert grown["kilobytes"].slope == pytest.approx(more, rel=0.1, abs=1e-9)
    assert {growth.too_much for growth in grown.values()} == {more > 0}
    assert grown["files"].highest == max(sample.files for sample in samples)


def test_caches_that_fill_at_first_are_no_growth_and_a_few_samples_say_nothing() -> None:
    filling = [Sample(1, "trainer", n, 1000 * min(n, SETTLING), 3) for n in range(SETTLING + FEWEST)]
    assert [growth.slope for growth in growths(filling)] == [0, 0]
    assert {growth.slope for growth in growths(filling[: SETTLING + FEWEST - 1])} == {None}
