"""Faults: each exception's outcome and error.type in one table, and the answer that a client gets for it."""

import asyncio
import socket
import ssl
from typing import Final, NamedTuple


class RefusedError(Exception):
    """We refuse the request: a client fault, or a fault of our configuration."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Fault(NamedTuple):
    outcome: str
    error_type: str
    status: int


class UpstreamError(Exception):
    """The upstream, or the way to it, failed before there was a response."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class ProxyError(OSError):
    """The HTTP proxy on the way to an endpoint failed; the message says how, and holds no secret."""


class ProxyUnreachableError(ProxyError):
    pass


class ProxyAuthenticationError(ProxyError):
    pass


class ProxyRefusedError(ProxyError):
    pass


class ProxyProtocolError(ProxyError):
    pass


# First match counts: a class stands before its bases.
_CONNECT_FAULTS: Final[tuple[tuple[type[BaseException], Fault], ...]] = (
    (asyncio.TimeoutError, Fault("upstream_timeout", "connect_timeout", 504)),
    (ssl.SSLCertVerificationError, Fault("upstream_unreachable", "tls_certificate", 502)),
    (ssl.SSLError, Fault("upstream_unreachable", "tls", 502)),
    (socket.gaierror, Fault("upstream_unreachable", "name_not_resolved", 502)),
    (ConnectionRefusedError, Fault("upstream_unreachable", "connection_refused", 502)),
    (ConnectionResetError, Fault("upstream_unreachable", "connection_reset", 502)),
    (ProxyUnreachableError, Fault("upstream_unreachable", "proxy_unreachable", 502)),
    (ProxyAuthenticationError, Fault("upstream_unreachable", "proxy_authentication", 502)),
    (ProxyRefusedError, Fault("upstream_unreachable", "proxy_refused", 502)),
    (ProxyProtocolError, Fault("upstream_unreachable", "proxy_protocol_error", 502)),
    (OSError, Fault("upstream_unreachable", "connect_failed", 502)),
)


def connect_fault(error: BaseException) -> Fault | None:
    """The fault of an attempt to connect; None for an exception that isn't one."""
    return next((fault for kind, fault in _CONNECT_FAULTS if isinstance(error, kind)), None)


def connect_message(error: BaseException, fault: Fault, address: str) -> str:
    """What a client is told of a failed attempt to connect to `address`."""
    return str(error) if isinstance(error, ProxyError) else f"{fault.error_type.replace('_', ' ')} at {address}"
