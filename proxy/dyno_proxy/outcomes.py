"""How an exchange may end: its outcome, its error.type, and what each of them means.

Where the code ends an exchange, it writes the pair: `("truncated", "proxy_shutdown")`. mypy checks that the pair is an
`Ending`. `make docs` writes the tables of docs/proxy.md from the tables below.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, NewType, get_args

Outcome = Literal[
    "ok",
    "http_error",
    "rate_limited",
    "auth",
    "upstream_unreachable",
    "upstream_timeout",
    "truncated",
    "stream_error",
    "client_cancelled",
    "rejected",
    "lost",
]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

ConnectionLost = Literal["connection_closed", "connection_reset", "tls"]
Unreachable = Literal[
    ConnectionLost,
    "connect_failed",
    "connection_refused",
    "name_not_resolved",
    "proxy_authentication",
    "proxy_protocol_error",
    "proxy_refused",
    "proxy_unreachable",
    "tls_certificate",
    "upstream_protocol_error",
]
TimedOut = Literal["connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout"]
Truncated = Literal[
    ConnectionLost, "json_broken_off", "no_finish_reason", "no_response", "proxy_shutdown", "upstream_protocol_error"
]
Lost = Literal["proxy_died"]
StreamError = Literal["error_event", "gateway_error_text", "not_the_api", "response_failed"]
Refusal = Literal[
    "malformed_head",
    "malformed_body",
    "invalid_client_key",
    "other_user",
    "foreign_host",
    "foreign_page",
    "unknown_endpoint",
    "unknown_path",
    "client_idle",
    "head_timeout",
    "body_too_long",
    "head_too_long",
    "token_unavailable",
    "draining",
    "too_many_requests",
    "http_version",
    "too_many_connections",
    "proxy_itself",
]
CutOff = Literal["client_too_slow"]  # refused when an answer has begun: the connection ends instead
# An error.type that no list has: an HTTP status, aiohttp's name for what isn't HTTP, `proxy_` and an exception's name.
OtherName = NewType("OtherName", str)

Ending = (
    tuple[Literal["ok"], None]
    | tuple[Literal["http_error", "rate_limited", "auth"], OtherName]
    | tuple[Literal["upstream_unreachable"], Unreachable]
    | tuple[Literal["upstream_timeout"], TimedOut]
    | tuple[Literal["truncated"], Truncated]
    | tuple[Literal["stream_error"], StreamError]
    | tuple[Literal["client_cancelled"], Literal["client_cancelled"]]
    | tuple[Literal["rejected"], Refusal | CutOff | OtherName]
    | tuple[Literal["lost"], Lost]
)


class Refused(NamedTuple):
    """What the client gets for a refusal, and why it was refused."""

    status: int
    why: str


MEANINGS: Final[Mapping[Outcome, str]] = {
    "ok": "the answer ended as its API has it",
    "http_error": "a status of 400 or more, but for the next two",
    "rate_limited": "429",
    "auth": "401 or 403",
    "upstream_unreachable": "no connection, or it ended before there was a response; the client gets 502",
    "upstream_timeout": "a time limit passed; the client gets 504, or a body that breaks off",
    "truncated": "the answer broke off, or ended without its API's own end (a `finish_reason` that says something, or "
    "a closing usage chunk before `[DONE]`; `response.completed`; `message_stop`)",
    "stream_error": "an error inside a 200",
    "client_cancelled": "the client left",
    "rejected": "the proxy refused it",
    "lost": "the proxy's process was killed while the request ran; it is counted afterwards",
}
ERROR_TYPES: Final[Mapping[Unreachable | TimedOut | Truncated | StreamError | Lost, str]] = {
    "connect_failed": "the connection failed for a reason that has no name of its own here",
    "connection_closed": "the endpoint closed the connection",
    "connection_refused": "nothing listens at the endpoint's address",
    "connection_reset": "the endpoint, or something on the way, reset the connection",
    "name_not_resolved": "the name of the endpoint's host can't be resolved",
    "proxy_authentication": "the HTTP proxy on the way asks for other credentials",
    "proxy_protocol_error": "what the HTTP proxy on the way sent isn't HTTP",
    "proxy_refused": "the HTTP proxy on the way refused to connect to the endpoint",
    "proxy_unreachable": "the HTTP proxy on the way can't be reached",
    "tls": "TLS failed",
    "tls_certificate": "the endpoint's certificate isn't valid",
    "upstream_protocol_error": "what the endpoint sent isn't HTTP, in its head or in its framing",
    "connect_timeout": "no connection within `connect_s`",
    "first_byte_timeout": "no byte of the response within `first_byte_s`",
    "idle_timeout": "no further byte for `idle_s`",
    "total_timeout": "not at its end after `total_s`",
    "json_broken_off": "the body is the beginning of JSON",
    "no_finish_reason": "the body is whole by HTTP's rules, but its API's own end is missing",
    "no_response": "the exchange ended before there was a response",
    "proxy_shutdown": "the proxy ended before the answer did",
    "error_event": "an error object, as an event or as the body; an event named `error`; or a finish reason by which "
    "the engine says that it gave up, such as `abort`, `error`, `cancelled`",
    "gateway_error_text": "ALCF's gateway gives an error as the answer's text",
    "not_the_api": "nothing in the body is of its API",
    "response_failed": "the response's own status is `failed`",
    "proxy_died": "the process ended without an orderly end: it was killed, or crashed",
}
REFUSALS: Final[Mapping[Refusal, Refused]] = {
    "malformed_head": Refused(
        400, "a header's name has an underscore, the framing isn't clear, or a tunnel is asked for"
    ),
    "malformed_body": Refused(400, "the body isn't framed as the head says"),
    "invalid_client_key": Refused(401, "no key of `keys_file`"),
    "other_user": Refused(
        401, "without keys: another user of this machine asks for an endpoint that the proxy has a credential for"
    ),
    "foreign_host": Refused(403, "without keys: `Host` is no name of this machine, nor one of `hosts`"),
    "foreign_page": Refused(403, "without keys: a web page asks that is of none of `cors_origins`"),
    "unknown_endpoint": Refused(404, "no endpoint of that name"),
    "unknown_path": Refused(404, "it names no endpoint, has no `/v1` where the endpoint has no `origin`, or may climb"),
    "client_idle": Refused(408, "the body didn't come within `client_idle_s`"),
    "head_timeout": Refused(408, "the head didn't come within `head_timeout_s`"),
    "body_too_long": Refused(413, "longer than `max_body_bytes`"),
    "head_too_long": Refused(431, "longer than `max_head_bytes`"),
    "token_unavailable": Refused(502, "the endpoint's token can't be had"),
    "draining": Refused(503, "the proxy is shutting down"),
    "too_many_requests": Refused(503, "as many at once as `max_requests`"),
    "too_many_connections": Refused(503, "as many connections as the limit on open files allows"),
    "http_version": Refused(505, "neither HTTP/1.0 nor HTTP/1.1"),
    "proxy_itself": Refused(508, "the endpoint's address is the proxy's own"),
}
CUT_OFFS: Final[Mapping[CutOff, str]] = {
    "client_too_slow": "the client didn't read its answer for `client_idle_s`; it is cut off",
}
