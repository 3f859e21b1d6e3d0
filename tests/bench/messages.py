"""The messages that the benchmark sends, as bytes made beforehand: who measures must cost little.

Stamps are monotonic nanoseconds of 19 digits, in fields that a real answer has too: in each SSE event `id` says when
the upstream had read the request, `system_fingerprint` when it wrote the event. So the client knows both, whatever
stands in between. What the upstream is to do stands in the request's first message: every gateway passes that on.
"""

import json
import re
from dataclasses import astuple, dataclass
from typing import Any, Final

MODEL: Final = "gpt-oss-120b"
DIGITS: Final = 19  # of a stamp
STREAM_END: Final = b"0\r\n\r\n"
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STAMPS: Final = re.compile(rb'"chatcmpl-(\d{19})".*?"fp_(\d{19})"')  # when the request was read, the event written

_SCRIPT: Final = re.compile(rb"script (\d+) (\d+) (\d+) (\d+)")


@dataclass(frozen=True)
class Script:
    """What the upstream does with a request: without chunks it answers at once and whole, else it streams."""

    chunks: int = 0
    every_ms: int = 0  # from one write to the next; the first goes at once
    per_write: int = 1  # chunks in one write
    first_ms: int = 0  # from the response's head to the first write


def read_script(request: bytes) -> Script:
    found = _SCRIPT.search(request)
    return Script() if found is None else Script(*map(int, found.groups()))


def chat_request(path: str, script: Script) -> bytes:
    """A chat completion's request with an SDK's headers and a body of 400 to 500 bytes. `path`: the base URL's."""
    content = (
        "Context: Super Bowl 50 was an American football game to determine the champion of the National Football "
        "League for the 2015 season. Question: Which team represented the AFC? Answer:"
    )
    instruction = "Answer in one short sentence, from the context alone."
    if script.chunks:
        instruction += " script " + " ".join(map(str, astuple(script)))
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": instruction},
            {"role": "user", "content": content},
        ],
        "temperature": 0.7,
        "max_tokens": 512,
    }
    if script.chunks:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked, separators=(",", ":")).encode()
    lines = (
        b"POST %b/chat/completions HTTP/1.1" % path.encode(),
        b"Host: 127.0.0.1",
        b"Accept: application/json",
        b"Accept-Encoding: identity",
        b"Authorization: Bearer sk-benchmark",
        b"Content-Type: application/json",
        b"User-Agent: OpenAI/Python 3.54.0",
        b"Content-Length: %d" % len(body),
    )
    return b"\r\n".join((*lines, b"", body))


_USAGE: Final = {
    "prompt_tokens": 61,
    "completion_tokens": 43,
    "total_tokens": 104,
    "completion_tokens_details": {"reasoning_tokens": 0},
    "prompt_tokens_details": {"cached_tokens": 0},
}
_HEADERS: Final = b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nx-request-id: 7f3c9a2e51b84d6f\r\n"

STREAM_HEAD: Final = (
    _HEADERS + b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def _answer() -> bytes:
    content = (
        "The Denver Broncos represented the American Football Conference, and won the game 24 to 10 against the "
        "Carolina Panthers at Levi's Stadium in Santa Clara, California, on February 7, 2016."
    )
    message = {"role": "assistant", "content": content}
    answer = {
        "id": "chatcmpl-7f3c9a2e51b84d6f",
        "object": "chat.completion",
        "created": 1_764_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _USAGE,
        "system_fingerprint": "fp_44709d6fcb",
    }
    body = json.dumps(answer).encode()
    return _HEADERS + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


ANSWER: Final = _answer()  # head, and a body of some 700 bytes


class EventMaker:
    """The SSE events of one stream, each in an HTTP chunk of its own. A chunk has some 260 bytes."""

    def __init__(self, read_ns: int) -> None:
        """`read_ns`: when the request was read."""
        usage = b',"usage":%b' % json.dumps(_USAGE, separators=(",", ":")).encode()
        self._token = _halves(read_ns, b'{"content":" token"}', b"null")
        self._finish = _halves(read_ns, b"{}", b'"stop"')
        self._usage = _halves(read_ns, None, b"", usage)

    def token(self, now_ns: int) -> bytes:
        return b"%b%019d%b" % (self._token[0], now_ns, self._token[1])

    def end(self, now_ns: int) -> bytes:
        """The finish reason, the usage, `[DONE]` and the end of the body."""
        events = [b"%b%019d%b" % (before, now_ns, after) for before, after in (self._finish, self._usage)]
        return b"".join((*events, b"e\r\ndata: [DONE]\n\n\r\n", STREAM_END))


def _halves(read_ns: int, delta: bytes | None, finish: bytes, rest: bytes = b"") -> tuple[bytes, bytes]:
    """An HTTP chunk, before and after the stamp of its writing."""
    choices = b"" if delta is None else b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (delta, finish)
    before = (
        b'data: {"id":"chatcmpl-%019d","object":"chat.completion.chunk","created":1764000000,"model":"%b",'
        b'"system_fingerprint":"fp_' % (read_ns, MODEL.encode())
    )
    after = b'","choices":[%b]%b}\n\n' % (choices, rest)
    return b"%x\r\n%b" % (len(before) + DIGITS + len(after), before), after + b"\r\n"
