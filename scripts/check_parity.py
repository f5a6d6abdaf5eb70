"""Prove that an environment of this project equals the official one: `python scripts/check_parity.py alfworld --games DIR ...`

`python scripts/check_parity.py webshop --data DIR --episodes FILE ...` compares the shop with recordings of the official one.
Exit code 0: no difference; 1: at least one; 2: the input cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from envs.alfworld import parity
from envs.alfworld.engine import Engine
from envs.alfworld.game import parse_game, read_json
from envs.base import TaskError
from envs.common.seeding import derive, generator
from envs.webshop import parity as webshop_parity
from envs.webshop.config import WebShopConfig
from envs.webshop.shop import Shop, open_shop

SHOWN = 10
"""Differences that are shown in full; all are counted."""


@dataclass
class Tally:
    """What one check compared and found."""

    check: str
    games: int = 0
    steps: int = 0
    differences: list[str] = field(default_factory=list)


def main(argv: list[str] | None = None) -> int:
    """Run the checks that the arguments ask for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    environments = parser.add_subparsers(dest="env", required=True)
    alfworld = environments.add_parser("alfworld", help="our engine against TextWorld's")
    alfworld.add_argument(
        "--games", type=Path, required=True, help="folder of train/, valid_seen/ .. or of .tar.xz, or one .tar.xz"
    )
    alfworld.add_argument("--transcripts", type=Path, help="JSONL(.gz) recorded with the official engine: replay it")
    alfworld.add_argument("--walkthroughs", action="store_true", help="play every game's walkthrough: it must win")
    alfworld.add_argument("--engine", choices=["textworld"], help="compare live with the installed official engine")
    alfworld.add_argument("--sample", type=int, default=20, help="games for --engine, drawn with --seed (default 20)")
    alfworld.add_argument("--steps", type=int, default=60, help="random steps a game for --engine (default 60)")
    alfworld.add_argument("--seed", type=int, default=0)
    alfworld.set_defaults(run=check_alfworld)
    webshop = environments.add_parser("webshop", help="our shop against recordings of the official one")
    webshop.add_argument("--data", type=Path, required=True, help="folder of the official files that were recorded with")
    webshop.add_argument("--episodes", type=Path, action="append", default=[], help="JSONL(.gz) of episodes (may be repeated)")
    webshop.add_argument("--rewards", type=Path, help="JSONL(.gz) of purchases and what they scored: score them again")
    webshop.add_argument("--trajectories", type=Path, help="JSONL(.gz) of experts' trajectories: follow them")
    webshop.add_argument("--human", action="store_true", help="--rewards and --trajectories number people's goals")
    webshop.set_defaults(run=check_webshop)
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        tallies = arguments.run(arguments, console)
    except (TaskError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report(console, arguments.env, tallies)
    return 1 if any(tally.differences for tally in tallies) else 0


def report(console: Console, title: str, tallies: Iterable[Tally]) -> None:
    """The table, and the first differences of each check below it."""
    table = Table("check", "episodes", "values compared", "differences", title=f"{title}: parity with the official engine")
    for column in table.columns[1:]:
        column.justify = "right"
    for tally in tallies:
        style = "red" if tally.differences else "green"
        table.add_row(tally.check, f"{tally.games:,}", f"{tally.steps:,}", f"[{style}]{len(tally.differences):,}")
    console.print(table)
    for tally in tallies:
        for difference in tally.differences[:SHOWN]:
            console.print(f"{tally.check}: {difference}", markup=False, highlight=False, soft_wrap=True)
        if len(tally.differences) > SHOWN:
            console.print(f"{tally.check}: ... and {len(tally.differences) - SHOWN:,} more")


# -- ALFWorld ------------------------------------------------------------------------------------------------------------------


def check_alfworld(arguments: argparse.Namespace, console: Console) -> list[Tally]:
    """All checks asked for, in one table."""
    if not (arguments.transcripts or arguments.walkthroughs or arguments.engine):
        raise TaskError("nothing to check: give --transcripts FILE, --walkthroughs or --engine textworld")
    tallies = []
    if arguments.transcripts:
        tallies.append(_transcripts(arguments.games, arguments.transcripts))
    if arguments.walkthroughs:
        tallies += _walkthroughs(arguments.games)
    if arguments.engine:
        tallies.append(_live(arguments, console))
    return tallies


def _transcripts(games: Path, file: Path) -> Tally:
    tally = Tally("transcripts")
    transcripts = parity.read_transcripts(file)
    wanted = frozenset(transcript.game for transcript in transcripts)
    engines = {name: Engine(parse_game(read_json(data, name), name)) for name, data in parity.read_games(games, wanted)}
    missing = sorted(wanted - engines.keys())
    if missing:
        raise TaskError(f"{games}: {len(missing)} games of {file.name} are not there, {missing[0]} among them")
    tally.games = len(engines)
    for transcript in transcripts:
        tally.steps += len(transcript.steps)
        tally.differences += map(str, parity.replay(engines[transcript.game], transcript))
    return tally


def _walkthroughs(games: Path) -> list[Tally]:
    tallies: dict[str, Tally] = {}
    for name, data in parity.read_games(games):
        split = name.split("/")[0]
        tally = tallies.setdefault(split, Tally(f"walkthroughs {split}"))
        tally.games += 1
        try:
            engine = Engine(parse_game(read_json(data, name), name))
        except TaskError as error:
            tally.differences.append(str(error))
            continue
        tally.steps += len(engine.game.walkthrough)
        if not parity.wins_by_walkthrough(engine):
            tally.differences.append(f"{name}: its walkthrough does not win: {list(engine.game.walkthrough)}")
    return list(tallies.values())


def _live(arguments: argparse.Namespace, console: Console) -> Tally:
    from envs.alfworld.textworld_backend import TextWorldEngine, require

    require()
    names = sorted(name for name, _ in parity.read_games(arguments.games))
    if not names:
        raise TaskError(f"{arguments.games}: holds no game")
    rng = np.random.default_rng(derive(arguments.seed, "parity"))
    chosen = rng.choice(names, size=min(arguments.sample, len(names)), replace=False)
    tally = Tally("live")
    verbs: Counter[str] = Counter()
    for name, data in parity.read_games(arguments.games, frozenset(map(str, chosen))):
        contents = read_json(data, name)
        official = TextWorldEngine(contents, name)
        transcript = parity.record(official, name, generator(arguments.seed, "parity", name), arguments.steps)
        official.close()
        tally.games += 1
        tally.steps += len(transcript.steps)
        verbs.update((step["action"] or "").strip().split(" ")[0] for step in transcript.steps if step["action"])
        tally.differences += map(str, parity.replay(Engine(parse_game(contents, name)), transcript))
        console.print(f"{name}: {len(transcript.steps)} steps, {len(tally.differences)} differences so far", style="dim")
    console.print("commands tried: " + ", ".join(f"{verb or '(empty)'} {n}" for verb, n in verbs.most_common()), style="dim")
    return tally


# -- WebShop -------------------------------------------------------------------------------------------------------------------


def check_webshop(arguments: argparse.Namespace, console: Console) -> list[Tally]:
    """All checks asked for, in one table with a row for each kind of value that is compared."""
    if not (arguments.episodes or arguments.rewards or arguments.trajectories):
        raise TaskError("nothing to check: give --episodes FILE, --rewards FILE or --trajectories FILE")
    tallies: dict[str, Tally] = {}
    for file in arguments.episodes:
        recording = webshop_parity.read_recording(file)
        shop = _shop(arguments.data, recording.human, len(recording.prices))
        words = "human" if recording.human else "synthetic"
        _count(tallies, words, webshop_parity.compare_prices(shop, recording))
        for episode in recording.episodes:
            _count(tallies, words, webshop_parity.replay(shop, episode))
    if arguments.rewards:
        shop = _shop(arguments.data, arguments.human)
        for purchase in webshop_parity.read_purchases(arguments.rewards):
            _count(tallies, "purchases", webshop_parity.score_again(shop, purchase))
    if arguments.trajectories:
        shop = _shop(arguments.data, arguments.human)
        for trajectory in webshop_parity.read_trajectories(arguments.trajectories):
            _count(tallies, "trajectories", webshop_parity.follow(shop, trajectory))
    return list(tallies.values())


def _shop(data: Path, human: bool, products: int | None = None) -> Shop:
    goals: Literal["human", "synthetic"] = "human" if human else "synthetic"
    return open_shop(WebShopConfig(source="official", data=str(data), goals=goals, products=products))


def _count(tallies: dict[str, Tally], source: str, comparisons: Iterable[webshop_parity.Comparison]) -> None:
    """Add the comparisons of one episode (or purchase) to the row of each kind of value."""
    seen = set()
    for comparison in comparisons:
        name = f"{source}: {comparison.field}"
        tally = tallies.setdefault(name, Tally(name))
        tally.games += name not in seen
        tally.steps += 1
        seen.add(name)
        if not comparison.equal:
            tally.differences.append(str(comparison))


if __name__ == "__main__":
    sys.exit(main())
