"""Reads one response of an endpoint, read by read: which bytes pass to the client, and what they mean. Pure.

    reads ──▶ Response.feed() ──▶ the bytes to write; beside them `parts`, `complete`, `reusable`, `unframed`

Bytes pass with the upstream's own framing. The head alone is written anew, if one of its headers concerns only one
connection. It doesn't matter where TCP split the bytes: any split of a response gives the same bytes and the same
facts, and a head that is refused whole is also refused in pieces.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import httptools

from .chunked import ChunkedEnd
from .heads import HOP_BY_HOP, HeadError, check_response_head, response_head, with_replaced

MAX_HEAD_BYTES: Final = 64 * 1024  # also of chunk extensions in a row, and of all trailers
MAX_INTERIM: Final = 1000  # 1xx responses before the one that counts
_VERSION: Final = b"HTTP/1."
_HEAD_END: Final = b"\r\n\r\n"
_NO_BODY: Final = (204, 304)

# Names of headers that mean nothing to HTTP itself. An endpoint sends the same few again and again, so they are
# remembered.
_PLAIN: Final[set[bytes]] = set()
_MAX_PLAIN: Final = 1_000

MALFORMED: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade, HeadError)  # what `feed` raises

Headers = list[tuple[bytes, bytes]]


class BodyFilter(Protocol):
    """Changes a body on its way. The body then gets our own framing, and loses its trailers."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body; returns what may pass by now."""
        ...

    def finish(self) -> bytes:
        """The body has ended; returns what was held back."""
        ...


TakeHead = Callable[[int, Headers], BodyFilter | None]


