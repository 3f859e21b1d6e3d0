"""Exchanges for the differential test: anything that HTTP allows in a request and in its response, made from a seed."""

import gzip
import random
import sys
import zlib
from dataclasses import dataclass

import brotli  # type: ignore[import-untyped]

from rigs.differences import Expected, request_behind, response_behind

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SEED = 20261124
BATCHES, EXCHANGES = 12, 60  # number of batches, and of exchanges in each
BEHIND = "/deep/er/api"  # where the paths begin behind the proxy

CHAT = b'{"model": "m", "messages": [{"role": "user", "content": "\xc3\xa9 \\ud83d"}], "stream": true, "odd": 1.0e2}'
API = {  # path → (content type, body); "" means that there is none
    "/chat/completions": ("application/json", CHAT),
    "/completions": ("application/json", b'{"prompt":"x","model":"m"}'),
    "/responses": ("application/json", b'{ "input" : "x" , "input" : "y" }'),
    "/messages": ("application/json", b'{"model":"claude","max_tokens":1,"messages":[]}'),
    "/embeddings": ("application/json", b'{"input":["a","b"],"encoding_format":"base64"}'),
    "/models": ("", b""),
    "/models/openai%2Fgpt-oss-120b": ("", b""),
    "/files": ('multipart/form-data; boundary="a b"', b"--a b\r\nContent-Type: text/plain\r\n\r\nx\r\n--a b--\r\n"),
    "/files/f-1/content": ("", b""),
    "/batches": ("application/json", b'{"input_file_id":"f-1"}'),
    "/batches/b-1/cancel": ("application/json", b""),
    "/audio/speech": ("application/json", b'{"voice":"alloy"}'),
    "/audio/transcriptions": ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + bytes(range(256)) + b"\r\n--x--"),
    "/nobody/knows/this": ("application/octet-stream", bytes(range(256))),
}  # fmt: skip
ODD_PATHS = ["/a%2Fb%2fc", "/a%20b/%C3%A9/%ff/%zz", "//a///b/", "/a;p=1;q/b", "/~!$&'()*+,=:@", "/a..b/.c/d", "", "/"]
QUERIES = ["", "", "?", "?a=1&a=2&b=%2F&c=a+b&d&=&e=%20", "?u=http://h/p?q=1/../2", "?%5B%5D=1;x", "?a=1&", "??"]
NAMES = ["X-A", "x-a", "X-B", "Accept", "Cookie", "traceparent", "x!#$%&'*+.^`|~9", "OpenAI-Organization"]
ANSWER_NAMES = ["X-A", "x-a", "Set-Cookie", "set-cookie", "ETag", "x-request-id", "Server", "Vary", "Date", "Location"]
VALUES = [b"", b"a", b"b, c", b"a=1; b=2", b'"q"', b"\xe9\xff \x80", b"x" * 5000, b"a  b", b"a\tb", b"http://h/?a#b"]
STATUSES = [*[200] * 4, 201, 202, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 409, 422, 429, 500, 503, 599]
BODILESS = [204, 304]
COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}


@dataclass
class Generated:
    """One exchange. The client sends `request`; the upstream sends `heads` and `answer`."""

    method: str
    head: bytes
    wire_body: bytes  # of the request's body, with its framing
    body: bytes  # its data
    old: bool  # the client speaks HTTP/1.0
    closes: bool  # the client asks to close the connection
    heads: list[bytes]
    answer: bytes
    surplus: bytes
    ends: bool  # the connection's end is the answer's end
    pieces: int

    @property
    def request(self) -> bytes:
        return self.head + self.wire_body

    @property
    def response(self) -> bytes:
        return b"".join(self.heads) + self.answer

    @property
    def expects(self) -> bool:
        return b"\r\nExpect:" in self.head

    def expected_request(self, host: bytes) -> Expected:
        return request_behind(self.request, host=host, body=self.body)

    def expected_response(self) -> Expected:
        chunked = self.wire_body != self.body
        closes = self.closes or self.ends or chunked
        return response_behind(self.heads, self.answer, self.surplus, closes=closes, old=self.old)


def batch(number: int) -> list[Generated]:
    draw = random.Random(SEED + number)  # noqa: S311 - the same exchanges in every run
    return [generated(draw) for _ in range(EXCHANGES)]


