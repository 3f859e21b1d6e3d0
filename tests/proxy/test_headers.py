import pytest

from dyno_proxy.exchange.route import BESIDE, CLIMBS, DOUBLED, Route, route
from dyno_proxy.http.heads import HeadError, check_response_head, connection_options, request_head, response_head


def head_for(headers: list[tuple[bytes, bytes]], **options: object) -> list[bytes]:
    settings: dict[str, object] = {
        "authorization": None,
        "forward_authorization": True,
        "traceparent": None,
        "chunked": False,
    }
    head = request_head("POST", "/v1/x?a=1", b"up:1", tuple(headers), **(settings | options))  # type: ignore[arg-type]
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_request_headers_keep_order_repetition_and_case() -> None:
    """The client's headers reach the endpoint unchanged, except for the host."""
    headers = [(b"X-A", b"1"), (b"host", b"proxy"), (b"x-a", b"2"), (b"Content-Length", b"2"), (b"Cookie", b"c=d")]
    assert head_for(headers) == [
        b"POST /v1/x?a=1 HTTP/1.1", b"Host: up:1", b"X-A: 1", b"x-a: 2", b"Content-Length: 2", b"Cookie: c=d",
    ]  # fmt: skip


def test_hop_by_hop_headers_end_here() -> None:
    """Headers of the client's own connection, and those that `Connection` names, don't reach the endpoint."""
    headers = [
        (b"Connection", b"keep-alive, X-Mine"), (b"Keep-Alive", b"timeout=5"), (b"TE", b"trailers"), (b"X-Mine", b"1"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authorization", b"secret"), (b"Transfer-Encoding", b"chunked"), (b"Accept", b"*/*"),
    ]  # fmt: skip
    assert head_for(headers, chunked=True)[2:] == [b"Accept: */*", b"Transfer-Encoding: chunked"]


def test_the_endpoints_token_takes_the_clients_place() -> None:
    """A configured token replaces the client's. A key for the proxy never goes on to the endpoint."""
    headers = [(b"Authorization", b"Bearer client")]
    assert head_for(headers)[2:] == [b"Authorization: Bearer client"]
    assert head_for(headers, authorization=b"Bearer ours")[2:] == [b"Authorization: Bearer ours"]
    assert head_for(headers, forward_authorization=False)[2:] == []


def test_underscores_in_names_are_refused() -> None:
    """Names like `Content_Length` are refused: some servers read `_` as a hyphen, so they could be used for
    smuggling."""
    with pytest.raises(HeadError, match="underscore"):
        head_for([(b"Content_Length", b"5")])


@pytest.mark.parametrize("length", [b"9223372036854775807", b"18446744073709551615", b"0" * 18 + b"5"])
def test_lengths_that_overflow_are_refused(length: bytes) -> None:
    """A length that may not fit into 64 bits is refused: readers disagree on it, and aiohttp's parser may ignore it."""
    with pytest.raises(HeadError, match="18 digits"):
        head_for([(b"content-length", length)])
    longest = b"Content-Length: " + b"9" * 18
    assert head_for([(b"Content-Length", b"9" * 18)])[2:] == [longest]


@pytest.mark.parametrize("head", [b"A: \x00", b"A: b\x0bc", b"A: b\rc: d", b"A: b\nc: d", b"\x7f: 1"])
def test_control_characters_of_an_upstream_are_refused(head: bytes) -> None:
    """A control character is refused: a reader behind the proxy could split the head in two there."""
    with pytest.raises(HeadError):
        check_response_head(b"HTTP/1.1 200 OK\r\n" + head)
    check_response_head(b"HTTP/1.1 200 OK\r\nA: \tb\xc3\xa9 c\r\nB: 2")


def test_response_head_keeps_what_it_is_given() -> None:
    """The upstream's headers keep their order, repetition and case. Framing and connection headers are written anew."""
    headers = [(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"Connection", b"close"), (b"Keep-Alive", b"5")]
    assert response_head(418, b"I'm a teapot", headers, chunked=True, close=True) == (
        b"HTTP/1.1 418 I'm a teapot\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )


def test_connection_cannot_name_what_the_message_needs() -> None:
    """`Connection: content-length` must not take the length out of the message."""
    assert connection_options([(b"connection", b"X-A , content-length,close")]) == {b"x-a", b"close"}


# What some server reads as `../`, once or decoded several times.
SPELLINGS = [
    *(
        "..%2f..%2f..%2f",
        "..%5c",
        "..\\",
        "..;/",
        "..;a=b/",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "%25252e%25252e/",
        ".%2e/",
    ),
    *(
        "%2e./",
        "..%252f",
        "..%255c",
        "..%3b/",
        "%c0%ae%c0%ae/",
        "..%c0%af",
        "%u002e%u002e/",
        "..%u2215",
        "%20../",
        "..%00/",
    ),
    *("..%e0%80%af", "%2e%2e;x/", ".;/", "a/..;/../"),
]
HARMLESS = [
    *("/metis/v1/models/gpt-4.1", "/metis/v1/files/a..b", "/metis/v1/files/...", "/metis/v1/files/.hidden"),
    *(
        "/metis/v1/models/openai%2Fgpt-oss-120b",
        "/metis/v1/models/a%252Fb",
        "/metis/v1/files/100%25",
        "/metis/v1/a;b=c/d",
    ),
    *("/metis/v1/files/%E2%82%AC.txt", "/metis/v1/files/x%5cy", "/metis/v1/files/v1.2..3"),
]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/metis/v1/chat/completions", Route("metis", "/chat/completions", "")),
        ("/metis/v1/files/a%2Fb?x=1&x=2", Route("metis", "/files/a%2Fb", "?x=1&x=2")),
        ("/metis/v1", Route("metis", "", "")),
        ("/metis/v1?x", Route("metis", "", "?x")),
        ("/metis/v1//x", Route("metis", "//x", "")),
        ("/metis/v1/a?u=../..", Route("metis", "/a", "?u=../..")),
        *(
            (f"/metis/v1/{climb}", Route("metis", f"/v1/{climb}", "", CLIMBS))
            for climb in ("../../admin", "%2e%2E/a", "a/.")
        ),
        *((f"/metis/v1/{climb}admin/x", Route("metis", f"/v1/{climb}admin/x", "", CLIMBS)) for climb in SPELLINGS),
        *((f"/metis/{climb}admin", Route("metis", f"/{climb}admin", "", CLIMBS)) for climb in SPELLINGS),
        *((target, Route("metis", target.removeprefix("/metis/v1"), "")) for target in HARMLESS),
        ("/metis/v1/v1/chat/completions", Route("metis", "/chat/completions", "", DOUBLED)),
        ("/metis/v1/v1", Route("metis", "", "", DOUBLED)),
        ("/metis/health?x", Route("metis", "/health", "?x", BESIDE)),
        ("/metis/", Route("metis", "/", "", BESIDE)),
        ("/metis/v10/x", Route("metis", "/v10/x", "", BESIDE)),
        ("/metis/v1/v10/x", Route("metis", "/v10/x", "")),
        ("/v1/chat/completions", Route("v1", "/chat/completions", "", BESIDE)),
        ("/metis", None),
        ("http://elsewhere/metis/v1/x", None),
        ("*", None),
        ("/", None),
    ],
)
def test_routes(target: str, expected: Route | None) -> None:
    """A path names an endpoint and the rest below its url or its origin. The rest stays raw, and can't climb."""
    found = route(target)
    assert (found and found[:4]) == (expected and expected[:4])  # where it leads; the API is another test's
