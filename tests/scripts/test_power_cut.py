"""A power cut at any moment: the run goes on from the newest checkpoint that counted, and ends as if nothing had happened."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "scripts/faults"
sys.path.insert(0, str(FAULTS))  # as for the script: what another process has recorded is read back by the same names
try:
    from cutting import trial
    from cutting.journal import Journal, after, cuts
finally:
    sys.path.remove(str(FAULTS))

TRIED = 8
"""Of some hundred; scripts/faults/power_cut.py tries more."""


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    return trial.record(tmp_path_factory.mktemp("cut") / "recorded")


@pytest.mark.fault("a power cut in a training", lost="what came after the newest checkpoint, done again alike")
@pytest.mark.parametrize("number", range(TRIED))
def test_a_run_goes_on_after_a_power_cut_as_if_nothing_had_happened(training: Journal, tmp_path: Path, number: int) -> None:
    different = trial.distinct(training, seeds=2)
    outcome = trial.resume(training, different[len(different) * (2 * number + 1) // (2 * TRIED)], tmp_path / "disk")
    assert not outcome.problems, outcome


def test_all_stages_of_a_training_are_cut(training: Journal) -> None:
    steps = {moment.step.split()[0] for moment in training.moments}
    assert {"open", "mkdir", "rename", "sync", "remove", "rmdir"} <= steps
    assert {moment.mark for moment in training.moments} == {None, 0, 1, 2, 3}
    last = after(training, list(cuts(training, seeds=0))[-1])
    assert {"cache/warmstart", "cache/demonstrations"} <= {str(path) for path in last}
    names = {path.name for path in last if path.parent == trial.RUN}
    assert {"checkpoints", "config.yaml", "metrics.jsonl", "model", "splits.json", "status.json", "tokenizer"} <= names


WRITER = """
import os, pickle, sys
from pathlib import Path
from envs.common import disk
from cutting.journal import Journal

root = Path(sys.argv[1])
root.mkdir()
journal = Journal(root)

def work():
    (root / "bare").write_bytes(b"old")
    disk.write(root / "sure", b"old")
    with (root / "lines").open("ab") as lines:
        lines.write(b"one")
        disk.flush(lines)
        lines.write(b"two")
        lines.flush()
        journal.mark("written")
        (root / "aside").write_bytes(b"new")
        os.replace(root / "aside", root / "bare")
        disk.write(root / "sure", b"new")
    journal.mark("replaced")
    with disk.aside(root / "folder") as partial:
        partial.mkdir()
        (partial / "file").write_bytes(b"content")
    journal.mark("made")
    os.remove(root / "bare")

journal.record(work)
sys.stdout.buffer.write(pickle.dumps(journal))
"""


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    """A process that writes a file as one should, and another as one should not."""
    folder = tmp_path_factory.mktemp("writer") / "disk"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{FAULTS}"}
    done = subprocess.run([sys.executable, "-c", WRITER, folder], env=environment, capture_output=True, check=True)
    return pickle.loads(done.stdout)


def left(journal: Journal, mark: str, name: str) -> set[bytes | None]:
    """What may be left under a name, by all fates after a mark; None for nothing."""
    missing = b"nothing"
    return {
        None if (content := after(journal, cut).get(Path(name), missing)) == missing else content
        for cut in cuts(journal, seeds=20)
        if journal.moments[cut.moment].mark == mark
    }


def test_what_is_written_as_it_should_be_is_old_or_new_and_at_the_end_new(writer: Journal) -> None:
    assert left(writer, "written", "sure") == {b"old", b"new"}
    assert left(writer, "replaced", "sure") == {b"new"}
    assert left(writer, "made", "folder/file") == {b"content"}
    assert left(writer, "replaced", "folder/file") == {None, b"content"}


def test_what_is_not_synced_may_be_lost_emptied_or_zeroed(writer: Journal) -> None:
    assert {b"", b"\0\0\0", b"old"} <= left(writer, "written", "bare")
    assert {b"", b"\0\0\0", b"new"} <= left(writer, "replaced", "bare")


def test_what_is_added_to_a_file_may_be_lost_and_what_was_synced_before_may_not(writer: Journal) -> None:
    found = left(writer, "replaced", "lines")
    assert {b"one", b"onetwo", b"one\0\0\0"} <= found
    assert all(content is not None and content.startswith(b"one") for content in found)


def test_a_file_that_was_deleted_may_be_back(writer: Journal) -> None:
    last = [cut for cut in cuts(writer, seeds=0) if cut.moment == len(writer.moments) - 1]
    assert {cut.fate: Path("bare") in after(writer, cut) for cut in last} == {
        "lost": True,
        "empty": False,
        "zeros": False,
        "unnamed": True,
        "kept": False,
    }
