"""The timeline of one request: stamps while it runs, content and outcome after. Pure: times are arguments.

      received ── body_received ── connected ── sent ── headers ── reads … ── end
The relay sets each stamp, and hands over the bytes of every network read: `read()` only appends them to a list.
After the last byte, and at every 4 KiB of a stream, `_digest()` cuts these copies into SSE events, and lets the API's
reader say what each event was. What takes long is done in stretches instead, by `look()`: a large read, a long body,
anything compressed. `finish()` decides on the outcome and makes the Record.
"""

from array import array
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import dataclass, field
from typing import Any, Final

from dyno_proxy.http.content_coding import TOO_LONG, Decompressor, UndecodableError, beginning
from dyno_proxy.http.sse import SseScanner, is_stream
from dyno_proxy.outcomes import Ending
from dyno_proxy.readers import (
    ANSWER,
    DONE,
    EVENT,
    OPENAI,
    OUTPUT,
    REASONING,
    Content,
    Reader,
    RequestBody,
    Skim,
    read_retry_after,
    skim_refusal,
)

from .cadence import chunk_cadence
from .kept import NO_MEMORY, SHORT_BYTES, TOO_COMPLEX, Kept, UsageAsking, end_of_stretch
from .outcome import exchange_outcome
from .overhead import overhead_us
from .record import Record, handed_over
from .response_head import read_head
from .tokens import first_read_tokens, output_tokens

KEPT_BODY_BYTES: Final = 16 * 1024 * 1024  # of an unstreamed answer: a longer one isn't read for its usage
_DIGEST_BYTES: Final = 4 * 1024  # a stream is decoded in such pieces, so that its end doesn't hold up the event loop
_FAR_BEHIND_BYTES: Final = 64 * 1024  # of a stream: then no more of it is read for a while
_FAR_BEHIND_IN_BODY_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 100  # memory that a kept read takes beside its bytes, so that a thousand tiny reads count as well

# A compressed stream may grow this far: LLMs' SSE events shrink to a twentieth, rarely more.
_PLAIN_STREAM_BYTES: Final = 1024 * 1024
_PLAIN_STREAM_RATIO: Final = 64

NO_READER: Final = "no_reader"


