"""The client of a server with the OpenAI API (vLLM, llama.cpp, a vendor's).

The key goes into the requests and nowhere else: not into logs, error texts or files. Asking again is left to `asking`, so that
every call counts.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import re
from email.utils import parsedate_to_datetime
from typing import Any

from agents.judges.client import ClientError, Reply
from envs.common.structured import ConfigError

REFUSAL = re.compile(
    r"(un|not |n't )support|unrecogni[sz]ed|unexpected|unknown|not (permitted|allowed)|extra (field|input)", re.IGNORECASE
)
"""Words by which a server refuses an option."""
MOST_TOKENS = 1 << 31
"""A count of tokens beyond this is none."""


class Endpoint:
    """A model of a server. Holds state: connections, which belong to the event loop of the first call."""

    def __init__(self, model: str, base_url: str | None, key: str | None, max_tokens: int, timeout_s: float) -> None:
        try:
            import openai
        except ImportError:
            raise ConfigError("judge.kind=endpoint needs a package: pip install 'stepcredit[judge]'") from None
        self._openai = openai
        self._model, self._key, self._timeout_s = model, key, timeout_s
        self._client = openai.AsyncOpenAI(api_key=key or "none", base_url=base_url, max_retries=0, timeout=timeout_s)
        self._options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": 0.0}
        self.identity: str | None = f"endpoint {self._client.base_url} {model} {max_tokens}"

    async def ask(self, prompt: str) -> Reply:
        """The answer; a call ends after the timeout, however slowly the server goes on. Raises ClientError."""
        while True:
            options = dict(self._options)
            try:
                async with asyncio.timeout(self._timeout_s):
                    completion = await self._client.chat.completions.create(
                        model=self._model, messages=[{"role": "user", "content": prompt}], **options
                    )
                return _said(completion)
            except Exception as error:  # a server can make a client stumble in any way, and none may stop the run
                if self._without(options, error):
                    continue
                failure = self._failure(error)
            # Raised outside of the handler: the client's error holds the request and its headers, and must not hang on to ours.
            raise failure

    async def close(self) -> None:
        await self._client.close()

    def _without(self, options: dict[str, Any], error: Exception) -> bool:
        """Whether the server refused one of `options` by name, as OpenAI's newer models do; it is then left out from now on.

        Servers in between say it in words alone (`param` is null), or as a path.
        """
        if not isinstance(error, self._openai.APIStatusError) or error.status_code not in (400, 422):
            return False
        param, told = getattr(error, "param", None), _words(error)
        named = param.rpartition(".")[2] if isinstance(param, str) else ""
        if not named and REFUSAL.search(told) and "context" not in told.lower():
            named = next((option for option in options if re.search(rf"\b{option}\b", told)), "")
        if named not in options or named == "max_completion_tokens":
            return False
        value = self._options.pop(named, None)
        if named == "max_tokens" and value is not None:
            self._options["max_completion_tokens"] = value
        return True

    def _failure(self, error: Exception) -> ClientError:
        openai = self._openai
        if isinstance(error, (openai.APITimeoutError, TimeoutError)):
            return ClientError("timeout", f"no answer within {self._timeout_s:g} s")
        if isinstance(error, openai.APIConnectionError):
            return ClientError("connection", f"{self._address()} cannot be reached ({type(error.__cause__).__name__})")
        if not isinstance(error, openai.APIStatusError):
            return ClientError("other", f"{self._address()} sent no answer that can be read ({type(error).__name__})")
        status, told, wait = error.status_code, self._told(_words(error)), _wait(error.response.headers.get("retry-after"))
        if status == 429 and error.code != "insufficient_quota":
            return ClientError("rate_limit", told, wait)
        if status in (400, 413, 422) and "context" in told.lower():
            return ClientError("context", told)
        return ClientError("server" if status >= 500 or status in (408, 409) else "refused", told, wait)

    def _address(self) -> str:
        url = self._client.base_url  # without a user's name, password or query
        return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")

    def _told(self, text: str) -> str:
        """What the server said, as one short line; a server that repeats the key is not believed to do so for good reasons."""
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(re.sub(r"[^\x20-\x7e]+", " ", text).split())[:300]


def _said(completion: Any) -> Reply:
    """Raises AttributeError, IndexError or TypeError for what is no completion."""
    text = completion.choices[0].message.content
    if isinstance(text, list):  # in parts, of which some are text
        text = "".join(_text(part) for part in text)
    if not isinstance(text, str | None):
        raise TypeError("the answer is no text")
    usage = [getattr(completion.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(text or "", *(count if isinstance(count, int) and 0 <= count < MOST_TOKENS else 0 for count in usage))


def _words(error: Any) -> str:
    """All that a server said of an error: the client leaves some bodies out of its message."""
    return str(error) if not error.body or str(error.body) in str(error) else f"{error} {error.body}"


def _text(part: Any) -> str:
    """What a part of an answer says; nothing if it is a thought, a picture or the like."""
    if isinstance(part, str):
        return part
    said = part if isinstance(part, dict) else vars(part)
    return str(said["text"]) if said.get("type") in ("text", "output_text") else ""


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
