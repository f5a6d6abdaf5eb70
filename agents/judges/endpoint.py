"""The client of a server with the OpenAI API (vLLM, llama.cpp, a vendor's).

To the named host go the question and the named key, and nothing else: no setting of another program's, no redirect to another
host. What comes back is bounded before it is read. The key is in no log, error text or file. Asking again is left to `asking`,
so that every call counts.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import logging
import math
import re
import zlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

from agents.config.secrets import SHORTEST
from agents.judges.client import ClientError, Draw, Reply
from envs.common.structured import ConfigError

if TYPE_CHECKING:
    from httpx2 import URL, Response

OPENAI = "https://api.openai.com/v1"
REFUSAL = re.compile(
    r"(un|not |n't )support|unrecogni[sz]ed|unexpected|unknown|not (permitted|allowed)|extra (field|input)", re.IGNORECASE
)
"""Words by which a server refuses an option."""
MOST_TOKENS = 10_000_000
"""A count of tokens beyond this is none."""
MOST_BYTES = 2 << 20
"""Of an answer, unpacked: the longest one of a model that thinks has a tenth of it."""


class Endpoint:
    """A model of a server. Holds state: connections, which belong to the event loop of the first call."""

    def __init__(self, model: str, base_url: str | None, key: str | None, max_tokens: int, timeout_s: float) -> None:
        try:
            import httpx2
        except ImportError:
            raise ConfigError("judge.kind=endpoint needs a package: pip install 'stepcredit[judge]'") from None
        self._httpx = httpx2
        self._model, self._timeout_s = model, timeout_s
        try:
            url = httpx2.URL(base_url or OPENAI)
        except httpx2.InvalidURL as error:
            raise ConfigError(f"judge.base_url is no address: {error}") from None
        auth = (url.username, url.password) if url.userinfo else None
        self._secrets = [secret for secret in (key, *_secrets(url)) if secret]
        self._url = url.copy_with(userinfo=b"", path=url.path.rstrip("/") + "/chat/completions")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "stepcredit"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            self._client = httpx2.AsyncClient(
                headers=headers,
                auth=auth,
                trust_env=False,  # or else it sends what other programs' settings name, and question and key to a proxy
                proxy=_tunnel(self._url.scheme, self._url.host) or None,
                follow_redirects=False,
                timeout=None,
                limits=httpx2.Limits(max_connections=None),
            )
        except (ImportError, ValueError):
            raise ConfigError(
                "the proxy that the environment variable https_proxy names cannot be used for the judge: it must be http:// or "
                "https://; or name the judge's host in no_proxy"
            ) from None
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # which logs addresses, with what their query holds
        self._options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": 0.0}
        self._refused: set[str] = set()
        """Options that the server does not know."""
        self.identity: str | None = f"endpoint {(base_url or OPENAI).rstrip('/')}/ {model} {max_tokens}"

    async def ask(self, prompt: str, draw: Draw | None = None) -> Reply:
        """The answer; a call ends after the timeout, however slowly the server goes on. Raises ClientError.

        A drawn answer comes with a seed, which not every server heeds.
        """
        while True:
            drawn = {} if draw is None else {"temperature": draw.temperature, "seed": draw.number}
            options = self._options | {name: value for name, value in drawn.items() if name not in self._refused}
            try:
                async with asyncio.timeout(self._timeout_s):
                    status, wait, body = await self._post({**self._asked(prompt), **options})
                if status < 300:
                    return _said(_parsed(body))
                if self._without(options, status, _parsed(body, fallback={})):
                    continue
                failure = self._refusal(status, wait, body)
            except ClientError as error:
                failure = error
            except Exception as error:  # a server can make a client stumble in any way, and none may stop the run
                failure = self._failure(error)
            # Raised outside of the handler: the client's error holds the request and its headers, and must not hang on to ours.
            raise failure.with_traceback(None) from None

    async def close(self) -> None:
        await self._client.aclose()

    def _asked(self, prompt: str) -> dict[str, Any]:
        return {"model": self._model, "messages": [{"role": "user", "content": prompt}]}

    async def _post(self, question: dict[str, Any]) -> tuple[int, float | None, bytes]:
        """Status, seconds to wait, and body of the answer. Raises ClientError for one that is too long."""
        async with self._client.stream("POST", self._url, json=question) as response:
            status = response.status_code
            if response.is_redirect:
                raise ClientError(
                    "refused", self._told(f"the server sends on to {_elsewhere(response)}, which is not followed")
                )
            return status, _wait(response.headers.get("retry-after")), await _bounded(response)

    def _without(self, options: dict[str, Any], status: int, answer: Any) -> bool:
        """Whether the server refused one of `options` by name, as OpenAI's newer models do; it is then left out from now on.

        Servers in between say it in words alone (`param` is null), or as a path.
        """
        if status not in (400, 422):
            return False
        param, told = _error(answer).get("param"), _words(answer)
        named = param.rpartition(".")[2] if isinstance(param, str) else ""
        if not named and REFUSAL.search(told) and "context" not in told.lower():
            named = next((option for option in options if re.search(rf"\b{option}\b", told)), "")
        if named not in options or named == "max_completion_tokens":
            return False
        value = self._options.pop(named, None)
        self._refused.add(named)
        if named == "max_tokens" and value is not None:
            self._options["max_completion_tokens"] = value
        return True

    def _refusal(self, status: int, wait: float | None, body: bytes) -> ClientError:
        """What an answer means that is none."""
        answer = _parsed(body, fallback=body.decode(errors="replace"))
        told = self._told(f"error {status}: {_words(answer)}")
        if status == 429 and _error(answer).get("code") != "insufficient_quota":
            return ClientError("rate_limit", told, wait)
        if status in (400, 413, 422) and "context" in told.lower():
            return ClientError("context", told)
        return ClientError("server" if status >= 500 or status in (408, 409) else "refused", told, wait)

    def _failure(self, error: Exception) -> ClientError:
        if isinstance(error, TimeoutError):
            return ClientError("timeout", f"no answer within {self._timeout_s:g} s")
        if isinstance(error, self._httpx.TransportError):
            return ClientError("connection", f"{self._address()} cannot be reached ({type(error).__name__})")
        return ClientError("other", f"{self._address()} sent no answer that can be read ({type(error).__name__})")

    def _address(self) -> str:
        return _origin(self._url)

    def _told(self, text: str) -> str:
        """What the server said, as one short line; a server that repeats a secret is not believed to do so for good reasons."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(re.sub(r"[^\x20-\x7e]+", " ", text).split())[:300]


