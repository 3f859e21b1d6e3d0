"""What the server's side leans on in aiohttp beyond what aiohttp promises: one table.

`tests/contract/test_aiohttp.py` goes through it. It fails where a row's name is gone from the installed aiohttp, where
a row's check doesn't exist, and where this folder uses a private name of aiohttp's that has no row. pyproject.toml
pins aiohttp's minor version.

Why the server stays aiohttp's: a protocol of our own on httptools would save perhaps 15 µs of the 100 µs that a request
takes. Keep-alive, pipelining, lingering close, 100-continue and the rules against smuggled requests would then be ours
alone to keep right. Two things would change this: a third security mend of the kind that `MeasuredProtocol._strict`
holds two of, or a minor release of aiohttp that breaks two rows of the table at once.
"""

from typing import Final, NamedTuple


class LeanedOn(NamedTuple):
    """One name or behaviour of aiohttp's."""

    what: str  # `module:Class.attribute` below aiohttp, or a behaviour in a few words
    why: str
    check: str  # the test that fails once it is another


_STAMPS: Final = "test_one_stamp_for_each_request"
_QUEUE: Final = "test_pipelined_requests_stay_in_order_beyond_aiohttps_queue"
_REFUSED: Final = "test_malformed_requests_are_heard_of"
_UPGRADE: Final = "test_an_upgrade_that_nobody_grants_leaves_the_connection_as_it_was"
_BROKEN_BODY: Final = "test_a_body_that_turns_out_malformed_is_told_to_who_reads_it"
_SLOW_READER: Final = "test_a_body_that_is_read_slowly_pauses_the_connection"
_IN_PLACE: Final = "test_a_connections_requests_run_in_its_own_task"
_RAW: Final = "test_raw_writes_and_keep_alive"
_HEAD_END: Final = "test_a_head_ends_with_an_empty_line_and_no_other_way"
_LEFT: Final = "test_a_client_that_leaves_cancels_its_handler"
_TRAILER: Final = "test_a_chunked_requests_last_trailer_leaks_into_the_next_request"
_BEHIND_UPGRADE: Final = "test_what_stands_behind_a_request_for_an_upgrade_is_passed_over"
_COMPRESSED: Final = "test_compressed_request_bodies_pass_as_they_are"

LEANED_ON: Final = (
    # The protocol's own state
    LeanedOn("web_protocol:RequestHandler._request_count", "tells how many heads a read completed", _STAMPS),
    LeanedOn("web_protocol:RequestHandler._messages", "its last ones are those that the read completed", _STAMPS),
    LeanedOn("web_protocol:RequestHandler._max_msg_queue_size", "with so many the parser stops behind one", _QUEUE),
    LeanedOn("web_protocol:RequestHandler._request_in_progress", "an answer must not be cut by a refusal", _STAMPS),
    LeanedOn("web_protocol:RequestHandler._close", "once it is set, reads aren't parsed", _REFUSED),
    LeanedOn("web_protocol:RequestHandler._force_close", "once it is set, reads aren't parsed", _REFUSED),
    LeanedOn("base_protocol:BaseProtocol._reading_paused", "the parser may hold back a part of a body", _SLOW_READER),
    LeanedOn("base_protocol:BaseProtocol._buffer_paused", "the parser may hold back whole requests", _QUEUE),
    LeanedOn("base_protocol:BaseProtocol._upgraded", "has to be undone, since nobody here upgrades", _UPGRADE),
    LeanedOn("base_protocol:BaseProtocol._parser", "its `set_upgraded` undoes an upgrade", _UPGRADE),
    LeanedOn("web_protocol:RequestHandler._message_tail", "has to be dropped with the upgrade", _UPGRADE),
    LeanedOn(
        "base_protocol:BaseProtocol._loop", "timers run on it; below Python 3.12 `_InPlace` replaces it", _IN_PLACE
    ),
    LeanedOn("web_protocol:RequestHandler.handle_error", "hears of refused requests, which then have a row", _REFUSED),
    LeanedOn(
        "base_protocol:BaseProtocol.resume_reading", "called after each piece of a body; ours does less", _SLOW_READER
    ),
    LeanedOn(
        "base_protocol:BaseProtocol.pause_reading",
        "called where nobody reads from the client",
        _SLOW_READER,
    ),
    # Names beside it
    LeanedOn("web_protocol:_ErrInfo", "stands in a message's place where the parser refused it", _REFUSED),
    LeanedOn("http_parser:RawRequestMessage._replace", "marks a request as its connection's last", _TRAILER),
    LeanedOn("http_exceptions:LineTooLong", "the one refusal that is a 431", _REFUSED),
    LeanedOn("streams:EMPTY_PAYLOAD", "the body of a request without one; it is at its end", _STAMPS),
    LeanedOn("streams:StreamReader.total_bytes", "tells how much of a read was the body's", _STAMPS),
    LeanedOn("streams:StreamReader.set_exception", "tells a body's reader that the body is malformed", _BROKEN_BODY),
    LeanedOn("web_server:Server._kwargs", "a protocol's options, which our own protocol gets", _STAMPS),
    LeanedOn("web_server:Server._loop", "the loop that our own protocol gets", _STAMPS),
    LeanedOn("web:StreamResponse._keep_alive", "lets the relay decide whether the connection is kept", _RAW),
    # Behaviours
    LeanedOn("a response's prepare() and write_eof() write all", "Relayed's write nothing", _RAW),
    LeanedOn("handler_cancellation", "cancels the request of a client that left", _LEFT),
    LeanedOn("auto_decompress=False", "a compressed body passes", _COMPRESSED),
    LeanedOn("a head ends with CRLF CRLF", "RequestReads looks for that", _HEAD_END),
    LeanedOn("a chunked request's last trailer is kept", "`_strict` makes that request the last", _TRAILER),
    LeanedOn("what follows an upgrade in its read is lost", "`_strict` makes it the last", _BEHIND_UPGRADE),
    LeanedOn("a TimeoutError of a body's isn't logged", "_MalformedBodyError is one", _BROKEN_BODY),
    LeanedOn("loop.create_task() is called once a request", "`_InPlace` hands the coroutine back", _IN_PLACE),
)
