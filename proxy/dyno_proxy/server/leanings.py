"""What this room leans on in aiohttp without a promise: one table, which tests/contract/test_aiohttp.py goes through.

The server stays aiohttp's all the same. A protocol of our own on httptools would save perhaps 15 µs of the 100 that a
request costs. In return keep-alive, pipelining, the lingering close, 100-continue and the rules against smuggling would
be ours alone. Two things would change that: a third security mend of the kind that connection.py's `_strict` holds two
of, or a minor release of aiohttp that breaks two of these assumptions at once. pyproject.toml pins the minor version.
"""

from types import ModuleType
from typing import Final, NamedTuple

from aiohttp import StreamReader, streams, web_protocol
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server


class Part(NamedTuple):
    """A name that aiohttp doesn't document: an attribute of `owner`, or a module's."""

    owner: type | ModuleType
    name: str
    why: str


class Behaviour(NamedTuple):
    """Something that aiohttp does and doesn't promise, and the test of tests/contract/test_aiohttp.py that holds it."""

    what: str
    test: str


PARTS: Final = (
    Part(RequestHandler, "_request_count", "how many heads a read has ended: each gets its stamp"),
    Part(RequestHandler, "_messages", "the parsed requests: their bodies, and where a stricter verdict is put"),
    Part(RequestHandler, "_parser", "told that no upgrade was granted"),
    Part(RequestHandler, "_upgraded", "set by an upgrade that nobody here grants"),
    Part(RequestHandler, "_message_tail", "what aiohttp keeps of the bytes behind such a request"),
    Part(RequestHandler, "_request_in_progress", "whether an answer is still to come before the connection may close"),
    Part(RequestHandler, "_force_close", "whether the connection's bytes are still parsed"),
    Part(RequestHandler, "_close", "the same"),
    Part(RequestHandler, "_reading_paused", "whether a body's data may wait in the parser"),
    Part(RequestHandler, "_buffer_paused", "the same"),
    Part(RequestHandler, "_loop", "replaced by a loop that makes no task a request"),
    Part(web_protocol, "_ErrInfo", "a refusal in a parsed request's place"),
    Part(Server, "_loop", "handed to each connection"),
    Part(Server, "_kwargs", "handed to each connection"),
    Part(StreamReader, "total_bytes", "how much of a body has come"),
    Part(streams, "EMPTY_PAYLOAD", "the body of a request without one: shared, and at its end"),
)

BEHAVIOURS: Final = (
    Behaviour("a response that writes nothing may stand for bytes written raw", "test_raw_writes_and_keep_alive"),
    Behaviour("`_request_count` grows by one for each parsed head", "test_one_stamp_for_each_request"),
    Behaviour("`handle_error` hears of what the parser refuses", "test_malformed_requests_are_heard_of"),
    Behaviour("a client that leaves cancels its handler", "test_a_client_that_leaves_cancels_its_handler"),
    Behaviour("a request's body isn't decompressed, on request", "test_compressed_request_bodies_pass_as_they_are"),
    Behaviour(
        "a chunked request's last trailer goes to the next request: a fault",
        "test_a_chunked_requests_last_trailer_leaks_into_the_next_request",
    ),
    Behaviour(
        "what stands behind a request for an upgrade is passed over: a fault",
        "test_what_stands_behind_a_request_for_an_upgrade_is_passed_over",
    ),
    Behaviour(
        "an upgrade that nobody grants can be undone",
        "test_an_upgrade_that_nobody_grants_leaves_the_connection_as_it_was",
    ),
    Behaviour(
        "an error message in the middle of a body means that the body is malformed",
        "test_a_body_that_turns_out_malformed_is_told_to_who_reads_it",
    ),
    Behaviour(
        "pipelined requests beyond the queue come in order",
        "test_pipelined_requests_stay_in_order_beyond_aiohttps_queue",
    ),
    Behaviour(
        "the loop's `create_task` alone starts a request, and is awaited", "test_a_request_runs_in_its_connections_task"
    ),
)