def _tunnel(scheme: str, host: str) -> str:
    """The proxy of the environment for an encrypted connection, whose content it cannot see; "": none."""
    if scheme != "https" or proxy_bypass(host):
        return ""
    proxy = getproxies().get("https") or getproxies().get("all") or ""
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"


async def _bounded(response: Response) -> bytes:
    """The body, unpacked. Raises ClientError if it has more than MOST_BYTES, packed or unpacked, or is packed in an odd way."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise ClientError("other", f"the answer is packed as {encoding[:30]!a}, which was not asked for")
    unpacker = None if encoding in ("identity", "") else zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk if unpacker is None else unpacker.decompress(chunk, MOST_BYTES + 1 - len(body))
        if len(body) > MOST_BYTES:
            raise ClientError("other", f"the answer is longer than {MOST_BYTES} bytes")
    return bytes(body)


def _parsed(body: bytes, fallback: Any = None) -> Any:
    """The JSON of a body; the fallback, if there is one, for what is none. Raises ValueError, RecursionError."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        if fallback is None:
            raise
        return fallback


def _said(completion: Any) -> Reply:
    """Raises KeyError, IndexError or TypeError for what is no completion."""
    text = completion["choices"][0]["message"]["content"]
    if isinstance(text, list):  # in parts, of which some are text
        text = "".join(_text(part) for part in text)
    if not isinstance(text, str | None):
        raise TypeError("the answer is no text")
    usage = completion.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    return Reply(text or "", *(count if type(count) is int and 0 <= count < MOST_TOKENS else 0 for count in counts))


def _error(answer: Any) -> dict[str, Any]:
    """The protocol's error object, if there is one."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}


def _words(answer: Any) -> str:
    """All that a server said of an error."""
    message = _error(answer).get("message")
    return f"{message} {answer}" if isinstance(message, str) else str(answer)


def _secrets(url: URL) -> list[str]:
    """What of an address nobody else may read, in every form in which it is sent."""
    raw = url.userinfo.decode()
    sent = base64.b64encode(f"{url.username}:{url.password}".encode()).decode() if raw else ""
    password = url.password or url.username  # a key may stand there alone
    asked = [value for value in url.params.values() if len(value) >= SHORTEST]
    return [raw, sent, raw.rpartition(":")[2], password, url.query.decode(), *asked]


def _elsewhere(response: Response) -> str:
    try:
        return _origin(response.url.join(response.headers.get("location", "")))
    except Exception:  # whatever is no address
        return "nowhere"


def _origin(url: Any) -> str:
    """An address without a user's name, password or query."""
    return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")


def _text(part: Any) -> str:
    """What a part of an answer says; nothing if it is a thought, a picture or the like."""
    if isinstance(part, str):
        return part
    return str(part["text"]) if part.get("type") in ("text", "output_text") else ""


def _wait(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date; None if it says nothing that can be read."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        try:
            when = parsedate_to_datetime(header or "")
            seconds = (when - datetime.datetime.now(when.tzinfo)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
