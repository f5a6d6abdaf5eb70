"""Serves the shop to browsers on this machine: visitors, what they may ask for, and what is refused.

Pages are made in `browser.py`, settings are read in `__main__.py`. Only the loopback interface is listened to, and a request
must name it as its host, so that no name on the internet can be made to lead here. What changes something comes by POST and
from a page of this server. An address says which page of a visit it is; from an old page nothing can be done, it leads to the
new one.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np

from envs.base import SPLITS, TaskError
from envs.common.structured import AtLeast, AtMost
from envs.webshop import browser, tasks
from envs.webshop.config import WebShopConfig
from envs.webshop.env import WebShopEnv
from envs.webshop.shop import open_shop

HOST = "127.0.0.1"
MOST_VISITS = 200
"""Visits kept; for another one the visit is given up that was left alone for the longest time."""
MOST_BYTES = 16_384
"""Of a form."""

_OLD = "old"
"""Query of an address that was come to from an old page."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all a browser would not tell a form's origin either
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",
}
_ERROR = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>%(code)d %(message)s</title><link rel="stylesheet" href="/style.css"></head>
<body><main class="start"><h1>%(message)s</h1><p>%(explain)s</p><p><a href="/">To the entrance</a></p></main></body>
</html>
"""


@dataclass
class ServeConfig(WebShopConfig):
    """What to serve: the environment's settings, and where."""

    port: Annotated[int, AtLeast(0), AtMost(65535)] = 3000
    """0: any that is free."""
    task: str | None = None
    """The goal that the entrance offers, such as goal/000123; None: none in particular."""


class Visit(WebShopEnv):
    """One visitor's episode: the agent's environment, open to view and without its time limit."""

    def __init__(self, config: WebShopConfig, task: str) -> None:
        """Raises TaskError if there is no such task."""
        super().__init__(config)
        self.task, self.steps, self.action = task, 0, ""
        self.turn = self.start(task, np.random.default_rng(0))

    def do(self, action: str) -> None:
        """Take one step."""
        self.turn, self.action, self.steps = self.act(action), action, self.steps + 1


class Answer(NamedTuple):
    """What is sent back if a request is not refused."""

    body: str = ""
    status: HTTPStatus = HTTPStatus.OK
    location: str | None = None
    kind: str = "text/html"


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Shopfront(ThreadingHTTPServer):
    """The server, with the visits that are under way. Requests are answered one at a time."""

    daemon_threads = True

    def __init__(self, config: ServeConfig) -> None:
        """Open the shop, then the port. Raises ValueError for settings, TaskError for files, OSError for the port."""
        self._config, env = config, WebShopEnv(config)
        self._splits: dict[str, Sequence[str]] = {split: env.tasks(split) for split in SPLITS}
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._lock = Lock()
        if config.task is not None:
            tasks.number(env.shop, config.task)
        super().__init__((HOST, config.port), _Handler)
        port = "" if self.server_port == 80 else f":{self.server_port}"
        self.hosts = [f"{name}{port}" for name in (HOST, "localhost")]
        """What requests may be addressed to."""

    @property
    def url(self) -> str:
        """Of the entrance."""
        return f"http://{self.hosts[0]}/"

    def show(self, target: str) -> Answer:
        """The page at an address. Raises Refused."""
        path, _, query = target.partition("?")
        with self._lock:
            if path == "/":
                return self._entrance()
            if path == "/style.css":
                return Answer(browser.STYLE, kind="text/css")
            token, visit = self._find(path)
            if path != _address(token, visit):
                return _see(f"{_address(token, visit)}?{_OLD}")
            alert = "" if visit.turn.valid else f"Nothing happened, this is not possible here: {visit.action}"
            if query == _OLD:
                alert = "You came from an old page; nothing can be done there any more. The visit is here."
            page = browser.visit_page(visit.session, visit.turn, visit.task, visit.steps, visit.config, alert)
            return Answer(page)

    def submit(self, target: str, fields: dict[str, str]) -> Answer:
        """Do what was sent to an address. Raises Refused."""
        path = target.partition("?")[0]
        with self._lock:
            if path == "/":
                return self._enter(fields)
            token, visit = self._find(path)
            action = _action(fields)
            if path != _address(token, visit):
                return _see(f"{_address(token, visit)}?{_OLD}")
            visit.do(action)
            return _see(_address(token, visit))

    def _find(self, path: str) -> tuple[str, Visit]:
        token = path[1:].partition("/")[0]
        if token not in self._visits:
            raise Refused(HTTPStatus.NOT_FOUND, f"There is no such page. Only the last {MOST_VISITS} visits are kept.")
        self._visits.move_to_end(token)
        return token, self._visits[token]

    def _entrance(self, error: str = "") -> Answer:
        config = self._config
        shop = open_shop(config)
        facts = f"{len(shop.products):,} products, {len(shop.goals):,} goals ({config.source}, {config.goals})."
        splits = {name: len(ids) for name, ids in self._splits.items() if ids}
        page = browser.start_page(facts, splits, config.task or "", error)
        return Answer(page, HTTPStatus.BAD_REQUEST if error else HTTPStatus.OK)

    def _enter(self, fields: dict[str, str]) -> Answer:
        match fields:
            case {"split": name} if self._splits.get(name):
                task = secrets.choice(self._splits[name])
            case {"task": task}:
                number = re.fullmatch(r"\s*([0-9]{1,9})\s*", task)
                task = f"goal/{int(number[1]):06d}" if number else task.strip()
            case _:
                raise Refused(HTTPStatus.BAD_REQUEST, "A visit begins with a split or a goal.")
        try:
            visit = Visit(self._config, task)
        except TaskError as error:
            return self._entrance(str(error))
        token = secrets.token_urlsafe(16)
        self._visits[token] = visit
        if len(self._visits) > MOST_VISITS:
            self._visits.popitem(last=False)
        return _see(_address(token, visit))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Visitors who hang up or fall silent are no error of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _address(token: str, visit: Visit) -> str:
    return f"/{token}/{visit.steps}"


