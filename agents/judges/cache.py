"""Answers of models on disk, by a hash of all that they depend on. Only words are kept: to read them better costs no call.

Any number of processes may share the file. Whatever is wrong with it or with the disk, nobody is stopped: answers are then
asked for again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
from pathlib import Path

from agents.judges.question import PROMPT_VERSION

log = logging.getLogger("stepcredit.judge")
_WAIT_S = 10.0
"""Seconds to wait for another process that writes."""
FORM = 2
"""Of a row; to be raised whenever it changes."""
_PROOF = 8
"""Bytes of a row before the text."""
_PARTS = ("", "-journal")
"""A database and the file that would undo its unfinished change: they go together."""


class AnswerCache:
    """A table of answers. Holds state: the open file, or that it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.Error) as error:
            self._cope(error)

    def get(self, identity: str, prompt: str) -> str | None:
        """The answer to `prompt` by the client with this `identity`, or None."""
        key = _key(identity, prompt)
        found = self._execute("SELECT answer FROM answers WHERE key = ?", (key,))
        if not found:
            return None
        row = found[0]
        if isinstance(row, bytes) and row[:_PROOF] == _proof(key, row[_PROOF:]):
            return row[_PROOF:].decode("utf-8", "surrogatepass")
        log.warning("a kept answer of the judge is damaged, and is asked for again: %s", self._path)
        self._execute("DELETE FROM answers WHERE key = ?", (key,))
        return None

    def put(self, identity: str, prompt: str, answer: str) -> None:
        """Keep an answer; an older one to the same question stays."""
        key, text = _key(identity, prompt), answer.encode("utf-8", "surrogatepass")
        self._execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, _proof(key, text) + text))

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None)
        self._database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID")

    def _execute(self, statement: str, values: tuple[bytes, ...]) -> tuple[object, ...] | None:
        for _ in range(2):  # the second time with a new file, if the first was broken
            if self._database is None:
                return None
            try:
                row: tuple[object, ...] | None = self._database.execute(statement, values).fetchone()
                return row
            except sqlite3.Error as error:
                self._cope(error)
        return None

    def _cope(self, error: Exception) -> None:
        """A broken file is moved aside and replaced; after any other fault the cache is not used any more."""
        self.close()
        # OperationalError (locked, full, read-only, not to be opened) says nothing against the content.
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            try:
                if self._broken():  # or else another process has replaced it already
                    aside = self._path.with_name(f"{self._path.name}.broken-{os.getpid()}")
                    for part in _PARTS:
                        with contextlib.suppress(FileNotFoundError):
                            Path(f"{self._path}{part}").replace(f"{aside}{part}")
                    log.warning("the judge's kept answers are broken (%s): moved to %s, a new file is begun", error, aside)
                self._open()
                return
            except (OSError, sqlite3.Error) as again:
                error = again
                self.close()
        log.warning("the judge's answers are not kept: %s cannot be used (%s)", self._path, error)

    def _broken(self) -> bool:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_WAIT_S)) as database:
                return bool(database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return True


def _key(identity: str, prompt: str) -> bytes:
    return hashlib.sha256(json.dumps([identity, PROMPT_VERSION, FORM, prompt]).encode()).digest()


def _proof(key: bytes, text: bytes) -> bytes:
    """What a text is kept with, so that another one is not taken for it."""
    return hashlib.sha256(key + text).digest()[:_PROOF]