class Response:
    """The parser of one connection's responses, one after another: `begin()`, then `feed()` until `complete`.

    It lives as long as the connection. It and httptools' parser refer to each other, so a new one for each response
    would wait for the garbage collector, which seldom runs.
    """

    __slots__ = (
        *("_bare_bytes", "_chunked", "_chunked_end", "_filter", "_has_hop_by_hop", "_head", "_headers", "_http10"),
        *(
            "_interim",
            "_keep_alive",
            "_parser",
            "_reason",
            "_remaining",
            "_replaced",
            "_surplus",
            "_take_head",
            "_to_head",
        ),
        *("client_close", "complete", "in_body", "parts", "unframed"),
    )

    def begin(
        self,
        take_head: TakeHead,
        *,
        to_head: bool,
        http10: bool,
        close: bool,
        replaced: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare for the response to a request that is about to be written.

        `take_head` is called once, with the status and the headers of the response's final head. It may return a filter
        for the body. `to_head`: the request's method is HEAD. `http10`: the client doesn't know chunked framing.
        `close`: the client's connection ends with this response. `replaced`: headers that take the place of the
        upstream's own of these names, but for `Vary`, of which there may be several.
        """
        self._take_head = take_head
        self._replaced = replaced
        self._to_head = to_head
        self._http10 = http10
        self.client_close = close or http10  # the client's connection has to end with this response
        self.unframed = False  # only the connection's end tells the client where the body ends
        self._head = b""  # the bytes so far of a head that isn't whole yet
        self._interim = 0
        self._filter: BodyFilter | None = None
        self._begin_message()

    def _begin_message(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.in_body = False  # the final head has been read
        self.complete = False  # the message has ended by its own framing
        self.parts: list[bytes] = []  # the body's bytes in this read, without framing; the caller clears it
        self._headers: Headers = []
        self._has_hop_by_hop = False
        self._reason = b""
        self._chunked = False
        self._chunked_end: ChunkedEnd | None = None
        self._remaining: int | None = None  # bytes of a Content-Length body still to come
        self._bare_bytes = 0  # bytes of a chunked body since the last read that brought data
        self._keep_alive = False
        self._surplus = False  # bytes came behind the message's end

    @property
    def reusable(self) -> bool:
        """Whether the upstream's connection may serve another request, once the response is `complete`."""
        return self._keep_alive and not self._surplus

    def feed(self, data: bytes) -> bytes:
        """Take a read. Returns the bytes to write to the client, none from after the message's end.

        Raises one of MALFORMED.
        """
        out = b""
        while not self.in_body:
            seen = len(self._head)
            self._head += data
            end = self._head.find(_HEAD_END, seen - 3 if seen > 3 else 0)
            if (end if end >= 0 else len(self._head) - 3) > MAX_HEAD_BYTES:  # the last 3 may belong to the head's end
                raise HeadError(f"the response's head is longer than {MAX_HEAD_BYTES} bytes")
            if end < 0:
                _check_begun_head(self._head, seen)
                return out
            head, data = self._head[: end + 4], self._head[end + 4 :]
            self._head = b""
            out += self._read_head(head)
        if not data or self.complete:
            self._surplus = bool(data)
            return out
        if self._chunked:
            data = self._read_chunked(data)
        else:
            if self._remaining is not None:
                if len(data) > self._remaining:
                    self._surplus = True
                    data = data[: self._remaining]
                self._remaining -= len(data)
            self._parser.feed_data(data)
        if self._filter is not None:
            data = self._filtered(self._filter)
        return out + data if out else data

    def closed(self) -> bytes | None:
        """The upstream closed its connection in order. Returns the bytes that are still to be written.

        None means that the response isn't whole: only a body without any framing ends with its connection.
        """
        if not self.in_body or self.complete or self._remaining is not None or self._chunked:
            return None
        self.complete = True
        return b"" if self._filter is None else self._filtered(self._filter)

    # The head

    def _read_head(self, head: bytes) -> bytes:
        """Read a whole head. Returns the head for the client."""
        check_response_head(head[:-4])
        self._parser.feed_data(head)
        status = self._parser.get_status_code()
        if not self.in_body and not self.complete:
            raise HeadError("the response's head doesn't end where it should")
        if status < 100 or not head.startswith(_VERSION):
            raise HeadError("the response has a status or a version that HTTP/1.1 doesn't know")
        if self._chunked and head.startswith(b"HTTP/1.0"):
            raise HeadError("the response has a transfer coding, which HTTP/1.0 doesn't know")
        if status < 200:
            return self._read_interim(status)
        self.in_body = True
        body_filter = self._take_head(status, self._headers)
        if self._to_head or status in _NO_BODY:
            self._keep_alive = self._parser.should_keep_alive() or self._keep_alive
            self.complete = True
        if status == 204 and (self._chunked or self._remaining):
            # A 204 has no body, whatever its head says. A client that believes the head would take what follows as one.
            self._chunked = self._keep_alive = False
            self.client_close = True
        if body_filter is not None and not self.complete:
            self._filter = body_filter
            self._headers = [
                (name, value) for name, value in self._headers if name.lower() not in (b"content-length", b"trailer")
            ]
        return self._head_for_client(head, status)

    def _read_interim(self, status: int) -> bytes:
        """Read a 1xx response. It passes to the client, and another head follows it."""
        self._interim += 1
        if status == 101 or self._interim > MAX_INTERIM:
            raise HeadError(
                f"the response is an upgrade that nobody asked for, or has more than {MAX_INTERIM} 1xx heads"
            )
        if self._chunked or self._remaining is not None:
            raise HeadError("an interim (1xx) response has a body")
        head = response_head(status, self._reason, self._headers, chunked=False, close=False)
        self._begin_message()
        return b"" if self._http10 else head

    def _head_for_client(self, head: bytes, status: int) -> bytes:
        """The final head: unchanged where possible, else written anew. Decides how the client learns the body's end."""
        filtered = self._filter is not None
        sized = self._remaining is not None and not filtered
        chunked = (self._chunked or filtered) and not self._http10
        if not (chunked or sized or self.complete):
            self.client_close = True
        self.unframed = self.client_close and not sized and not chunked
        if self._replaced is not None:
            self._headers = with_replaced(self._headers, self._replaced)
        if (
            not (self._has_hop_by_hop or self.client_close or filtered or self._replaced)
            and self._reason
            and head.startswith(b"HTTP/1.1 ")
            and not (b"\r\n " in head or b"\r\n\t" in head)  # folded lines
        ):
            return head
        return response_head(status, self._reason, self._headers, chunked=chunked, close=self.client_close)

    # The body

    def _read_chunked(self, data: bytes) -> bytes:
        """Parse a read of a chunked body; returns the part of it that passes, which ends with the message."""
        if self._chunked_end is None:
            self._chunked_end = ChunkedEnd()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.complete:  # bytes behind the end may be anything
                raise
        if self.complete:
            end = self._chunked_end.end_in(data)
            self._surplus = end < len(data)
            data = data[:end]
        else:
            self._chunked_end.passed(data)
        if self.parts:
            self._bare_bytes = 0
        else:
            self._bare_bytes += len(data)
            if self._bare_bytes > MAX_HEAD_BYTES:
                raise HeadError(f"chunk extensions or trailers are longer than {MAX_HEAD_BYTES} bytes")
        return b"".join(self.parts) if self._http10 else data

    def _filtered(self, body_filter: BodyFilter) -> bytes:
        """What the filter lets through of this read, in our own framing."""
        body = body_filter.feed(b"".join(self.parts))
        if self.complete:
            body += body_filter.finish()
        if self._http10:
            return body
        framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return framed + b"0\r\n\r\n" if self.complete else framed

    # httptools calls these

    def on_status(self, reason: bytes) -> None:
        """A piece of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the head, or a trailer. Trailers are ignored here: they pass in the raw bytes."""
        if self.in_body:
            return
        self._headers.append((name, value))
        if name in _PLAIN:
            return
        lowered = name.lower()
        if lowered == b"content-length":
            self._remaining = int(value)
        elif lowered == b"transfer-encoding":
            coding = value.strip().lower()
            if self._chunked or coding != b"chunked":
                raise HeadError("the response has a transfer coding other than chunked")
            self._chunked = True
        elif lowered in HOP_BY_HOP:
            self._has_hop_by_hop = True
        elif len(_PLAIN) < _MAX_PLAIN:
            _PLAIN.add(name)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self.in_body = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body. Pieces that follow the message's end are ignored."""
        if not self.complete:
            self.parts.append(body)

    def on_message_complete(self) -> None:
        """The message has ended. If another message follows in the same read, its end is ignored."""
        if not self.complete:
            self._keep_alive = self._parser.should_keep_alive()  # asked now, since afterwards it is False
            self.complete = True


def _check_begun_head(head: bytes, seen: int) -> None:
    """Raises HeadError as soon as the beginning of a head is malformed, rather than wait for the rest.

    `seen`: how many bytes were checked before. A CR at their end wasn't, since its LF was still to come.
    """
    if not head.startswith(_VERSION) and not _VERSION.startswith(head):
        raise HeadError("the response isn't HTTP/1")
    checked = seen - head.endswith(b"\r", 0, seen)
    check_response_head(head[checked:].removesuffix(b"\r"))
