"""The timeline of one request: stamps while it runs, content and outcome after. Pure: times are arguments.

      received ── body_received ── connected ── sent ── headers ── reads … ── end
relay: stamps each, and hands every read over unread: `read()` appends to a list.
after the last byte (or at every 4 KiB of a stream): `_digest()` decompresses our copy of the reads, cuts it into
SSE events, and lets the API's reader say what each was.
`finish()`: outcome and Record.
"""

from array import array
from typing import Final

from dyno_proxy.http.content_coding import TOO_LONG, Decompressor, UndecodableError, content_codings
from dyno_proxy.http.sse import SseScanner
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
from .record import Record

KEPT_REQUEST_BYTES: Final = 8 * 1024 * 1024  # of the request's body, for its parameters
KEPT_BODY_BYTES: Final = 16 * 1024 * 1024  # of an unstreamed answer, for its usage
_DIGEST_BYTES: Final = 4 * 1024  # of a stream: decoded in between, so that its end isn't a long stretch of the loop
_READ_BYTES: Final = 100  # what keeping a read costs beside its bytes: a thousand tiny ones are no small matter

# A compressed stream may grow this far: LLMs' SSE events shrink to a twentieth, rarely more.
_PLAIN_STREAM_BYTES: Final = 1024 * 1024
_PLAIN_STREAM_RATIO: Final = 64

NO_READER: Final = "no_reader"


