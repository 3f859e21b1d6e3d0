"""Faults: each exception's outcome and error.type in one table, and the answer that a client gets for it."""

import asyncio
import json
import socket
import ssl
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web


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


def error_response(status: int, code: str, message: str) -> web.Response:
    """Our own answer, in OpenAI's shape, so that SDKs raise it as their own error."""
    return web.Response(status=status, text=_body(code, message), content_type="application/json")


def raw_error(status: int, code: str, message: str) -> bytes:
    """The same for a client that no handler speaks with; its connection ends with it."""
    body = _body(code, message).encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json; charset=utf-8\r\n"
    return b"%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (head.encode(), len(body), body)


def _body(code: str, message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "dyno_proxy_error", "code": code}})
