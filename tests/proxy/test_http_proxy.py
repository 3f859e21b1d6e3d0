"""The way to an endpoint through an HTTP proxy: tunnels, absolute form, passwords, and refusals."""

import base64
import logging
from pathlib import Path

import pytest

from rigs.both_loops import on_both_loops
from rigs.network import Authority, ask, blackhole, endpoint, outcome, refusing_port, upstream
from rigs.raw_http import exchange, request_bytes
from rigs.raw_proxy import raw_proxy
from rigs.running_proxy import in_thread, running_proxy

PASSWORD = "pa%73s-w0rd"  # noqa: S105 - opens nothing; decoded it is pass-w0rd
ENCODED = [base64.b64encode(pair).decode() for pair in (b"user:pass-w0rd", b"user:pa%73s-w0rd")]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@on_both_loops
async def test_https_through_a_proxy(authority: Authority, tmp_path: Path) -> None:
    """A tunnel is requested once, with the password.

    TLS inside it is the endpoint's own, and requests in it are ordinary ones.
    """
    async with (
        upstream(authority.server("api.test")) as seen,
        raw_proxy("127.0.0.1", seen.port) as proxy,
    ):
        made = endpoint("https://api.test/v1", proxy=proxy.url(f"us%20er:{PASSWORD}@"), ca_file=authority.file)
        answer, row = await ask(made, tmp_path, times=2)
    assert (answer.body, outcome(answer, row)) == (b"ok", (200, "ok", None))
    assert (row["attributes"]["server.address"], row["attributes"]["server.port"]) == ("api.test", "443")
    credentials = base64.b64encode(b"us er:pass-w0rd")
    assert proxy.heads == [
        b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nProxy-Authorization: Basic "
        + credentials
        + b"\r\n\r\n"
    ]
    assert seen.heads == [b"GET /v1/models?a=1 HTTP/1.1\r\nHost: api.test\r\nX-Own: 1\r\n\r\n"] * 2
    assert seen.names == ["api.test"]


@on_both_loops
async def test_https_to_an_ipv6_address_through_a_proxy(authority: Authority, tmp_path: Path) -> None:
    """An IPv6 address is written in brackets, and its certificate is checked."""
    async with (
        upstream(authority.server("::1"), host="::1") as seen,
        raw_proxy("::1", seen.port) as proxy,
    ):
        made = endpoint(f"https://[::1]:{seen.port}/v1", proxy=proxy.url(), ca_file=authority.file)
        answer, _ = await ask(made, tmp_path)
    assert answer.status == 200
    to = b"[::1]:%d" % seen.port
    assert proxy.heads == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (to, to)]


@on_both_loops
async def test_a_certificate_is_checked_through_a_proxy(authority: Authority, tmp_path: Path) -> None:
    """If the HTTP proxy shows its own certificate, it isn't accepted as the endpoint."""
    async with (
        upstream(authority.server("proxy.test")) as seen,
        raw_proxy("127.0.0.1", seen.port) as proxy,
    ):
        made = endpoint("https://api.test/v1", proxy=proxy.url(), ca_file=authority.file)
        answer, row = await ask(made, tmp_path)
    assert outcome(answer, row) == (502, "upstream_unreachable", "tls_certificate")
    assert not seen.heads


@on_both_loops
async def test_http_through_a_proxy(tmp_path: Path) -> None:
    """Requests to an http endpoint are in absolute form, each with the password, on connections that stay open."""
    async with upstream() as seen, raw_proxy("127.0.0.1", seen.port) as proxy:
        made = endpoint("http://api.test:8000/v1", proxy=proxy.url(f"user:{PASSWORD}@"))
        answer, row = await ask(made, tmp_path, times=2)
    assert (answer.status, answer.body, row["connection_reused"]) == (200, b"ok", True)
    credentials = base64.b64encode(b"user:pass-w0rd")
    assert (
        seen.heads
        == [
            b"GET http://api.test:8000/v1/models?a=1 HTTP/1.1\r\nHost: api.test:8000\r\nX-Own: 1\r\n"
            b"Proxy-Authorization: Basic " + credentials + b"\r\n\r\n"
        ]
        * 2
    )
    assert (row["attributes"]["server.address"], row["attributes"]["server.port"]) == ("api.test", "8000")
    # The kernel knows the round trip to the HTTP proxy alone.
    assert not {"rtt_us", "min_rtt_us"} & set(row)