class Exchange:
    """One request. The relay writes the stamps (monotonic ns), the handler the rest."""

    __slots__ = (
        "_codings",
        "_content",
        "_decompressor",
        "_held",
        "_held_bytes",
        "_last_read",
        "_scanner",
        "_seen",
        "_token_write_lag_ns",
        "baggage",
        "body_received_ns",
        "broken",
        "chunk_offsets_us",
        "complete",
        "connected_ns",
        "connection_reused",
        "done_ns",
        "end_ns",
        "endpoint",
        "first_answer_ns",
        "first_event_ns",
        "first_token_ns",
        "headers_ns",
        "hides_reasoning",
        "last_token_ns",
        "last_write_lag_ns",
        "method",
        "mirror",
        "mirror_span_id",
        "mirror_trace_id",
        "operation",
        "parent_span_id",
        "path",
        "provider",
        "reader",
        "received_ns",
        "request_body",
        "request_bytes",
        "response_bytes",
        "retries",
        "retry_after_s",
        "sampled",
        "sent_ns",
        "server_address",
        "server_port",
        "simulated",
        "span_id",
        "started_at_unix_us",
        "status",
        "streamed",
        "trace_id",
        "tracestate",
        "unread",
        "usage_asked",
    )

    def __init__(self, received_ns: int, started_at_unix_us: int, method: str, path: str) -> None:
        self.received_ns = received_ns
        self.started_at_unix_us = started_at_unix_us
        self.method = method
        self.path = path
        self.trace_id = 0
        self.span_id = 0
        self.parent_span_id: int | None = None
        self.sampled: bool | None = None
        self.tracestate: str | None = None
        self.baggage: dict[str, str | int | float | bool] = {}

        self.endpoint: str | None = None
        self.provider: str | None = None
        self.server_address: str | None = None
        self.server_port: int | None = None
        self.operation: str | None = None
        self.reader: Reader | None = None  # how to read this API; None: nobody knows how
        self.hides_reasoning = False  # the configuration says that reasoning is neither shown nor counted

        self.retries: int | None = None
        self.usage_asked: bool | None = None
        self.mirror: str | None = None
        self.mirror_trace_id: str | None = None
        self.mirror_span_id: str | None = None

        self.request_body: list[bytes] = []
        self.request_bytes = 0
        self.body_received_ns: int | None = None
        self.connected_ns: int | None = None
        self.connection_reused: bool | None = None
        self.sent_ns: int | None = None

        self.status: int | None = None
        self.headers_ns: int | None = None
        self.streamed: bool | None = None
        self.simulated = False
        self.retry_after_s: float | None = None
        self.response_bytes = 0
        self.complete = False  # the body reached its end by HTTP's rules
        self.broken: tuple[str, str] | None = None  # (outcome, error.type) of whatever ended it early
        self.end_ns: int | None = None  # the read that completed the body

        self.first_event_ns: int | None = None
        self.first_token_ns: int | None = None
        self.first_answer_ns: int | None = None
        self.last_token_ns: int | None = None
        self.done_ns: int | None = None
        self.chunk_offsets_us: array[int] | None = None
        self.last_write_lag_ns: int | None = None
        self.unread: str | None = None  # why the response isn't looked into
        self._token_write_lag_ns: int | None = None
        self._held: list[tuple[int, int, bytes]] = []  # (read, written, bytes), not looked at yet
        self._held_bytes = 0
        self._last_read: tuple[int, int, bytes] = (0, 0, b"")
        self._seen = 0  # what the SSE events so far were, as a sum of the readers' flags
        self._codings: tuple[bytes, ...] = ()
        self._decompressor: Decompressor | None = None
        self._scanner: SseScanner | None = None
        self._content = Content()

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
            self._scanner = SseScanner()
            self.chunk_offsets_us = array("q")

    def read(self, read_ns: int, written_ns: int, body: bytes) -> None:
        """One network read's share of the body: kept, looked at later."""
        self.response_bytes += len(body)
        self.last_write_lag_ns = written_ns - read_ns
        if self.reader is None or self.unread is not None:
            return
        self._held.append((read_ns, written_ns, body))
        self._held_bytes += len(body) + _READ_BYTES
        if self._held_bytes > _DIGEST_BYTES:
            if self.streamed:
                self._digest(self.reader)
            elif self._held_bytes > KEPT_BODY_BYTES:
                self._held.clear()
                self.unread = TOO_LONG

    def finish(self, now_ns: int, loop_lag_us: int, gc_pause_us: int | None = None) -> Record:
        """The end, whatever it was: the body's last read, or now. `broken` says what cut it short."""
        end_ns = self.end_ns or now_ns
        if self.reader is None:
            if self.response_bytes:
                self.unread = NO_READER
        elif self.streamed:
            self._digest(self.reader, end=True)
        elif self._held:
            self._digest_body(self.reader)
        if self.done_ns is None and self.complete:
            self.done_ns = end_ns
        outcome, error_type = self._outcome()
        content = self._content
        request = self._request()
        body_received_us, connected_us, sent_us, headers_us = self._offsets_us(
            self.body_received_ns, self.connected_ns, self.sent_ns, self.headers_ns
        )
        first_event_us, first_token_us, first_answer_us, last_token_us, done_us = self._offsets_us(
            self.first_event_ns, self.first_token_ns, self.first_answer_ns, self.last_token_ns, self.done_ns
        )
        chunk_offsets_us = tuple(self.chunk_offsets_us) if self.chunk_offsets_us is not None else ()
        usage_source: str | None = None
        output_tokens = content.output_tokens
        if output_tokens is not None:
            usage_source = "server"
        elif chunk_offsets_us:
            usage_source, output_tokens = "chunks", len(chunk_offsets_us)
        # By position, in Record's order: 70 keywords would cost 3 µs more. test_exchange.py looks after the order.
        return Record(
            self.trace_id,
            self.span_id,
            self.parent_span_id,
            self.sampled,
            self.tracestate,
            self.started_at_unix_us,
            (end_ns - self.received_ns) // 1000,
            self.endpoint,
            self.provider,
            self.server_address,
            self.server_port,
            self.operation,
            self.method,
            self.path,
            outcome,
            error_type,
            self.status,
            self.simulated,
            _string(request.model),
            request.stream if isinstance(request.stream, bool) else None,
            _integer(request.max_tokens, request.max_completion_tokens, request.max_output_tokens),
            _float(request.temperature),
            _float(request.top_p),
            _integer(request.seed),
            content.response_model,
            content.response_id,
            content.finish_reasons,
            self.streamed,
            content.input_tokens,
            output_tokens,
            content.reasoning_tokens,
            content.cached_tokens,
            usage_source,
            content.first_chunk_tokens,
            bool(self._seen & REASONING),
            self.request_bytes,
            self.response_bytes,
            self.connection_reused,
            self.retries,
            self.retry_after_s,
            self.usage_asked,
            content.hides_reasoning(configured=self.hides_reasoning) or None,
            chunk_cadence(chunk_offsets_us) if chunk_offsets_us else None,
            self.unread,
            self._unreadable_events(),
            body_received_us,
            connected_us,
            sent_us,
            headers_us,
            first_event_us,
            first_token_us,
            first_answer_us,
            last_token_us,
            done_us,
            chunk_offsets_us,
            content.server_ttft_s,
            content.server_latency_s,
            content.server_queue_s,
            content.server_prefill_s,
            content.server_decode_s,
            self._overhead_us(self._token_write_lag_ns),
            self._overhead_us(self.last_write_lag_ns),
            loop_lag_us,
            gc_pause_us,
            self.mirror,
            self.mirror_trace_id,
            self.mirror_span_id,
            self.baggage,
        )

    def give_up(self, why: str) -> None:
        """Look into nothing any more: `finish()` failed, and won't a second time."""
        self.unread = why
        self._held, self.request_body = [], []
        self._scanner = self._decompressor = self.chunk_offsets_us = None

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
        """The body passed on as it came; what can't be decompressed of our copy stays unknown."""
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

    def _outcome(self) -> tuple[str, str | None]:
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

    def _offsets_us(self, *stamps_ns: int | None) -> list[int | None]:
        received_ns = self.received_ns
        return [None if stamp_ns is None else (stamp_ns - received_ns) // 1000 for stamp_ns in stamps_ns]

    def _overhead_us(self, write_lag_ns: int | None) -> int | None:
        """(sent - the later of body_received and connected) + (a read's write - the read); MEASURING, 'own overhead'.

        A streamed request's is that of the first token; one that isn't streamed has the last byte's alone.
        """
        if write_lag_ns is None and not self.streamed:
            write_lag_ns = self.last_write_lag_ns
        if write_lag_ns is None or self.sent_ns is None or self.connected_ns is None:
            return None
        ready_ns = max(self.connected_ns, self.body_received_ns or 0)
        # A body that streams through is sent before its last byte is in: the proxy waits for the client, not it for us.
        return (max(0, self.sent_ns - ready_ns) + write_lag_ns) // 1000


_ASKING_TO_WAIT: Final = (429, 503)


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integer(*values: object) -> int | None:
    """The first integer of the values; a bool isn't one."""
    for value in values:
        if type(value) is int:
            return value
    return None


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
