"""The timeline of one request: stamps while it runs, content and outcome after. Pure: times are arguments.

      received ── body_received ── connected ── sent ── headers ── reads … ── end
The relay sets each stamp, and hands over the bytes of every network read: `read()` only appends them to a list.
After the last byte, and at every 4 KiB of a stream, `_digest()` decompresses these copies, cuts them into SSE events,
and lets the API's reader say what each event was. `finish()` decides on the outcome and makes the Record.
"""

from array import array
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from typing import Any, Final

from dyno_proxy.http.content_coding import TOO_LONG, Decompressor, UndecodableError, content_codings
from dyno_proxy.http.sse import SseScanner, is_stream
from dyno_proxy.outcomes import Ending
from dyno_proxy.readers import (
    ANSWER,
    DONE,
    EVENT,
    OUTPUT,
    REASONING,
    Content,
    Reader,
    RequestBody,
    read_request,
    read_retry_after,
    seconds_said,
)

from .cadence import chunk_cadence
from .outcome import exchange_outcome
from .record import AS_CONTENT, AS_EXCHANGE, STAMPED, Record

KEPT_REQUEST_BYTES: Final = 8 * 1024 * 1024  # of a request's body: a longer one isn't read for its parameters
KEPT_BODY_BYTES: Final = 16 * 1024 * 1024  # of an unstreamed answer: a longer one isn't read for its usage
_DIGEST_BYTES: Final = 4 * 1024  # a stream is decoded in such pieces, so that its end doesn't hold up the event loop
_READ_BYTES: Final = 100  # memory that a kept read takes beside its bytes, so that a thousand tiny reads count as well

# A compressed stream may grow this far: LLMs' SSE events shrink to a twentieth, rarely more.
_PLAIN_STREAM_BYTES: Final = 1024 * 1024
_PLAIN_STREAM_RATIO: Final = 64

