"""`python -m envs.checker NAME_OR_MODULE:CLASS [key=value ...]`: prints problems, exits 1 if there are any."""

from __future__ import annotations

import argparse
import ast
import os
import sys
from hashlib import sha256

from envs.base import SPLITS
from envs.checker import check, maker_of
from envs.checker.hooks import hooks
from envs.checker.playing import Play
from envs.common.streams import guarded
from envs.common.structured import ConfigError
from envs.registry import UnknownEnvironment, spec


@guarded()
def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 if the environment is fine, 1 if it has problems, 2 if there is no such environment or configuration."""
    parser = argparse.ArgumentParser(prog="python -m envs.checker", description="Check an environment against the contract.")
    parser.add_argument("env", help="registered name or module:Class")
    parser.add_argument("config", nargs="*", metavar="key=value", help="configuration over the defaults")
    parser.add_argument("--episodes", type=int, default=3, help="episodes of the train split (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="root seed of episodes and actions (default 0)")
    given = parser.parse_args(arguments)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        config = dict(_pair(entry) for entry in given.config)
        maker_of(given.env, config)
    except (UnknownEnvironment, ConfigError, ImportError, TypeError) as error:
        print(error, file=sys.stderr)
        return 2
    problems = check(given.env, given.episodes, given.seed, **config)
    for problem in problems:
        print(problem)
    if problems:
        print(f"{given.env}: {len(problems)} problem{'s' * (len(problems) > 1)}")
        return 1
    env = maker_of(given.env, config)()
    splits = {split: list(env.tasks(split)) for split in SPLITS}
    sizes = ", ".join(
        f"{split} {len(tasks)} ({sha256(chr(10).join(tasks).encode()).hexdigest()[:8]})" for split, tasks in splits.items()
    )
    prompt = None if ":" in given.env else spec(given.env).prompt
    report = [
        f"{given.env}: no problem found; splits: {sizes}",
        "optional parts that it has, and what they bring:",
        *hooks(env, prompt, Play(given.seed, splits["train"][0])),
    ]
    print("\n".join(report))
    return 0


def _pair(entry: str) -> tuple[str, object]:
    key, equals, text = entry.partition("=")
    if not equals:
        raise ConfigError(f"'{entry}' is not of the form key=value")
    try:
        return key, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key, text


if __name__ == "__main__":
    sys.exit(main())
