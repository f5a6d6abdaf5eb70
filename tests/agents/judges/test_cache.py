"""Answers on disk: found again, by everybody, and never a reason to stop."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agents.judges.cache import AnswerCache

WRITER = """
import sys
from pathlib import Path
from agents.judges.cache import AnswerCache
cache = AnswerCache(Path(sys.argv[1]))
for number in range(60):
    cache.put("m", f"question {number} of {sys.argv[2]}", f"answer {number}")
    cache.put("m", f"question {number}", f"answer {number}")
    assert cache.get("m", f"question {number}") == f"answer {number}"
cache.close()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "judge" / "answers.sqlite3"


def test_an_answer_is_found_again_by_a_later_run(file: Path) -> None:
    cache = AnswerCache(file)
    cache.put("m", "question", "answer")
    cache.close()
    assert AnswerCache(file).get("m", "question") == "answer"


def test_another_question_or_another_model_is_not_meant(file: Path) -> None:
    cache = AnswerCache(file)
    cache.put("m", "question", "answer")
    assert cache.get("m", "question ") is None
    assert cache.get("n", "question") is None


def test_a_new_version_of_the_question_is_asked_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = AnswerCache(file)
    cache.put("m", "question", "answer")
    monkeypatch.setattr("agents.judges.cache.PROMPT_VERSION", 10_000)
    assert cache.get("m", "question") is None


def test_the_first_answer_stays(file: Path) -> None:
    cache = AnswerCache(file)
    cache.put("m", "question", "first")
    cache.put("m", "question", "second")
    assert cache.get("m", "question") == "first"


@pytest.mark.parametrize("answer", ["", "\ud800 \0 \U0001f511", "x" * 1_000_000])
def test_any_text_comes_back_as_it_was(file: Path, answer: str) -> None:
    cache = AnswerCache(file)
    cache.put("m", "\ud800", answer)
    assert cache.get("m", "\ud800") == answer


@pytest.mark.fault("several runs write a judge's answers at once")
def test_several_processes_may_write_at_once(file: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(number)]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    cache = AnswerCache(file)
    assert all(cache.get("m", f"question {n} of {writer}") == f"answer {n}" for n in range(60) for writer in range(4))


@pytest.mark.fault("a judge's cache is damaged", lost="its answers, which are asked again")
@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_broken_file_is_moved_aside_with_a_warning(file: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    cache = AnswerCache(file)
    cache.put("m", "question", "answer")
    assert cache.get("m", "question") == "answer"
    [aside] = file.parent.glob("*.broken-*")
    assert aside.read_bytes() == content
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(aside) in caplog.text


@pytest.mark.fault("a judge's cache is damaged while it is open", lost="its answers, which are asked again")
def test_a_file_that_breaks_while_it_is_open_is_replaced(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = AnswerCache(file)
    for number in range(200):
        cache.put("m", f"question {number}", "answer" * 100)
    file.write_bytes(os.urandom(file.stat().st_size))
    assert cache.get("m", "question 7") is None
    cache.put("m", "question 7", "answer")
    assert cache.get("m", "question 7") == "answer"
    assert len(caplog.records) == 1


def test_a_file_that_somebody_has_mended_is_not_moved(file: Path) -> None:
    cache = AnswerCache(file)
    cache.put("m", "question", "answer")
    cache._cope(sqlite3.DatabaseError("database disk image is malformed"))
    assert cache.get("m", "question") == "answer"
    assert not list(file.parent.glob("*.broken-*"))


@pytest.mark.fault("a judge's cache cannot be written", lost="the cache")
@pytest.mark.parametrize("fault", ["a folder", "another table", "no folder"])
def test_a_file_that_cannot_be_used_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    file = tmp_path / "answers"
    if fault == "a folder":
        file.mkdir()
    elif fault == "another table":
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE answers (something TEXT)")
    else:
        (tmp_path / "occupied").write_text("a file")
        file = tmp_path / "occupied" / "answers"
    cache = AnswerCache(file)
    cache.put("m", "question", "answer")
    assert cache.get("m", "question") is None
    cache.close()
    assert len(caplog.records) == 1
    assert str(file) in caplog.text