NO_READER: Final = "no_reader"


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """One request. The relay writes the stamps (monotonic ns), the handler the rest."""

    received_ns: int
    started_at_unix_us: int
    method: str
    path: str
    trace_id: int = 0
    span_id: int = 0
    parent_span_id: int | None = None
    sampled: bool | None = None
    tracestate: str | None = None
    baggage: dict[str, str | int | float | bool] = field(default_factory=dict)

    endpoint: str | None = None
    provider: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    operation: str | None = None
    reader: Reader | None = None  # how to read this API; None: nobody knows how
    hides_reasoning: bool = False  # the configuration says that reasoning is neither shown nor counted

    client: str | None = None  # the name of the key that the client showed
    retries: int | None = None
    resent: bool | None = None
    usage_asked: bool | None = None
    mirror: str | None = None
    mirror_trace_id: str | None = None
    mirror_span_id: str | None = None

    request_body: list[bytes] = field(default_factory=list)
    request_bytes: int = 0
    body_received_ns: int | None = None
    connected_ns: int | None = None
    connection_reused: bool | None = None
    sent_ns: int | None = None

    status: int | None = None
    headers_ns: int | None = None
    streamed: bool | None = None
    simulated: bool = False
    retry_after_s: float | None = None
    response_bytes: int = 0
    complete: bool = False  # the body reached its end by HTTP's rules
    broken: Ending | None = None  # what ended it early
    end_ns: int | None = None  # the read that completed the body

    first_event_ns: int | None = None
    first_token_ns: int | None = None
    first_answer_ns: int | None = None
    last_token_ns: int | None = None
    done_ns: int | None = None
    chunk_offsets_us: MutableSequence[int] | None = None
    last_write_lag_ns: int | None = None
    unread: str | None = None  # why the response isn't looked into
    _recognised: bool = True  # whether it is known if the response is a stream
    _token_write_lag_ns: int | None = None
    _held: list[tuple[int, int, bytes]] = field(default_factory=list)  # (read, written, bytes), not looked at yet
    _held_bytes: int = 0
    _last_read: tuple[int, int, bytes] = (0, 0, b"")
    _seen: int = 0  # what the SSE events so far were, as a sum of the readers' flags
    _codings: tuple[bytes, ...] = ()
    _decompressor: Decompressor | None = None
    _scanner: SseScanner | None = None
    _content: Content = field(default_factory=Content)

    def head(self, now_ns: int, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The upstream's response head."""
        self.headers_ns = now_ns
        self.status = status
        self.streamed = False
        for name, value in headers:
            lowered = name.lower()
            if lowered == b"content-type":
                self.streamed = value.split(b";", 1)[0].strip().lower() == b"text/event-stream"
            elif lowered == b"content-encoding":
                self._codings += content_codings(value)
            elif lowered == b"server":
                self.simulated = value == b"dyno-simulate"
            elif lowered == b"retry-after":
                self.retry_after_s = seconds_said(value.decode("latin-1"))
        if self.streamed and self.reader is not None:
            self._begin_stream()
        self._recognised = self.streamed or status != 200  # else the body's first bytes decide whether it is a stream

    def read(self, read_ns: int, written_ns: int, body: bytes) -> None:
        """Take the part of the body that one network read brought. It is kept, and looked into later."""
        self.response_bytes += len(body)
        self.last_write_lag_ns = written_ns - read_ns
        if self.reader is None or self.unread is not None:
            return
        self._held.append((read_ns, written_ns, body))
        self._held_bytes += len(body) + _READ_BYTES
        if not self._recognised:
            # JSON, as it mostly is: quickly told.
            if self.response_bytes == len(body) and body.startswith(b"{") and not self._codings:
                self._recognised = True
            else:
                self._recognise(end=False)
        if self._held_bytes > _DIGEST_BYTES:
            if self.streamed:
                self._digest(self.reader)
            elif self._held_bytes > KEPT_BODY_BYTES:
                self._held.clear()
                self.unread = TOO_LONG

    def finish(self, now_ns: int, loop_lag_us: int, gc_pause_us: int | None = None) -> Record:
        """End the exchange, at the body's last read or else now. `broken` says what cut it short."""
        end_ns = self.end_ns or now_ns
        self._read_rest()
        if self.done_ns is None and self.complete:
            self.done_ns = end_ns
        outcome, error_type = self._outcome()
        content = self._content
        chunk_offsets_us = tuple(self.chunk_offsets_us) if self.chunk_offsets_us is not None else ()
        usage_source: str | None = None
        output_tokens = content.output_tokens
        if output_tokens is not None:
            usage_source = "server"
        elif chunk_offsets_us:
            usage_source, output_tokens = "chunks", len(chunk_offsets_us)
        # By position, in Record's order: 70 keywords would cost 3 µs more. test_exchange.py checks the order.
        values: tuple[Any, ...] = (
            *_handed_over(self, content),
            *self._request().parameters(),
            (end_ns - self.received_ns) // 1000,
            outcome,
            error_type,
            output_tokens,
            usage_source,
            bool(self._seen & REASONING),
            content.hides_reasoning(configured=self.hides_reasoning) or None,
            chunk_cadence(chunk_offsets_us) if chunk_offsets_us else None,
            self._unreadable_events(),
            chunk_offsets_us,
            self._overhead_us(self._token_write_lag_ns),
            self._overhead_us(self.last_write_lag_ns),
            loop_lag_us,
            gc_pause_us,
        )
        return Record(*values)

    def give_up(self, why: str) -> None:
        """Drop what isn't read yet: `finish()` failed on it, and works without. `why` becomes `unread`."""
        self.unread = why
        self._held, self.request_body = [], []
        self._scanner = self._decompressor = self.chunk_offsets_us = None

    def _begin_stream(self) -> None:
        self._scanner = SseScanner()
        self.chunk_offsets_us = array("q")

    def _recognise(self, *, end: bool) -> None:
        """Find out whether the body is a stream of SSE events, whatever its Content-Type says.

        vLLM's own proxy for separate prefill and decode sends `application/json`, for example.

        `end`: no more bytes come.
        """
        begun = b"".join([read[2] for read in self._held])
        if self._codings:
            try:
                begun = Decompressor(self._codings, _PLAIN_STREAM_BYTES, _PLAIN_STREAM_RATIO).feed(begun)
            except UndecodableError:
                self._recognised = True  # as `_plain` will say
                return
        streamed = is_stream(begun, end=end)
        if streamed is None:
            return
        self._recognised = True
        if streamed:
            self.streamed = True
            self._begin_stream()

    def _read_rest(self) -> None:
        """Look into what is still held of the response."""
        if not self._recognised and self._held:
            self._recognise(end=True)
        if self.reader is None:
            if self.response_bytes:
                self.unread = NO_READER
        elif self.streamed:
            self._digest(self.reader, end=True)
        elif self._held:
            self._digest_body(self.reader)

    def _digest(self, reader: Reader, *, end: bool = False) -> None:
        """Cut the reads held into SSE events and decode them; each event's time is that of its read."""
        held, self._held, self._held_bytes = self._held, [], 0
        scanner = self._scanner
        if scanner is None:
            return
        for read in held:
            body = self._plain(read[2]) if self._codings else read[2]
            self._read_events(scanner.feed(body), reader, read)
        if held:
            self._last_read = held[-1]
        if end and self.unread is None:
            self._read_events(scanner.finish(), reader, self._last_read)

    def _read_events(self, events: list[bytes], reader: Reader, read: tuple[int, int, bytes]) -> None:
        for data in events:
            flags = reader.event(data, self._content)
            if flags & OUTPUT and self.chunk_offsets_us is not None:
                self.last_token_ns = read[0]
                self.chunk_offsets_us.append((read[0] - self.received_ns) // 1000)
            new = flags & ~self._seen
            if new:
                self._seen |= new
                self._seen_first(new, read[0], read[1])

    def _seen_first(self, new: int, read_ns: int, written_ns: int) -> None:
        if new & EVENT:
            self.first_event_ns = read_ns
        if new & OUTPUT and self.first_token_ns is None:
            self.first_token_ns = read_ns
            self._token_write_lag_ns = written_ns - read_ns
        if new & ANSWER:
            self.first_answer_ns = read_ns
        if new & DONE:
            self.done_ns = read_ns

    def _digest_body(self, reader: Reader) -> None:
        if self.status is not None and self.status >= 400 and self.status not in _ASKING_TO_WAIT:
            return
        if self._codings:
            body = b"".join([self._plain(read[2]) for read in self._held])
        else:
            body = b"".join([read[2] for read in self._held])
        self._held.clear()
        if self.unread is not None:
            return
        if self.status in _ASKING_TO_WAIT:
            if self.retry_after_s is None:
                self.retry_after_s = read_retry_after(body)
        else:
            reader.body(body, self._content)

    def _plain(self, body: bytes) -> bytes:
        """Our copy of the body, decompressed. If that fails, the content stays unknown; the client isn't affected."""
        if self.unread is not None:
            return b""
        try:
            if self._decompressor is None:
                if self.streamed:
                    self._decompressor = Decompressor(self._codings, _PLAIN_STREAM_BYTES, _PLAIN_STREAM_RATIO)
                else:
                    self._decompressor = Decompressor(self._codings, KEPT_BODY_BYTES)
            return self._decompressor.feed(body)
        except UndecodableError as error:
            self.unread = error.why
            self._decompressor = None
            return b""

    def _outcome(self) -> Ending:
        return exchange_outcome(
            self._content,
            self.status,
            self.broken,
            complete=self.complete,
            done=self.done_ns is not None,
            judged=self.reader is not None and self.unread is None and self.status == 200 and self.method == "POST",
            strange=bool(self._unreadable_events() if self.streamed else self.response_bytes),
        )

    def _unreadable_events(self) -> int | None:
        """None where there were none."""
        oversized = 0 if self._scanner is None else self._scanner.oversized
        return self._content.unreadable_events + oversized or None

    def _request(self) -> RequestBody:
        whole = self.operation is not None and self.request_bytes <= KEPT_REQUEST_BYTES
        return read_request(b"".join(self.request_body)) if whole else RequestBody()

    def _overhead_us(self, write_lag_ns: int | None) -> int | None:
        """What the proxy added: (sent - the later of body_received and connected) + (a read's write - the read).

        For a streamed response the read is that of the first token, otherwise that of the last byte.
        """
        if write_lag_ns is None and not self.streamed:
            write_lag_ns = self.last_write_lag_ns
        if write_lag_ns is None or self.sent_ns is None or self.connected_ns is None:
            return None
        ready_ns = max(self.connected_ns, self.body_received_ns or 0)
        # A body may be sent on before its last byte has come. Then the proxy waits for the client: no overhead.
        return (max(0, self.sent_ns - ready_ns) + write_lag_ns) // 1000


_ASKING_TO_WAIT: Final = (429, 503)


def _handing_over() -> Callable[[Exchange, Content], tuple[Any, ...]]:
    """The function that takes Record's first three sections from an exchange and its content.

    It is written out from Record's names, as dataclasses write their __init__: attrgetter would take 1.5 µs longer.
    """
    stamps = [f"exchange.{name.removesuffix('_us')}_ns" for name in STAMPED]
    values = [
        *(f"exchange.{name}" for name in AS_EXCHANGE),
        *(f"content.{name}" for name in AS_CONTENT),
        *(f"None if {stamp} is None else ({stamp} - exchange.received_ns) // 1000" for stamp in stamps),
    ]
    written: Callable[[Exchange, Content], tuple[Any, ...]] = eval(  # noqa: S307  # of names in our own source
        f"lambda exchange, content: ({', '.join(values)})"
    )
    return written


_handed_over: Final = _handing_over()
