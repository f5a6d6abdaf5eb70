"""The served shop over HTTP: every request and every command that is refused, and what no page may hold."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator

import pytest

from envs.webshop.__main__ import main
from envs.webshop.serve import MOST_BYTES, Shopfront
from tests.envs.webshop.test_serve import CONFIG, FORM, act, ask, enter, page, send, serving, shopping


@pytest.fixture(scope="module")
def shopfront() -> Iterator[Shopfront]:
    with serving(CONFIG) as shopfront:
        yield shopfront


# -- who and what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/", "/style.css", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", "127.0.0.1:{port}.evil", ""]
)
def test_another_host_s_name_leads_nowhere(shopfront: Shopfront, method: str, path: str, host: str) -> None:
    name = host.format(port=shopfront.server_port)
    reply = ask(shopfront, method, path, Host=name, Origin=f"http://{name}")
    assert reply.status == 421
    assert "goal" not in reply.text


def test_nothing_but_the_loopback_interface_is_listened_to(shopfront: Shopfront) -> None:
    assert shopfront.socket.getsockname()[0] == "127.0.0.1"


def test_a_request_without_a_host_or_with_two_leads_nowhere(shopfront: Shopfront) -> None:
    port = shopfront.server_port
    assert ask(shopfront, "GET", "/", Host=None).status == 421
    assert ask(shopfront, "GET", "/", Host=f"127.0.0.1:{port}", host=f"localhost:{port}").status == 421


def test_localhost_is_a_name_of_this_machine(shopfront: Shopfront) -> None:
    name = f"localhost:{shopfront.server_port}"
    assert ask(shopfront, "GET", "/", Host=name).status == 200
    assert ask(shopfront, "POST", "/", "task=1", Host=name, Origin=f"http://{name}").status == 303


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1", "https://127.0.0.1:{port}"])
def test_forms_of_other_sites_are_refused(shopfront: Shopfront, origin: str | None) -> None:
    path = enter(shopfront, "1")
    before = page(shopfront, path)
    named = origin and origin.format(port=shopfront.server_port)
    for place, body in (("/", "task=1"), (path, "search_query=shirt")):
        assert ask(shopfront, "POST", place, body, Origin=named).status == 403
    other = f"http://localhost:{shopfront.server_port}"
    assert ask(shopfront, "POST", path, "search_query=shirt", Origin=other).status == 403
    assert page(shopfront, path) == before


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, "", {}),
        (400, "split=everything", {}),
        (400, "task=1&task=2", {}),
        (400, "task=%ff", {}),
        (400, b"task=\xff", {}),
        (400, "&".join(f"f{i}=1" for i in range(9)), {}),
        (411, "task=1", {"Content-Length": None}),
        (411, "task=1", {"Content-Length": "-6"}),
        (411, "task=1", {"Content-Length": "6, 6"}),
        (411, "6\r\ntask=1\r\n0\r\n\r\n", {"Content-Length": None, "Transfer-Encoding": "chunked"}),
        (413, "", {"Content-Length": str(MOST_BYTES + 1)}),
        (413, "", {"Content-Length": "999999999999"}),
        (415, "task=1", {"Content-Type": "text/plain"}),
        (415, "task=1", {"Content-Type": None}),
        (415, "task=1", {"Content-Type": "multipart/form-data; boundary=x"}),
    ],
)
def test_forms_that_cannot_be_are_refused(
    shopfront: Shopfront, status: int, body: str | bytes, headers: dict[str, str | None]
) -> None:
    assert ask(shopfront, "POST", "/", body, **headers).status == status


@pytest.mark.parametrize("fields", ["", "task=1", "split=train", "red=red", "Action=x", "action=%ff"])
def test_a_visit_takes_nothing_but_actions(shopfront: Shopfront, fields: str) -> None:
    path = enter(shopfront, "1")
    assert ask(shopfront, "POST", path, fields).status == 400
    assert ask(shopfront, "GET", path).status == 200


@pytest.mark.fault("broken requests to the shop's pages", lost="the request")
def test_a_form_that_is_cut_off_is_refused(shopfront: Shopfront) -> None:
    host = f"127.0.0.1:{shopfront.server_port}"
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Type: {FORM}\r\nContent-Length: 9\r\n\r\ntask=1"
    )
    assert raw(shopfront, head.encode()).startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize(
    "path",
    [
        *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/style.css/", "/STYLE.CSS", "//", "*", "http://evil.example/"),
        *("/..%5c..", "/\\", "/%00", "/favicon.ico", "/__main__.py", "/0", "/None/0", "/" + "x" * 60_000, "http://["),
    ],
)
def test_other_paths_lead_nowhere(shopfront: Shopfront, path: str) -> None:
    expected = 200 if path == "//" else 404  # several slashes at the start are read as one
    assert ask(shopfront, "GET", path).status == expected
    assert ask(shopfront, "POST", path, "action=x").status in (400, 404)


def test_every_answer_forbids_scripts_frames_and_storing(shopfront: Shopfront) -> None:
    path = enter(shopfront, "1")
    answers = [ask(shopfront, "GET", one) for one in ("/", "/style.css", "/nothing", path, path + "/old")]
    answers += [ask(shopfront, "GET", "/", Host="evil.example"), ask(shopfront, "BREW", "/"), send(shopfront, path, action="x")]
    for reply in answers:
        policy = reply.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "Python" not in reply.headers["Server"]


def test_pages_have_no_script_no_style_of_their_own_and_nothing_from_elsewhere(shopfront: Shopfront) -> None:
    _, task, actions = shopping(3)
    path = enter(shopfront, task)
    for action in actions:
        text = page(shopfront, path)
        assert not re.search(r"<(script|style|iframe|object|base)|<[^>]*\s(on\w+|style)=|javascript:", text)
        assert set(re.findall(r'(?:src|href|action)="(.*?)"', text)) <= {"/", "/style.css"}
        path = act(shopfront, path, action)


def raw(shopfront: Shopfront, request: bytes) -> bytes:
    """What is answered to these bytes; nothing if the server only hangs up."""
    with socket.create_connection(("127.0.0.1", shopfront.server_port)) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except ConnectionError:  # it hung up on what it will not read
            pass
        return answer


def requests(chance: random.Random, port: int, path: str) -> Iterator[bytes]:
    """Requests of every kind, right and wrong, now and then with broken bytes."""
    names = (
        b"Host",
        b"Origin",
        b"Content-Type",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Expect",
        b"Connection",
        b"\xff",
        b"",
    )
    values = (f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", FORM, "0", "9", "99999", "chunked", "100-continue", "keep-alive")
    paths = ("/", path, path + "0", "/style.css", "/../x", "/%", "*", "//a//b", "/\x7f\xe9", "http://[/", "?", "/" * 300, "")
    bodies = (
        "task=1",
        "action=search[shirt]",
        "action=%",
        "option=a&action=b",
        "search_query=" + "x[" * 500,
        "split=test",
        "\x00",
    )
    while True:
        body = chance.choice(bodies).encode()
        method = chance.choice(("GET", "POST", "POST", "HEAD", "PUT", "\xe9"))
        lines = [f"{method} {chance.choice(paths)} HTTP/{chance.choice(('1.1', '1.0', '2.0', 'x', '0.9'))}".encode("latin-1")]
        if chance.random() < 0.8:
            lines += [b"Host: " + values[0].encode(), b"Origin: " + values[1].encode(), b"Content-Type: " + FORM.encode()]
            lines += [f"Content-Length: {chance.choice((len(body), len(body), 99999))}".encode()]
        for _ in range(chance.choice((0, 0, 1, 2, 120))):
            lines.append(chance.choice(names) + b": " + chance.choice(values).encode())
        request = bytearray(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        for _ in range(chance.choice((0, 0, 0, 1, 5))):
            request[chance.randrange(len(request))] = chance.randrange(256)
        yield bytes(request)


@pytest.mark.fault("broken requests to the shop's pages", lost="the request")
def test_whatever_is_sent_is_answered_and_nothing_breaks(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(CONFIG) as shopfront:
        path = enter(shopfront, "1")
        stream = requests(random.Random(0), shopfront.server_port, path)
        seen = set[bytes]()
        for request, _ in zip(stream, range(4000)):
            answer = raw(shopfront, request)
            status = re.match(rb"HTTP/1\.0 (\d{3}) ", answer)
            assert status or not answer or answer.startswith(b"<!DOCTYPE html>"), (request, answer)
            seen.add(status[1] if status else b"")
        assert page(shopfront, "/")
    assert seen >= {b"200", b"303", b"400", b"403", b"404", b"411", b"413", b"415", b"421"}
    assert not any(code.startswith(b"5") for code in seen - {b"501", b"505"})
    assert capfd.readouterr() == ("", "")


# -- the command ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["prot=8080"], "error: unknown key 'prot'. Did you mean 'port'?"),
        (["port=70000"], "error: port is 70000; it must be at most 65535"),
        (["port"], "error: 'port' is not of the form key=value"),
        (["goals=humane"], "error: goals is 'humane'; allowed: synthetic, human. Did you mean 'human'?"),
        (["products=0"], "products is 0; it must be at least 1"),
        (["max_steps=0"], "error: max_steps is 0; it must be at least 1"),
        (["products=60", "task=goal/999999"], "error: no task 'goal/999999' in a shop with "),
        (["source=official", "data=/nowhere"], "error: "),
    ],
)
def test_wrong_settings_are_one_message_and_exit_status_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert "env." not in said.err
    assert said.out == ""


def test_a_port_in_use_is_one_line_and_exit_status_2(shopfront: Shopfront, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "products=60", f"port={shopfront.server_port}"]) == 2
    assert capsys.readouterr() == (
        "",
        f"error: port {shopfront.server_port} is in use; choose another one, or port=0 for any that is free\n",
    )


@pytest.mark.parametrize("arguments", [[], ["sell"], ["serve", "--port", "3000"]])
def test_other_commands_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: python -m envs.webshop" in capsys.readouterr().err