@dataclass(slots=True, eq=False, repr=False)
class Exchange(Kept):
    """One request. The relay writes the stamps (monotonic ns), the handler the rest."""

    trace_id: int = 0
    span_id: int = 0
    parent_span_id: int | None = None
    sampled: bool | None = None
    tracestate: str | None = None
    baggage: dict[str, str | int | float | bool] = field(default_factory=dict)

    endpoint: str | None = None
    provider: str | None = OPENAI
    server_address: str | None = None
    server_port: int | None = None
    reader: Reader | None = None  # how to read this API; None: nobody knows how
    hides_reasoning: bool = False  # the configuration says that reasoning is neither shown nor counted

    endpoint_path: str | None = None  # the request's path at the endpoint
    client: str | None = None  # the name of the key that the client showed
    client_address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None  # the endpoint's
    rarer: dict[str, str | int | float | bool] | None = None  # attributes that few requests have
    named_user: Callable[[str], str] | None = None  # what is kept of a user's name; None: nothing is
    retries: int | None = None
    resent: bool | None = None
    usage_asked: bool | None = None
    usage_asking: UsageAsking | None = None  # is told how the endpoint took the stream
    mirror: str | None = None
    mirror_trace_id: str | None = None
    mirror_span_id: str | None = None

    body_received_ns: int | None = None
    connected_ns: int | None = None
    connection_reused: bool | None = None
    sent_ns: int | None = None

    status: int | None = None
    headers_ns: int | None = None
    streamed: bool | None = None
    simulated: bool = False
    retry_after_s: float | None = None
    rtt_us: int | None = None  # of the connection at the first byte of the response
    min_rtt_us: int | None = None
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

    _looked_into: bool = False  # the response is
    _plain: tuple[bytes, ...] = ()  # an unstreamed body, undone of its codings, while it is short
    _plain_bytes: int = 0
    _body_skim: Skim | None = None  # takes a long one
    _holding_back: bool = False
    _behind_bytes: int = 0  # of the budget: the reads that `look()` hasn't begun with
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
    _refusal: bytes = b""  # its body, if somebody wants to know why

    def head(self, now_ns: int, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The upstream's response head."""
        self.headers_ns = now_ns
        self.status = status
        if not self.request_needed:
            self.forget_request()
        self.streamed, self._codings, self.simulated, self.retry_after_s, self.request_id = read_head(headers)
        if self.reader is not None:
            if self.streamed:
                self._begin_stream(self.reader)
            read = _ASKING_TO_WAIT if self.usage_asking is None else _ASKING_TO_WAIT + _REFUSING
            self._looked_into = self.streamed or status < 400 or status in read
        self._recognised = self.streamed or status != 200  # else the body's first bytes decide whether it is a stream

    def read(self, read_ns: int, written_ns: int, body: bytes) -> None:
        """Take the part of the body that one network read brought. It is kept, and looked into later."""
        self.response_bytes += len(body)
        self.last_write_lag_ns = written_ns - read_ns
        if not self._looked_into or self.reader is None:
            return
        self._held.append((read_ns, written_ns, body))
        self._held_bytes += len(body) + _READ_BYTES
        if not self._recognised:
            # JSON, as it mostly is: quickly told.
            if self.response_bytes == len(body) and body.startswith(b"{") and not self._codings:
                self._recognised = True
            else:
                self._recognise(self.reader, end=self._held_bytes > _DIGEST_BYTES)
        if self._held_bytes > _DIGEST_BYTES:
            self._held_enough(len(body) + _READ_BYTES)

    def finish(self, now_ns: int, loop_lag_us: int, gc_pause_us: int | None = None) -> Record:
        """End the exchange, at the body's last read or else now. `broken` says what cut it short."""
        end_ns = self.end_ns or now_ns
        while self.look():
            pass
        self._read_rest()
        if self.done_ns is None and self.complete:
            self.done_ns = end_ns
        asked, content = self._request(), self._content
        content.choices_asked = None if self.request_unread else 1
        if asked.says_more:
            self._note_rarer(asked)
        if self.usage_asking is not None and self.status is not None and asked.stream is True:
            self.usage_asking.answered(self.status, self._refusal, asked=self.usage_asked is True)
        outcome = self._outcome()
        chunk_offsets_us = tuple(self.chunk_offsets_us or ())
        tokens, usage_source = output_tokens(content, self._chunks_read() if self.streamed else None)
        ready_ns = None if self.connected_ns is None else max(self.connected_ns, self.body_received_ns or 0)
        overhead_end_us = overhead_us(ready_ns, self.sent_ns, self.last_write_lag_ns)
        # By position, in Record's order: 70 keywords would cost 3 µs more. test_exchange.py checks the order.
        values: tuple[Any, ...] = (
            *handed_over(self, content),
            *asked.parameters(),
            (end_ns - self.received_ns) // 1000,
            *outcome,
            tokens,
            usage_source,
            first_read_tokens(content, chunk_offsets_us) if chunk_offsets_us else None,
            content.several_choices,
            bool(self._seen & REASONING),
            content.hides_reasoning(configured=self.hides_reasoning) or None,
            chunk_cadence(chunk_offsets_us) if chunk_offsets_us else None,
            self._unreadable_events(),
            chunk_offsets_us,
            overhead_us(ready_ns, self.sent_ns, self._token_write_lag_ns) if self.streamed else overhead_end_us,
            overhead_end_us,
            loop_lag_us,
            gc_pause_us,
        )
        return Record(*values)

    def give_up(self, why: str) -> None:
        """Drop what isn't read yet: `finish()` failed on it, and works without. `why` becomes `unread`."""
        self._stop(why)
        self.request_unread = why
        self.request_body, self._asked = [], ()
        self._asked_skim = self._looking = self._scanner = self.chunk_offsets_us = None

    @property
    def behind(self) -> bool:
        """Whether `look()` has something to do before `finish()` is quick. Asked when the exchange has ended."""
        if self._codings and self._held and not self._reads_behind:
            self._reads_behind = True
            self._look_soon()
        return self._looking is not None

    def _held_enough(self, new_bytes: int) -> None:
        """So much is held that it can't wait for the end. `new_bytes`: the last read's part of it."""
        if not self._reads_behind:
            if self.streamed:
                if self.reader is not None and self._is_quick():
                    self._digest(self.reader)
                    return
            elif self._held_bytes <= SHORT_BYTES and self._body_skim is None:
                return
            new_bytes = self._held_bytes
            self._reads_behind = True
        if self._behind_bytes > KEPT_BODY_BYTES or (not self.streamed and self.response_bytes > KEPT_BODY_BYTES):
            self._stop(TOO_LONG)
        elif not self.keep(new_bytes):
            self._stop(NO_MEMORY)
        else:
            self._behind_bytes += new_bytes
            if self._behind_bytes > (_FAR_BEHIND_BYTES if self.streamed else _FAR_BEHIND_IN_BODY_BYTES):
                self._hold_back()
            self._look_soon()

    def _is_quick(self) -> bool:
        """Whether the reads held of a stream can be looked into at once."""
        if self._codings or self._held_bytes > SHORT_BYTES:
            return False
        # An event may have as few as eight bytes, and looking into it takes 4 µs even if it isn't JSON.
        return self._held_bytes <= 2 * _DIGEST_BYTES or sum([read[2].count(b"data") for read in self._held]) <= 400

    def _look_into_reads(self) -> Iterator[None]:
        held, self._held, self._held_bytes = self._held, [], 0
        counted_bytes, self._behind_bytes = self._behind_bytes, 0
        for read in held:
            for plain in self._undone(read[2]) if self._looked_into else ():
                at = 0
                while at < len(plain) and self._looked_into:
                    end = end_of_stretch(plain, at, streamed=self.streamed is True)
                    if not self.streamed:
                        yield from self._take_body(plain[at:end])
                    elif self._scanner is not None and self.reader is not None:
                        self._read_events(self._scanner.feed(plain[at:end]), self.reader, read)
                    at = end
                    yield
        if held:
            self._last_read = held[-1]
        self._uncount(counted_bytes)
        self._reads_behind = bool(self._held)
        self._catch_up()

    def _hold_back(self) -> None:
        """The response comes faster than it can be looked into."""
        if self.upstream is not None and not self._holding_back:
            self._holding_back = True
            self.upstream.hold_back()

    def _catch_up(self) -> None:
        if self.upstream is not None and self._holding_back:
            self._holding_back = False
            self.upstream.go_on()

    def _undone(self, body: bytes) -> Iterator[bytes]:
        """Our copy of the body without its codings, in pieces. If that fails, its content stays unknown."""
        if not self._codings:
            yield body
            return
        try:
            if self._decompressor is None:
                if self.streamed:
                    self._decompressor = Decompressor(self._codings, _PLAIN_STREAM_BYTES, _PLAIN_STREAM_RATIO)
                else:
                    self._decompressor = Decompressor(self._codings, KEPT_BODY_BYTES)
            for piece in self._decompressor.pieces(body):
                yield piece
                if not self._looked_into:
                    return
        except UndecodableError as error:
            self._stop(error.why)

    def _take_body(self, piece: bytes) -> Iterator[None]:
        """Take a piece of an unstreamed body: keep it while the body is short, and skim it afterwards."""
        pieces: tuple[bytes, ...] = (piece,)
        if self._body_skim is None:
            self._plain += pieces
            self._plain_bytes += len(piece)
            if self._plain_bytes <= SHORT_BYTES:
                return
            refused = self.status in _ASKING_TO_WAIT
            self._body_skim = skim_refusal() if refused or self.reader is None else self.reader.skim_body()
            pieces, self._plain = self._plain, ()
        for each in pieces:
            self._body_skim.feed(each)
            yield

    def _stop(self, why: str) -> None:
        """Look no further into the response."""
        self.unread = why
        self._looked_into = self._reads_behind = False
        self._held, self._plain = [], ()
        self._held_bytes = 0
        self._uncount(self._behind_bytes)
        self._behind_bytes = 0
        self._catch_up()
        self._decompressor = self._body_skim = None

    def _begin_stream(self, reader: Reader) -> None:
        self._scanner = SseScanner(skim=reader.skim_event)
        self.chunk_offsets_us = array("q")

    def _recognise(self, reader: Reader, *, end: bool) -> None:
        """Find out whether the body is a stream of SSE events, whatever its Content-Type says.

        vLLM's own proxy for separate prefill and decode sends `application/json`, for example.

        `end`: no more bytes decide it.
        """
        begun = b"".join([read[2] for read in self._held])
        if self._codings:
            try:
                begun = beginning(self._codings, begun)
            except UndecodableError:
                self._recognised = True  # as `_undone` will say
                return
        streamed = is_stream(begun, end=end)
        if streamed is None:
            return
        self._recognised = True
        if streamed:
            self.streamed = True
            self._begin_stream(reader)

    def _read_rest(self) -> None:
        """Look into what is still held of the response."""
        if self.reader is None:
            if self.response_bytes:
                self.unread = NO_READER
            return
        if not self._recognised and self._held:
            self._recognise(self.reader, end=True)
        while self.behind:  # it is only now known to be compressed and short
            self.look()
        if self.streamed:
            self._digest(self.reader, end=True)
        elif self.unread is None:
            self._digest_body(self.reader)

    def _digest(self, reader: Reader, *, end: bool = False) -> None:
        """Cut the reads held into SSE events and decode them; each event's time is that of its read."""
        held, self._held, self._held_bytes = self._held, [], 0
        scanner = self._scanner
        if scanner is None:
            return
        for read in held:
            self._read_events(scanner.feed(read[2]), reader, read)
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
        if read[0] == self.first_token_ns:
            self._content.end_first_read()

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
        if self._body_skim is not None:
            for read in self._held:
                self._body_skim.feed(read[2])
            skimmed = self._body_skim.finish()
            if skimmed is None:
                self._stop(TOO_COMPLEX)
                return
            body = skimmed
        elif self._plain or self._held:
            body = b"".join((*self._plain, *[read[2] for read in self._held]))
        else:
            return
        self._held, self._plain = [], ()
        if self.status in _ASKING_TO_WAIT:
            if self.retry_after_s is None:
                self.retry_after_s = read_retry_after(body)
        elif self.status in _REFUSING:
            self._refusal = body
        else:
            reader.body(body, self._content)

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

    def _chunks_read(self) -> int | None:
        """How many chunks a stream had; None where it was no answer, or wasn't read."""
        known = self.unread is None and (self._content.readable or not self._content.unreadable_events)
        chunks = len(self.chunk_offsets_us or ())
        return chunks if self.reader and (self.status or 400) < 400 and (known or chunks) else None

    def _note_rarer(self, asked: RequestBody) -> None:
        self._content.choices_asked = asked.choices()
        self.rarer = asked.rarer()
        if (user := asked.asking_user()) is not None and self.named_user is not None:
            self.rarer["dyno.user"] = self.named_user(user)

    def _unreadable_events(self) -> int | None:
        """None where there were none."""
        oversized = 0 if self._scanner is None else self._scanner.oversized
        return self._content.unreadable_events + oversized or None


_ASKING_TO_WAIT, _REFUSING = (429, 503), (400, 422)