def _see(path: str) -> Answer:
    return Answer(status=HTTPStatus.SEE_OTHER, location=path)


def _action(fields: dict[str, str]) -> str:
    match fields:
        case {"action": action}:
            return action
        case {"option": value}:
            return f"click[{value}]"
        case {"search_query": query}:
            return f"search[{query}]"
    raise Refused(HTTPStatus.BAD_REQUEST, "A form has one of the fields action, option and search_query.")


class _Handler(BaseHTTPRequestHandler):
    server: Shopfront
    timeout = 30  # seconds of silence
    error_message_format = _ERROR

    def do_GET(self) -> None:
        self._answer(lambda: self.server.show(self.path))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(lambda: self.server.submit(self.path, self._fields()))

    def _answer(self, answer: Callable[[], Answer]) -> None:
        try:
            self._check_request()
            body, status, location, kind = answer()
        except Refused as refused:
            self.send_error(refused.status, explain=refused.reason)
            return
        content = body.encode("utf-8", errors="replace")
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _check_request(self) -> None:
        if self.request_version == "HTTP/0.9":
            raise Refused(HTTPStatus.BAD_REQUEST, "An answer by HTTP/0.9 would have no headers to keep others out.")
        host = self.headers.get_all("Host", [])
        if len(host) != 1 or host[0] not in self.server.hosts:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, f"This is {self.server.url} and answers to no other name.")

    def _fields(self) -> dict[str, str]:
        """The form that was posted; only pages of this server may do so."""
        length = self.headers.get_all("Content-Length", [])
        if len(length) != 1 or not re.fullmatch(r"[0-9]{1,12}", length[0]):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "A form comes with its length.")
        if int(length[0]) > MOST_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A form has at most {MOST_BYTES} bytes.")
        content = self.rfile.read(int(length[0]))  # also of a form that is refused: who is still sending hears no answer
        if self.headers.get_all("Origin", []) != [f"http://{self.headers['Host']}"]:
            raise Refused(HTTPStatus.FORBIDDEN, "Forms are only taken from this shop's own pages.")
        if self.headers.get_content_type() != "application/x-www-form-urlencoded":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A form is sent as application/x-www-form-urlencoded.")
        try:
            pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=8)
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "The form cannot be read.") from error
        fields = dict(pairs)
        if len(content) != int(length[0]) or len(fields) != len(pairs):
            raise Refused(HTTPStatus.BAD_REQUEST, "The form is incomplete, or has a field twice.")
        return fields

    def end_headers(self) -> None:
        """Every answer has the headers that keep others out."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """Nobody needs to know Python's version."""
        return "WebShop"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: visits are not logged."""
