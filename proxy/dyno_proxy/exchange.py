"""The timeline of one request: stamps while it runs, content and outcome after. Pure: times are arguments.

      received ── body_received ── connected ── sent ── headers ── reads … ── end
relay: stamps each, and hands every read over unread: `read()` appends to a list.
after the last byte (or at every 64 KiB of a long answer): `_digest()` cuts the reads into SSE events and decodes.
`finish()`: outcome and Record.
"""

import zlib
from array import array
from typing import Final

from .readers import ANSWER, DONE, EVENT, OUTPUT, REASONING, Content, RequestBody, read_body, read_event, read_request
from .record import Record
from .sse import SseScanner

KEPT_REQUEST_BYTES: Final = 8 * 1024 * 1024  # of the request's body, for its parameters
KEPT_BODY_BYTES: Final = 16 * 1024 * 1024  # of an unstreamed answer, for its usage
_DIGEST_BYTES: Final = 64 * 1024  # of a stream: decoded in between, so that a long one doesn't pile up


class Exchange:
    """One request. The relay writes the stamps (monotonic ns), the handler the rest."""

    __slots__ = (
        "_content",
        "_decompress",
        "_held",
        "_held_bytes",
        "_scanner",
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
        "json_body",
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
        "readable",
        "reasoning_streamed",
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
        "unknown_encoding",
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
        self.readable = False  # there is a reader for this API

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
        self.json_body = False
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
        self.chunk_offsets_us = array("q")
        self.reasoning_streamed = False
        self.last_write_lag_ns: int | None = None
        self.unknown_encoding = False
        self._token_write_lag_ns: int | None = None
        self._held: list[tuple[int, int, bytes]] = []  # (read, written, bytes), not looked at yet
        self._held_bytes = 0
        self._decompress: zlib._Decompress | None = None
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
                kind = value.split(b";", 1)[0].strip().lower()
                self.streamed = kind == b"text/event-stream"
                self.json_body = kind.endswith(b"json")
            elif lowered == b"content-encoding":
                self._set_encoding(value.strip().lower())
            elif lowered == b"server":
                self.simulated = value == b"dyno-simulate"
            elif lowered == b"retry-after":
                self.retry_after_s = _number(value)
        if self.streamed:
            self._scanner = SseScanner()

    def read(self, read_ns: int, written_ns: int, body: bytes) -> None:
        """One network read's share of the body: kept, looked at later."""
        self.response_bytes += len(body)
        self.last_write_lag_ns = written_ns - read_ns
        if not self.readable or self.unknown_encoding:
            return
        self._held.append((read_ns, written_ns, body))
        self._held_bytes += len(body)
        if self.streamed and self._held_bytes > _DIGEST_BYTES:
            self._digest()
        elif self._held_bytes > KEPT_BODY_BYTES:
            self._held.clear()
            self.readable = False  # too long to look into: its figures stay unknown

    def finish(self, now_ns: int, loop_lag_us: int, gc_pause_us: int | None = None) -> Record:
        """The end, whatever it was: the body's last read, or now. `broken` says what cut it short."""
        end_ns = self.end_ns or now_ns
        if self.streamed:
            self._digest(end=True)
        elif self._held:
            self._digest_body()
        if self.done_ns is None and self.complete:
            self.done_ns = end_ns
        outcome, error_type = self._outcome()
        content = self._content
        request = self._request()
        chunk_count = len(self.chunk_offsets_us)
        usage_source: str | None = None
        output_tokens = content.output_tokens
        if output_tokens is not None:
            usage_source = "server"
        elif chunk_count:
            usage_source, output_tokens = "chunks", chunk_count
        return Record(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            sampled=self.sampled,
            tracestate=self.tracestate,
            started_at_unix_us=self.started_at_unix_us,
            duration_us=(end_ns - self.received_ns) // 1000,
            endpoint=self.endpoint,
            provider=self.provider,
            server_address=self.server_address,
            server_port=self.server_port,
            operation=self.operation,
            method=self.method,
            path=self.path,
            outcome=outcome,
            error_type=error_type,
            status=self.status,
            simulated=self.simulated,
            model=_string(request.model),
            request_stream=request.stream if isinstance(request.stream, bool) else None,
            max_tokens=_integer(request.max_tokens, request.max_completion_tokens, request.max_output_tokens),
            temperature=_float(request.temperature),
            top_p=_float(request.top_p),
            seed=_integer(request.seed),
            response_model=content.response_model,
            response_id=content.response_id,
            finish_reasons=tuple(content.finish_reasons[index] for index in sorted(content.finish_reasons)),
            streamed=self.streamed,
            input_tokens=content.input_tokens,
            output_tokens=output_tokens,
            reasoning_tokens=content.reasoning_tokens,
            cached_tokens=content.cached_tokens,
            usage_source=usage_source,
            first_chunk_tokens=content.first_chunk_tokens,
            reasoning_streamed=self.reasoning_streamed,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            connection_reused=self.connection_reused,
            retry_after_s=self.retry_after_s,
            body_received_us=self._offset_us(self.body_received_ns),
            connected_us=self._offset_us(self.connected_ns),
            sent_us=self._offset_us(self.sent_ns),
            headers_us=self._offset_us(self.headers_ns),
            first_event_us=self._offset_us(self.first_event_ns),
            first_token_us=self._offset_us(self.first_token_ns),
            first_answer_us=self._offset_us(self.first_answer_ns),
            last_token_us=self._offset_us(self.last_token_ns),
            done_us=self._offset_us(self.done_ns),
            chunk_offsets_us=tuple(self.chunk_offsets_us),
            server_ttft_s=content.server_ttft_s,
            server_latency_s=content.server_latency_s,
            server_queue_s=content.server_queue_s,
            server_prefill_s=content.server_prefill_s,
            server_decode_s=content.server_decode_s,
            overhead_us=self._overhead_us(self._token_write_lag_ns),
            overhead_end_us=self._overhead_us(self.last_write_lag_ns),
            loop_lag_us=loop_lag_us,
            gc_pause_us=gc_pause_us,
            retries=self.retries,
            usage_asked=self.usage_asked,
            mirror=self.mirror,
            mirror_trace_id=self.mirror_trace_id,
            mirror_span_id=self.mirror_span_id,
            baggage=self.baggage,
        )

    def _digest(self, *, end: bool = False) -> None:
        """Cut the reads held into SSE events and decode them; each event's time is that of its read."""
        scanner = self._scanner
        held, self._held, self._held_bytes = self._held, [], 0
        if scanner is None:
            return
        for read_ns, written_ns, body in held:
            for payload in scanner.feed(self._plain(body)):
                self._event(payload, read_ns, written_ns)
        if end and held:
            for payload in scanner.finish():
                self._event(payload, held[-1][0], held[-1][1])

    def _event(self, payload: bytes, read_ns: int, written_ns: int) -> None:
        flags = read_event(payload, self._content)
        if flags & EVENT and self.first_event_ns is None:
            self.first_event_ns = read_ns
        if flags & OUTPUT:
            if self.first_token_ns is None:
                self.first_token_ns = read_ns
                self._token_write_lag_ns = written_ns - read_ns
            if flags & ANSWER and self.first_answer_ns is None:
                self.first_answer_ns = read_ns
            self.last_token_ns = read_ns
            self.chunk_offsets_us.append((read_ns - self.received_ns) // 1000)
            if flags & REASONING:
                self.reasoning_streamed = True
        if flags & DONE and self.done_ns is None:
            self.done_ns = read_ns

    def _digest_body(self) -> None:
        body = b"".join(self._plain(body) for _, _, body in self._held)
        self._held = []
        if self.json_body:
            read_body(body, self._content)

    def _set_encoding(self, encoding: bytes) -> None:
        """gzip and deflate are read in a copy; of other encodings the figures inside stay unknown."""
        if encoding in (b"gzip", b"x-gzip"):
            self._decompress = zlib.decompressobj(16 + zlib.MAX_WBITS)
        elif encoding == b"deflate":
            self._decompress = zlib.decompressobj()
        elif encoding not in (b"", b"identity"):
            self.unknown_encoding = True

    def _plain(self, body: bytes) -> bytes:
        if self._decompress is None:
            return body
        try:
            plain = self._decompress.decompress(body, KEPT_BODY_BYTES)
        except zlib.error:
            # Not what the header says. The bytes passed on untouched; what is in them stays unknown.
            self.unknown_encoding = True
            return b""
        if self._decompress.unconsumed_tail:
            self.unknown_encoding = True  # a bomb, or an answer beyond what is kept
        return plain

    def _outcome(self) -> tuple[str, str | None]:
        """The exchange's one outcome, and its error.type."""
        content, status = self._content, self.status
        # A client may leave on reading its API's own end, before the frame that ends the body: OpenAI's SDK does so on
        # [DONE]. It has all there was to have.
        left = self.broken is not None and self.broken[0] == "client_cancelled"
        served = left and self.done_ns is not None and content.finished
        ours_to_say = left or (self.broken is not None and self.broken[0] == "rejected")  # whatever the status
        if self.broken is not None and not served and (ours_to_say or status is None or status < 400):
            return self.broken
        if status is None:
            return "truncated", "no_response"
        if status >= 400:
            return _STATUS_OUTCOMES.get(status, "http_error"), str(status)
        if content.error_type is not None:
            return "stream_error", content.error_type
        if not self.complete and not served:
            return "truncated", "connection_closed"
        if not self.readable or self.unknown_encoding or status != 200 or self.method != "POST":
            return "ok", None
        if not content.readable:
            return "stream_error", "not_the_api"
        if not content.finished:
            return "truncated", "no_finish_reason"
        return "ok", None

    def _request(self) -> RequestBody:
        whole = self.operation is not None and self.request_bytes <= KEPT_REQUEST_BYTES
        return read_request(b"".join(self.request_body)) if whole else RequestBody()

    def _offset_us(self, stamp_ns: int | None) -> int | None:
        return None if stamp_ns is None else (stamp_ns - self.received_ns) // 1000

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


_STATUS_OUTCOMES: Final = {401: "auth", 403: "auth", 429: "rate_limited"}


def _number(value: bytes) -> float | None:
    """Retry-After in seconds; its other form, a date, is None."""
    try:
        return float(value)
    except ValueError:
        return None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integer(*values: object) -> int | None:
    """The first integer of the values; a bool isn't one."""
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
