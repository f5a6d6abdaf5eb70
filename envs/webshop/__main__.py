"""`python -m envs.webshop serve [key=value ...]`: the shop as a plain web page on this machine, to see what an agent sees."""

from __future__ import annotations

import argparse
import errno
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from envs.common.streams import guarded
from envs.common.structured import ConfigError, build, describe, keys
from envs.webshop.config import WebShopConfig
from envs.webshop.serve import ServeConfig, Shopfront


@guarded()
def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C. Exit status: 0, or 2 if the settings, the shop or the port cannot be had."""
    given = _parser().parse_args(arguments)
    try:
        config = build(ServeConfig, dict(_pair(entry) for entry in given.settings))
        with Shopfront(config) as shopfront:
            print(f"WebShop is at {shopfront.url} (Ctrl-C ends it)", flush=True)
            shopfront.serve_forever()
    except KeyboardInterrupt:
        print("\nWebShop is closed")
        return 0
    except ValueError as error:  # of the settings, or of the files that they name
        # The shop names settings as a training run does, where they stand in the section env.
        return _fail(re.sub(rf"\benv\.({'|'.join(keys(WebShopConfig))})\b", r"\1", str(error)))
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
        return _fail(f"port {config.port} {reason}; choose another one, or port=0 for any that is free")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m envs.webshop", description="WebShop, to be looked at.")
    serve = parser.add_subparsers(required=True, metavar="serve").add_parser(
        "serve",
        help="the shop as a web page on this machine",
        description="The shop as a web page on this machine, with what an agent is told of each page.",
        epilog="\n".join(["settings:", *_settings(), "", "python -m agents.train --help env has their meaning"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("settings", nargs="*", metavar="key=value", help="for example goals=human port=8080 task=goal/000042")
    return parser


def _settings() -> list[str]:
    hints = get_type_hints(ServeConfig, include_extras=True)
    return [
        f"  {field.name:<16} {describe(hints[field.name])}; default {_default(field.default)}" for field in fields(ServeConfig)
    ]


def _default(value: Any) -> str:
    assert value is not MISSING
    return "null" if value is None else str(value)


def _pair(entry: str) -> tuple[str, Any]:
    """`key=value`, the value as JSON writes it if it is JSON (8080, true, null), else as text."""
    key, equals, text = entry.partition("=")
    if not equals:
        raise ConfigError(f"'{entry}' is not of the form key=value")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, text


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
