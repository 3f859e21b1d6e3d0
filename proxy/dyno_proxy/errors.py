"""The errors that keep a request from its answer: refusals by the proxy, and failed connections.

`connect_ending` says how each failed connection ends its exchange.
"""

import asyncio
import socket
import ssl
from typing import Final

from .outcomes import REFUSALS, Ending, Refusal


class RefusedError(Exception):
    """The proxy refuses the request: a client fault, or a fault of the proxy's configuration.

    `code`: the exchange's error.type. `status`: the HTTP status that the client gets.
    """

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(message)
        self.status = REFUSALS[code].status
        self.code: Refusal = code


class UpstreamError(Exception):
    """The upstream, or the way to it, failed before there was a response. `ending`: how that ends the exchange."""

    def __init__(self, ending: Ending, message: str) -> None:
        super().__init__(message)
        self.ending = ending


class ProxyError(OSError):
    """The HTTP proxy on the way to an endpoint failed; the message says how, and holds no secret."""


class ProxyUnreachableError(ProxyError):
    """No connection to the HTTP proxy could be made."""


class ProxyAuthenticationError(ProxyError):
    """The HTTP proxy asks for other credentials (407)."""


class ProxyRefusedError(ProxyError):
    """The HTTP proxy refused to connect to the endpoint."""


class ProxyProtocolError(ProxyError):
    """What answered isn't an HTTP proxy, or it closed the connection during CONNECT."""


# The first match counts, so a class stands before its bases.
_CONNECT_ENDINGS: Final[tuple[tuple[type[BaseException], Ending], ...]] = (
    (asyncio.TimeoutError, ("upstream_timeout", "connect_timeout")),
    (ssl.SSLCertVerificationError, ("upstream_unreachable", "tls_certificate")),
    (ssl.SSLError, ("upstream_unreachable", "tls")),
    (socket.gaierror, ("upstream_unreachable", "name_not_resolved")),
    (ConnectionRefusedError, ("upstream_unreachable", "connection_refused")),
    (ConnectionResetError, ("upstream_unreachable", "connection_reset")),
    (ProxyUnreachableError, ("upstream_unreachable", "proxy_unreachable")),
    (ProxyAuthenticationError, ("upstream_unreachable", "proxy_authentication")),
    (ProxyRefusedError, ("upstream_unreachable", "proxy_refused")),
    (ProxyProtocolError, ("upstream_unreachable", "proxy_protocol_error")),
    (OSError, ("upstream_unreachable", "connect_failed")),
)


def connect_ending(error: BaseException) -> Ending | None:
    """How a failed attempt to connect ends the exchange; None where `error` isn't a failed attempt to connect."""
    return next((ending for kind, ending in _CONNECT_ENDINGS if isinstance(error, kind)), None)


def connect_message(error: BaseException, ending: Ending, address: str) -> str:
    """What a client is told of a failed attempt to connect to `address`."""
    return str(error) if isinstance(error, ProxyError) else f"{in_words(ending)} at {address}"


def in_words(ending: Ending) -> str:
    """The ending's error.type as a person would write it."""
    return (ending[1] or ending[0]).replace("_", " ")