REFUSALS: list[tuple[str, bytes, bool, str]] = [
    # (what, the proxy's answer to CONNECT, whether it closes then, error.type)
    ("407", b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", False,
     "proxy_authentication"),
    ("403", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", False, "proxy_refused"),
    ("503, HTTP/1.0", b"HTTP/1.0 503 Service Unavailable\r\n\r\n<html>", True, "proxy_refused"),
    ("redirect", b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n", True, "proxy_refused"),
    ("closes", b"", True, "proxy_protocol_error"),
    ("closes in the head", b"HTTP/1.1 200 OK\r\n", True, "proxy_protocol_error"),
    ("garbage", b"SSH-2.0-OpenSSH_9.2\r\n", False, "proxy_protocol_error"),
    ("no status", b"HTTP/1.1 OK\r\n\r\n", False, "proxy_protocol_error"),
    ("HTTP/2", b"HTTP/2 200\r\n\r\n", False, "proxy_protocol_error"),
    ("endless head", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, False, "proxy_protocol_error"),
    ("bytes of its own", b"HTTP/1.1 200 OK\r\n\r\nhello", False, "proxy_protocol_error"),
    ("no TLS in the tunnel", b"HTTP/1.1 200 OK\r\n\r\n", True, "connection_reset"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "closes", "error_type"), [case[1:] for case in REFUSALS], ids=[c[0] for c in REFUSALS]
)
@on_both_loops
async def test_a_proxy_that_opens_no_tunnel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: bytes, closes: bool, error_type: str
) -> None:
    """Each kind of refusal has its error.type.

    The password and the HTTP proxy's own words are in no answer, row or log.
    """
    caplog.set_level(logging.DEBUG)
    async with raw_proxy("127.0.0.1", 9, answer=answer, closes=closes) as proxy:
        made = endpoint("https://api.test/v1", proxy=proxy.url(f"user:{PASSWORD}@"))
        got, row = await ask(made, tmp_path)
    assert outcome(got, row) == (502, "upstream_unreachable", error_type)
    said = f"{got.body!r} {row} {caplog.text} {made.public()}"
    assert not [secret for secret in (PASSWORD, "pass-w0rd", *ENCODED, "login.test") if secret in said]


@on_both_loops
async def test_a_proxy_that_resets(tmp_path: Path) -> None:
    """The fault is the HTTP proxy's, not that of the endpoint behind it."""
    async with raw_proxy("127.0.0.1", 9, answer=b"HTTP/1.1 ", resets=True) as proxy:
        answer, row = await ask(endpoint("https://api.test/v1", proxy=proxy.url()), tmp_path)
    assert outcome(answer, row) == (502, "upstream_unreachable", "proxy_protocol_error")
    assert b"closed the connection during CONNECT" in answer.body


@on_both_loops
async def test_a_proxy_that_cannot_be_reached(tmp_path: Path) -> None:
    """The row says that the HTTP proxy is unreachable, also for http endpoints.

    The connect limit covers a slow proxy.
    """
    for scheme in ("http", "https"):
        made = endpoint(f"{scheme}://api.test/v1", proxy=f"http://127.0.0.1:{refusing_port()}")
        answer, row = await ask(made, tmp_path / scheme)
        assert outcome(answer, row) == (502, "upstream_unreachable", "proxy_unreachable")
        assert b"the HTTP proxy at 127.0.0.1:" in answer.body
    made = endpoint("https://api.test/v1", proxy="http://proxy.invalid:3128")
    answer, row = await ask(made, tmp_path / "name")
    assert outcome(answer, row) == (502, "upstream_unreachable", "proxy_unreachable")
    with blackhole() as port:
        made = endpoint("https://api.test/v1", proxy=f"http://127.0.0.1:{port}", connect_s=0.3)
        answer, row = await ask(made, tmp_path / "blackhole")
        assert outcome(answer, row) == (504, "upstream_timeout", "connect_timeout")
    async with raw_proxy("127.0.0.1", 9, answer=b"", slow_s=30) as proxy:
        made = endpoint("https://api.test/v1", proxy=proxy.url(), connect_s=0.3)
        answer, row = await ask(made, tmp_path / "slow")
        assert outcome(answer, row) == (504, "upstream_timeout", "connect_timeout")


async def test_environment_proxies_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the configuration sends an endpoint's requests through a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{refusing_port()}")
    async with upstream() as seen:
        answer, _ = await ask(endpoint(f"http://127.0.0.1:{seen.port}/v1"), tmp_path)
    assert answer.status == 200


async def test_the_password_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    """In a real `dyno proxy`, no page, log, figure or row holds the password, whether the HTTP proxy lets requests pass
    or not."""
    async with (
        upstream() as seen,
        raw_proxy("127.0.0.1", seen.port) as open_proxy,
        raw_proxy("127.0.0.1", 9, answer=b"HTTP/1.1 407 No\r\n\r\n", closes=True) as closed_proxy,
        in_thread(
            running_proxy(
                tmp_path,
                {"e": "http://api.test/v1"},
                f'proxy = "{open_proxy.url(f"user:{PASSWORD}@")}"\n[endpoints.f]\nurl = "https://api.test/v1"\n',
                {"DYNO_ENDPOINTS_F_PROXY": closed_proxy.url(f"user:{PASSWORD}@"), "https_proxy": open_proxy.url()},
            )
        ) as proxy,
    ):
        answers = [await exchange(proxy.url, request_bytes("GET", f"/{name}/v1/models")) for name in ("e", "f")]
        assert [answer.status for answer in answers] == [200, 502]
        pages = [await exchange(proxy.url, request_bytes("GET", path)) for path in ("/endpoints", "/metrics")]
        rows = await proxy.rows(2)
        log = proxy.log.read_text(encoding="utf-8")
    said = f"{answers} {pages} {rows} {log}"
    assert "proxy_authentication" in said
    assert not [secret for secret in (PASSWORD, "pass-w0rd", *ENCODED) if secret in said]
