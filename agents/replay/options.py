"""The command line of a program that writes a page: words, --html FILE, --help, and switches of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from envs.common.structured import ConfigError


def read(program: str, arguments: Sequence[str] | None, *switches: str) -> argparse.Namespace:
    """`words`, `html`, `help`, and each of the switches. Raises ConfigError, but not where help is asked for."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--html", metavar="FILE")
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    try:
        options, unknown = parser.parse_known_intermixed_args(arguments)
    except argparse.ArgumentError as exc:
        raise ConfigError(f"{exc.argument_name}: {exc.message} (see --help)") from exc
    if options.help:
        return options
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]} (see --help)")
    if options.html == "":
        raise ConfigError("--html is empty: name the file of the page, for example --html page.html")
    return options
