"""A server that speaks the OpenAI protocol, well and badly: every failure has a kind, and the key is seen by nobody else."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import socket
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents.judges.client import ClientError, Reply
from agents.judges.endpoint import Endpoint, _wait
from envs.common.structured import ConfigError
from tests.agents.judges.server import Response, Server, error

KEY = "sk-secret-0123456789"

pytest.importorskip("httpx2")


def asked(server: Server, runner: asyncio.Runner, prompt: str = "Was it?", timeout_s: float = 600.0) -> Reply:
    """One question to a new client."""
    return runner.run(_ask(lambda: Endpoint("judge-7b", server.url, KEY, 160, timeout_s), prompt))


async def _ask(make: Callable[[], Endpoint], prompt: str) -> Reply:
    endpoint = make()
    try:
        return await endpoint.ask(prompt)
    finally:
        await endpoint.close()


def failure(server: Server, runner: asyncio.Runner, timeout_s: float = 600.0) -> ClientError:
    with pytest.raises(ClientError) as raised:
        asked(server, runner, timeout_s=timeout_s)
    return raised.value


def test_a_question_is_one_message_at_temperature_0(server: Server, runner: asyncio.Runner) -> None:
    assert asked(server, runner) == Reply('{"open the door": 1}', 70, 7)
    assert server.requests == [
        {
            "model": "judge-7b",
            "messages": [{"role": "user", "content": "Was it?"}],
            "max_tokens": 160,
            "temperature": 0.0,
        }
    ]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(500, "boom"), "server"),
        (error(503, "overloaded"), "server"),
        (error(429, "slow down", Retry_After="3"), "rate_limit"),
        (error(429, "no money left", code="insufficient_quota"), "refused"),
        (error(401, "who are you"), "refused"),
        (error(404, "no such model"), "refused"),
        (error(400, "This model's maximum context length is 4096 tokens", code="context_length_exceeded"), "context"),
        (error(400, "the request exceeds the available context size"), "context"),
        (error(400, "no"), "refused"),
        (Response(body=b'{"choices": [{"mess'), "other"),
        (Response(body=b""), "other"),
        (Response(body=b"[]"), "other"),
        (Response(body=b"null"), "other"),
        (Response(body=b'{"choices": []}'), "other"),
        (Response(body=b'{"choices": [{"message": {"content": 7}}]}'), "other"),
        (Response(body=b"[" * 100_000), "other"),
        (Response(body=b"\xff\xfe\x00", kind="application/json"), "other"),
        (Response(body=b"<html>Please log in</html>", kind="text/html"), "other"),
        (Response(body=b"no gzip", headers={"Content-Encoding": "gzip"}), "other"),
        (Response(body=b"whatever", headers={"Content-Encoding": "br"}), "other"),
        (Response(body=gzip.compress(gzip.compress(b"{}")), headers={"Content-Encoding": "gzip, gzip"}), "other"),
        (Response(status=500, body=b" " * (3 << 20)), "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_has_a_kind(server: Server, runner: asyncio.Runner, reply: Response, kind: str) -> None:
    server.answers(reply)
    assert failure(server, runner).kind == kind


def test_a_failed_call_is_not_repeated_behind_our_back(server: Server, runner: asyncio.Runner) -> None:
    server.answers(error(500, "boom"))
    failure(server, runner)
    assert len(server.requests) == 1


@pytest.mark.fault("a judge's server is down", lost="verdicts, which are asked for later")
def test_a_server_that_is_down_cannot_be_reached(server: Server, runner: asyncio.Runner) -> None:
    server.close()
    assert failure(server, runner).kind == "connection"


@pytest.mark.fault("a judge's server hangs", lost="that verdict")
@pytest.mark.parametrize("reply", [Response(hangs=True), Response(drips=True)], ids=["silent", "byte by byte"])
def test_a_server_that_begins_and_never_ends_is_left(server: Server, runner: asyncio.Runner, reply: Response) -> None:
    server.answers(reply)
    assert failure(server, runner, timeout_s=0.2).kind == "timeout"


def test_the_right_content_under_a_wrong_content_type_is_read(server: Server, runner: asyncio.Runner) -> None:
    server.answers(Response(kind="text/plain"))
    assert asked(server, runner).text == '{"open the door": 1}'


def test_tokens_that_are_not_told_are_0_and_no_words_are_an_empty_answer(server: Server, runner: asyncio.Runner) -> None:
    server.answers(Response(body=b'{"choices": [{"message": {"content": null}}], "usage": {"prompt_tokens": "many"}}'))
    assert asked(server, runner) == Reply("", 0, 0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": '{"a": '}, {"type": "text", "text": "1}"}], '{"a": 1}'),
        ([{"type": "thinking", "thinking": "{}"}, {"type": "output_text", "text": "{}"}], "{}"),
        (["{}"], "{}"),
        ([], ""),
    ],
)
def test_an_answer_in_parts_is_their_text(server: Server, runner: asyncio.Runner, content: Any, text: str) -> None:
    server.answers(Response(body=json.dumps({"choices": [{"message": {"content": content}}]}).encode()))
    assert asked(server, runner).text == text


@pytest.mark.fault("a judge's server sends an answer without end, or one that unpacks to gigabytes", lost="that verdict")
@pytest.mark.parametrize("body", [b" " * (64 << 20), b"[" * (64 << 20), b'{"choices": "' + b"x" * (64 << 20)])
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_an_answer_without_end_is_left_before_it_fills_the_memory(
    server: Server, runner: asyncio.Runner, body: bytes, packed: str | None
) -> None:
    pack = {None: bytes, "gzip": partial(gzip.compress, compresslevel=1), "deflate": partial(zlib.compress, level=1)}[packed]
    server.answers(Response(body=pack(body), headers={"Content-Encoding": packed} if packed else {}))
    tracemalloc.start()
    try:
        raised = failure(server, runner)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert raised.kind == "other"
    assert "longer than 2097152 bytes" in str(raised)
    assert peak < 16 << 20


@pytest.mark.fault("a judge's server counts nonsense", lost="the count")
@pytest.mark.parametrize("count", [-5, 10**400, 2**31 - 1, 1e30, True, None, "7", [7]])
def test_a_count_of_tokens_that_can_be_none_is_0(server: Server, runner: asyncio.Runner, count: Any) -> None:
    answer = {"choices": [{"message": {"content": "{}"}}], "usage": {"prompt_tokens": count, "completion_tokens": 3}}
    server.answers(Response(body=json.dumps(answer).encode()))
    said = asked(server, runner)
    assert said.prompt_tokens == 0
    assert said.answer_tokens == 3


def test_a_compressed_answer_and_one_that_is_not_unicode_are_read(server: Server, runner: asyncio.Runner) -> None:
    server.answers(Response(body=gzip.compress(Response('{"a": 1}').bytes()), headers={"Content-Encoding": "gzip"}))
    assert asked(server, runner).text == '{"a": 1}'
    server.answers(Response(body=rb'{"choices": [{"message": {"content": "\ud800"}}]}'))
    assert asked(server, runner).text == "\ud800"


def test_options_that_a_newer_model_refuses_are_left_out_from_then_on(server: Server, runner: asyncio.Runner) -> None:
    def reply(request: dict[str, Any]) -> Response:
        if "max_tokens" in request:
            return error(400, "Use 'max_completion_tokens' instead.", code="unsupported_parameter", param="max_tokens")
        if "temperature" in request:
            return error(400, "Only the default is supported.", code="unsupported_value", param="temperature")
        return Response()

    server.reply = reply

    async def twice() -> list[str]:
        endpoint = Endpoint("gpt", server.url, KEY, 160, 20.0)
        answers = await asyncio.gather(*(endpoint.ask("Was it?") for _ in range(4)))
        count = len(server.requests)
        last = await endpoint.ask("Was it?")
        assert len(server.requests) == count + 1
        await endpoint.close()
        return [said.text for said in [*answers, last]]

    assert runner.run(twice()) == ['{"open the door": 1}'] * 5
    assert server.requests[-1]["max_completion_tokens"] == 160
    assert "temperature" not in server.requests[-1]


@pytest.mark.parametrize(
    "refusal",
    [
        lambda name: error(400, f"Unsupported parameter: '{name}' is not supported with this model.", param=None),
        lambda name: error(400, f"litellm.BadRequestError: Unrecognized request argument supplied: {name}"),
        lambda name: error(400, "no", param=f"body.{name}"),
        lambda name: Response(
            status=422,
            body=json.dumps(
                {"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 0}]}
            ).encode(),
        ),
    ],
    ids=["param null", "words", "path", "detail"],
)
def test_a_server_in_between_refuses_options_in_words(server: Server, runner: asyncio.Runner, refusal: Any) -> None:
    def reply(request: dict[str, Any]) -> Response:
        return next((refusal(name) for name in ("max_tokens", "temperature") if name in request), Response())

    server.reply = reply
    assert asked(server, runner).text == '{"open the door": 1}'
    assert "temperature" not in server.requests[-1]
    assert server.requests[-1]["max_completion_tokens"] == 160


@pytest.mark.fault("a judge's server sends odd errors", lost="that verdict")
@pytest.mark.parametrize("odd", [None, 7, [], ["max_tokens"], {"a": 1}, True])
@pytest.mark.parametrize("field", ["param", "code", "message", "type"])
def test_an_odd_type_in_an_error_is_a_refusal_like_any_other(
    server: Server, runner: asyncio.Runner, field: str, odd: Any
) -> None:
    body = {"error": {"message": "no", "type": "bad", "param": None, "code": None, field: odd}}
    server.answers(Response(status=400, body=json.dumps(body).encode()))
    assert failure(server, runner).kind == "refused"
    assert len(server.requests) == 1


@pytest.mark.fault("a judge's server sends odd errors", lost="that verdict")
@pytest.mark.parametrize(
    "body", [b'{"error": null}', b'{"error": "no"}', b'{"error": ["no"]}', b"[1]", b"7", b"null", b'{"detail": 3}']
)
@pytest.mark.parametrize("status", [400, 422, 429, 500])
def test_an_odd_body_of_an_error_is_an_error_of_its_status(
    server: Server, runner: asyncio.Runner, body: bytes, status: int
) -> None:
    server.answers(Response(status=status, body=body))
    assert failure(server, runner).kind == {400: "refused", 422: "refused", 429: "rate_limit", 500: "server"}[status]


def test_a_question_too_long_is_no_refused_option_though_its_error_names_one(server: Server, runner: asyncio.Runner) -> None:
    server.answers(error(400, "context length exceeded: 9000 tokens and max_tokens 160 are not supported"))
    assert failure(server, runner).kind == "context"
    assert len(server.requests) == 1


def test_a_server_that_refuses_every_option_is_refused_in_the_end(server: Server, runner: asyncio.Runner) -> None:
    server.reply = lambda request: error(400, "no", param=next((name for name in request if name.startswith("max")), "model"))
    assert failure(server, runner).kind == "refused"
    assert len(server.requests) == 2


# -- Retry-After ------------------------------------------------------------------------------------------------------------


def test_a_server_says_when_it_wants_to_be_asked_again(server: Server, runner: asyncio.Runner) -> None:
    server.answers(error(429, "slow down", Retry_After="7.5"))
    assert failure(server, runner).wait == 7.5
    server.answers(error(503, "overloaded", Retry_After="2"))
    assert failure(server, runner).wait == 2.0


@pytest.mark.fault("a judge's server names a time that means nothing")
@pytest.mark.parametrize(
    ("header", "wait"), [("0", 0.0), ("-5", 0.0), (None, None), ("soon", None), ("inf", None), ("nan", None)]
)
def test_a_time_that_means_nothing_is_no_time(header: str | None, wait: float | None) -> None:
    assert _wait(header) == wait


def test_a_date_is_a_time() -> None:
    found = _wait(format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True))
    assert found is not None
    assert 500 < found < 601


# -- the key ----------------------------------------------------------------------------------------------------------------


def test_the_key_is_sent(server: Server, runner: asyncio.Runner) -> None:
    asked(server, runner)
    assert server.keys == [f"Bearer {KEY}"]


def test_without_a_key_none_is_sent(server: Server, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    runner.run(_ask(lambda: Endpoint("judge-7b", server.url, None, 160, 600.0), "Was it?"))
    assert server.keys == [None]


OTHERS = {
    "OPENAI_API_KEY": "sk-of-another",
    "OPENAI_ADMIN_KEY": "sk-admin-secret",
    "OPENAI_ORG_ID": "org-secret",
    "OPENAI_PROJECT_ID": "proj-secret",
    "OPENAI_CUSTOM_HEADERS": "X-Team: secret",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/secret",
}
"""What other programs may be told in the environment."""


def test_only_the_question_and_the_named_key_are_sent(
    server: Server, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
    for name, value in {**OTHERS, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    asked(server, runner)
    (head,) = server.heads
    length, host = head.pop("content-length"), head.pop("host")
    assert (int(length) > 0, host) == (True, server.url.split("/")[2])
    assert head == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {KEY}",
        "connection": "keep-alive",
        "content-type": "application/json",
        "user-agent": "stepcredit",
    }


def test_without_an_address_openai_is_asked_whatever_the_environment_says(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ClientError) as raised:
        runner.run(_ask(lambda: Endpoint("m", None, KEY, 160, 600.0), "Was it?"))
    assert "https://api.openai.com cannot be reached" in str(raised.value)


@pytest.mark.fault("a judge's server redirects to another host", lost="that verdict")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: Server, runner: asyncio.Runner, status: int) -> None:
    with Server() as other:
        address = other.url.replace("//", "//me:secret@") + "/chat/completions?token=secret"
        server.answers(Response(status=status, headers={"Location": address}, body=b""))
        raised = failure(server, runner)
        assert not other.requests
    assert raised.kind == "refused"
    assert f"sends on to {other.url.removesuffix('/v1')}, which is not followed" in str(raised)
    assert "secret" not in str(raised)


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"])
def test_an_open_question_goes_to_no_proxy(
    server: Server, runner: asyncio.Runner, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as other:
        monkeypatch.setenv(proxy, other.url.replace("//", "//me:secret@").removesuffix("/v1"))
        asked(server, runner)
        assert not other.requests
    assert len(server.requests) == 1


def test_a_proxy_sees_of_an_encrypted_question_no_more_than_the_host(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:

        def refuse() -> bytes:
            connection, _ = listening.accept()
            with connection:
                seen = connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return seen

        seen = threads.submit(refuse)
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:proxysecret@127.0.0.1:{listening.getsockname()[1]}")
        with caplog.at_level(logging.DEBUG), pytest.raises(ClientError) as raised:
            runner.run(_ask(lambda: Endpoint("m", "https://judge.invalid/v1?token=secret", KEY, 160, 600.0), "Was it?"))
        told = seen.result()
    assert told.startswith(b"CONNECT judge.invalid:443 ")
    assert b"secret" not in told.replace(b"judge.invalid", b"")
    assert str(raised.value) == "connection: https://judge.invalid cannot be reached (ProxyError)"
    assert "secret" not in "".join((*caplog.messages, *(str(record.args) for record in caplog.records)))


@pytest.mark.fault("a proxy that cannot be used", lost="verdicts, which are asked for later")
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://me:secret@127.0.0.1:9")
    with pytest.raises(ConfigError, match="https_proxy") as raised:
        Endpoint("m", "https://judge.invalid/v1", KEY, 160, 600.0)
    assert "secret" not in str(raised.value)


def test_a_name_and_a_password_in_the_address_are_sent_to_that_host_and_stand_in_no_log(
    server: Server, runner: asyncio.Runner, caplog: pytest.LogCaptureFixture
) -> None:
    address = server.url.replace("//", "//me:secret@") + "?token=secret"
    with caplog.at_level(logging.DEBUG):
        runner.run(_ask(lambda: Endpoint("m", address, None, 160, 600.0), "Was it?"))
    assert server.keys == ["Basic " + base64.b64encode(b"me:secret").decode()]
    assert "secret" not in "".join((*caplog.messages, *(str(record.args) for record in caplog.records)))


@pytest.mark.fault("a judge's server sends the key back", lost="that verdict")
@pytest.mark.parametrize(
    "reply",
    [
        error(401, f"Incorrect API key provided: {KEY}."),
        error(500, "x" * 295 + KEY),
        error(429, f"slow down {KEY}"),
        Response(status=400, body=json.dumps({"you sent": f"Bearer {KEY}"}).encode()),
        Response(body=f"<html>{KEY}</html>".encode(), kind="text/html"),
        Response(body=KEY.encode()),
        Response(hangs=True),
    ],
    ids=range(7),
)
def test_the_key_is_in_no_log_and_no_error(
    server: Server, runner: asyncio.Runner, caplog: pytest.LogCaptureFixture, reply: Response
) -> None:
    server.answers(reply)
    with caplog.at_level(logging.DEBUG):
        raised = failure(server, runner, timeout_s=0.3)
    texts = [
        *caplog.messages,
        *(str(record.args) for record in caplog.records),
        *traceback.format_exception(raised),
        repr(raised),
    ]
    assert not any("secret" in text for text in texts)
    assert raised.__context__ is None
    assert raised.__cause__ is None


@pytest.mark.fault("a judge's server sends a password back", lost="that verdict")
@pytest.mark.parametrize(
    "said",
    [
        "wrong password secret@1 of me",
        "me:secret%401 is nobody",
        f"Authorization: Basic {base64.b64encode(b'me:secret@1').decode()}",
        "no such page: /v1/chat/completions?page=1&code=secret-code",
        "no such code: secret-code",
    ],
)
def test_what_is_secret_in_the_address_is_in_no_error_that_the_server_makes_of_it(
    server: Server, runner: asyncio.Runner, said: str
) -> None:
    server.answers(error(401, said))
    address = f"{server.url.replace('://', '://me:secret%401@')}?page=1&code=secret-code"
    with pytest.raises(ClientError) as raised:
        runner.run(_ask(lambda: Endpoint("m", address, None, 160, 600.0), "Was it?"))
    told = str(raised.value)
    assert "error 401: " in told
    assert "secret" not in told
    assert base64.b64encode(b"me:secret@1").decode() not in told


def test_a_name_and_a_password_in_the_address_are_in_no_error(runner: asyncio.Runner) -> None:
    with pytest.raises(ClientError) as raised:
        runner.run(_ask(lambda: Endpoint("m", "http://user:secret@127.0.0.1:9/v1?token=secret", None, 160, 600.0), "Was it?"))
    assert "127.0.0.1:9" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_a_server_says_is_shown_as_one_short_line(server: Server, runner: asyncio.Runner) -> None:
    server.answers(error(500, "boom\n\x1b[2J" + "x" * 5000))
    text = str(failure(server, runner))
    assert "boom" in text
    assert text.isprintable()
    assert len(text) < 320


def test_a_cancelled_question_stays_cancelled(server: Server, runner: asyncio.Runner) -> None:
    server.answers(Response(hangs=True))

    async def cancelled() -> bool:
        endpoint = Endpoint("m", server.url, None, 160, 600.0)
        work: Coroutine[Any, Any, Reply] = endpoint.ask("Was it?")
        task = asyncio.create_task(work)
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        done, _ = await asyncio.wait([task])
        await endpoint.close()
        return done.pop().cancelled()

    assert runner.run(cancelled())
