"""CPU seconds and memory of iterations, noted by the environment that is played, so in the same way on all sides."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


def spent() -> dict[str, float]:
    """CPU seconds so far and peak resident bytes, summed over this process and all that it started and that still run."""
    children: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(stat.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    mine, todo = [], [os.getpid()]
    while todo:
        mine.append(todo.pop())
        todo += children.get(mine[-1], [])
    return {"cpu": sum(seconds[pid] for pid in mine if pid in seconds), "peak": float(sum(map(_peak, mine)))}


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


@dataclass
class Clock:
    """Notes what was spent whenever an iteration begins, and when its last answer was given."""

    cycles: int
    """Iterations between two notes, the first included, which is not counted."""
    ended: Callable[[], dict[str, float]] = dict
    """Asked when the last one is over, for what the side counts itself; the process ends then."""
    out: Path | None = None
    began: list[dict[str, float]] = field(default_factory=list)
    played: list[dict[str, float]] = field(default_factory=list)
    resets: int = 0

    def reset(self) -> None:
        """An episode begins. All of an iteration begin before one of them ends; what is tried out before does not count."""
        self.resets += 1
        if len(self.began) == len(self.played):
            self.began.append(spent())
            if len(self.began) > self.cycles:
                self._write()

    def answered(self) -> None:
        """The last answer of an episode was given."""
        del self.played[len(self.began) - 1 :]
        self.played.append(spent())

    def _write(self) -> None:
        assert self.out is not None
        whole = [after["cpu"] - before["cpu"] for before, after in zip(self.began, self.began[1:])][1:]
        rollout = [after["cpu"] - before["cpu"] for before, after in zip(self.began, self.played)][1:]
        found = {
            "cpu_s": median(whole),
            "rollout_cpu_s": median(rollout),
            "update_cpu_s": median(whole) - median(rollout),
            "peak_mib": self.began[-1]["peak"] / 2**20,
            "loaded_mib": self.began[0]["peak"] / 2**20,
        }
        self.out.write_text(json.dumps(found | self.ended()))
        sys.stdout.flush()
        os._exit(0)  # what follows (saving, plots) is not measured


CLOCK = Clock(cycles=0)
"""This process's, where it is one that is measured."""
