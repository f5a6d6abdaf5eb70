"""A speaker behind an address: any server that speaks the OpenAI protocol (vLLM, llama.cpp, a vendor's).

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

from agents.judges.speaker import Said, SpeakerError
from envs.structured import ConfigError


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

    async def ask(self, prompt: str) -> Said:
        """The answer; a call ends after the timeout, however slowly the server goes on. Raises SpeakerError."""
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
        """Whether the server refused one of `options` by name, as OpenAI's newer models do; it is then left out from now on."""
        refused = getattr(error, "param", None)
        if not isinstance(error, self._openai.BadRequestError) or refused not in options or refused == "max_completion_tokens":
            return False
        value = self._options.pop(refused, None)
        if refused == "max_tokens" and value is not None:
            self._options["max_completion_tokens"] = value
        return True

    def _failure(self, error: Exception) -> SpeakerError:
        openai = self._openai
        if isinstance(error, (openai.APITimeoutError, TimeoutError)):
            return SpeakerError("timeout", f"no answer within {self._timeout_s:g} s")
        if isinstance(error, openai.APIConnectionError):
            return SpeakerError("connection", f"{self._address()} cannot be reached ({type(error.__cause__).__name__})")
        if not isinstance(error, openai.APIStatusError):
            return SpeakerError("other", f"{self._address()} sent no answer that can be read ({type(error).__name__})")
        status, told, wait = error.status_code, self._told(str(error)), _wait(error.response.headers.get("retry-after"))
        if status == 429 and error.code != "insufficient_quota":
            return SpeakerError("rate_limit", told, wait)
        if status in (400, 413, 422) and "context" in told.lower():
            return SpeakerError("context", told)
        return SpeakerError("server" if status >= 500 or status in (408, 409) else "refused", told, wait)

    def _address(self) -> str:
        url = self._client.base_url  # without a user's name, password or query
        return f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")

    def _told(self, text: str) -> str:
        """What the server said, as one short line; a server that repeats the key is not believed to do so for good reasons."""
        if self._key:
            text = text.replace(self._key, "***")
        return " ".join(re.sub(r"[^\x20-\x7e]+", " ", text).split())[:300]


def _said(completion: Any) -> Said:
    """Raises AttributeError, IndexError or TypeError for what is no completion."""
    text = completion.choices[0].message.content
    if not isinstance(text, str | None):
        raise TypeError("the answer is no text")
    usage = [getattr(completion.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    return Said(text or "", *(count if isinstance(count, int) else 0 for count in usage))


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