def generated(draw: random.Random) -> Generated:
    method = draw.choice(
        ["GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND", "PURGE"]
    )
    old = draw.random() < 0.1
    closes = draw.random() < 0.2
    path = draw.choice([*API, draw.choice(ODD_PATHS)])
    kind, body = API.get(path, ("", b""))
    body = draw.choice([body, body, b"", draw.randbytes(draw.choice([1, 300, 70_000]))])
    lines = header_lines(draw, NAMES)
    if draw.random() < 0.5:
        lines.append(b"User-Agent: curl/8")
    if kind:
        lines.append(b"Content-Type: " + kind.encode())
    if body and draw.random() < 0.1:
        body = gzip.compress(body, mtime=0)
        lines.append(b"Content-Encoding: gzip")
    lines += hop_by_hop(draw, [b"TE: trailers", b"Proxy-Authorization: Basic eDp5", b"Upgrade: h2c", b"Keep-Alive: 5"])
    wire_body = body
    if body and not old and draw.random() < 0.4:
        wire_body = chunks(draw, body, trailer=draw.random() < 0.2)
        lines.append(draw.choice([b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"]))
        if b"\r\nX-Sum: 1\r\n\r\n" in wire_body[-16:] and draw.random() < 0.5:
            lines.append(b"Trailer: X-Sum")
    elif body or draw.random() < 0.3:
        lines.append(b"Content-Length: %d" % len(body))
    if body and not old and draw.random() < 0.1:
        lines.append(b"Expect: 100-continue")
    if closes:
        lines.append(b"Connection: close")
    lines.append(b"Host: " + draw.choice([b"localhost", b"127.0.0.1:1"]))
    draw.shuffle(lines)
    target = BEHIND + path + draw.choice(QUERIES)
    line = f"{method} {target} HTTP/1.{0 if old else 1}".encode()
    head = draw.choice([b"", b"", b"", b"\r\n"]) + b"\r\n".join([line, *lines, b"", b""])
    heads, answer, surplus, ends = generated_response(draw, method)
    return Generated(
        method, head, wire_body, body, old, closes, heads, answer, surplus, ends, draw.choice([1, 1, 1, 2, 4])
    )


def generated_response(draw: random.Random, method: str) -> tuple[list[bytes], bytes, bytes, bool]:
    status = draw.choice(BODILESS if draw.random() < 0.1 else STATUSES)
    kind, body = draw.choice([
        (b"application/json", b'{"id": "1", "choices": [], "unknown": {"a": [1, null]}}\n'),
        (b"text/event-stream", b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'),
        (b"text/event-stream; charset=utf-8", b": ping\r\n\r\nevent: a\r\ndata: {}\r\n\r\n" * draw.randrange(9)),
        (b"audio/mpeg", draw.randbytes(draw.choice([1, 999, 70_000]))),
        (b"text/html", b""),
    ])  # fmt: skip
    lines = [*header_lines(draw, ANSWER_NAMES), b"Content-Type: " + kind]
    encoding = draw.choice(["", "", "", *COMPRESS, "unknown"])
    if encoding:
        lines.append(b"Content-Encoding: " + encoding.encode())
        body = COMPRESS.get(encoding, bytes)(body)
    lines += hop_by_hop(draw, [b"Keep-Alive: timeout=5", b"Proxy-Authenticate: Basic", b"Upgrade: h2,h2c"])
    framing = draw.choice(["length", "length", "chunked", "chunked", "close"])
    no_body = method == "HEAD" or status in BODILESS
    surplus, answer = b"", body
    if framing == "length":
        lines.append(draw.choice([b"Content-Length: %d", b"content-length:%d"]) % (0 if status == 204 else len(body)))
    elif framing == "chunked":
        lines.append(draw.choice([b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked"]))
        answer = chunks(draw, body, trailer=draw.random() < 0.2)
    if no_body:
        answer = b""
    ends = framing == "close" and not no_body
    if not ends and draw.random() < 0.05:
        surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    draw.shuffle(lines)
    version = b"HTTP/1.0" if framing != "chunked" and draw.random() < 0.1 else b"HTTP/1.1"
    reason = draw.choice([b" OK", b" OK", b" Very  Fine \xe9", b" ", b""])
    heads = [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-h\r\nX-H: 1\r\n\r\n"] * (draw.random() < 0.08)
    heads += [b"HTTP/1.1 100 Continue\r\n\r\n"] * (draw.random() < 0.03)
    head = b"\r\n".join([b"%b %d%b" % (version, status, reason), *lines, b"", b""])
    return [*heads, head], answer, surplus, ends


def header_lines(draw: random.Random, names: list[str]) -> list[bytes]:
    spaces = [b" ", b" ", b" ", b"", b"  ", b"\t"]
    return [
        draw.choice(names).encode() + b":" + draw.choice(spaces) + draw.choice(VALUES) + draw.choice([b"", b"", b" "])
        for _ in range(draw.randrange(7))
    ]


def hop_by_hop(draw: random.Random, lines: list[bytes]) -> list[bytes]:
    if draw.random() < 0.7:
        return []
    named = draw.choice(
        [b"Connection: x-named, X-Other", b"connection: Content-Type", b"Connection: keep-alive, X-Named"]
    )
    return [*draw.sample(lines, 2), named, b"X-Named: 1", b"x-named: 2"]


def chunks(draw: random.Random, body: bytes, *, trailer: bool) -> bytes:
    """The body in chunks of odd sizes. Some have extensions, some sizes are written oddly, and a trailer may follow."""
    out, at = b"", 0
    while at < len(body):
        size = draw.choice([1, 2, 15, 16, 17, 255, 4096, 65_536])
        piece = body[at : at + size]
        at += size
        spelled = draw.choice([b"%x", b"%X", b"0%x", b"000%X"]) % len(piece)
        out += spelled + draw.choice([b"", b"", b";a=b", b';name="v;1"']) + b"\r\n" + piece + b"\r\n"
    return out + (b"0\r\nX-Sum: 1\r\n\r\n" if trailer else draw.choice([b"0\r\n\r\n", b"0\r\n\r\n", b"00;end\r\n\r\n"]))
