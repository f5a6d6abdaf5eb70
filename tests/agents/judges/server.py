"""A real HTTP server that speaks the OpenAI protocol, and can be told to speak it badly."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Response:
    """What is sent: `text` as a completion, unless a `body` is given."""

    text: str | None = '{"open the door": 1}'
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    hangs: bool = False
    """Sends the head and one byte, then nothing until the server is closed."""
    drips: bool = False
    """Sends a byte now and then until the server is closed."""

    def bytes(self) -> bytes:
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 70, "completion_tokens": 7, "total_tokens": 77}
        completion = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        return json.dumps(completion).encode()


def error(status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> Response:
    """A refusal in the protocol's form."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code, "param": param}}).encode()
    return Response(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


class Server:
    """Answers every request as `reply` says; keeps what it was sent."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any]], Response] = lambda request: Response()
        self.requests: list[dict[str, Any]] = []
        """Bodies, in the order of arrival."""
        self.keys: list[str | None] = []
        """Authorization headers."""
        self.heads: list[dict[str, str]] = []
        """All headers, by their names in small letters."""
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                server._connections.append(self.connection)

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.requests.append(request)
                    server.keys.append(self.headers.get("Authorization"))
                    server.heads.append({name.lower(): value for name, value in self.headers.items()})
                    reply = server.reply(request)
                content = reply.bytes() + b" " * 100_000 * reply.drips
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.hangs:
                    self.wfile.write(content[:1])
                    self.wfile.flush()
                    server._closed.wait()
                    self.close_connection = True
                elif reply.drips:
                    while not server._closed.wait(0.02):
                        self.wfile.write(b" ")
                    self.close_connection = True
                else:
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # a connection that finds no place tries again after a second

            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # a client may leave in the middle of an answer
                    super().handle_error(request, client_address)

        self._http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]

    def answers(self, *replies: Response) -> None:
        """Give these in turn; the last one from then on."""
        left = list(replies)
        self.reply = lambda request: left.pop(0) if len(left) > 1 else left[0]

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Go down: from now on nobody listens at the address."""
        if not self._closed.is_set():
            self._closed.set()
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
