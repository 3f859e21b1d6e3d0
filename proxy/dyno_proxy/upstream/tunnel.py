"""The way through an HTTP proxy. For https endpoints it is a tunnel by CONNECT (RFC 9110, 9.3.6); http needs none."""

import asyncio
import base64
import re
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from dyno_proxy.errors import ProxyAuthenticationError, ProxyProtocolError, ProxyRefusedError

_MAX_HEAD_BYTES: Final = 16 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_BEGIN: Final = b"HTTP/1."
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")


@dataclass(frozen=True)
class HttpProxy:
    """An HTTP proxy between us and an endpoint: where it is, and our credentials for it."""

    host: str
    port: int
    authorization: bytes | None = field(repr=False)  # the value of Proxy-Authorization

    @classmethod
    def of_url(cls, url: str) -> "HttpProxy":
        """The proxy at `http://[USER:PASSWORD@]HOST:PORT`; user and password may be percent-encoded.

        Raises ValueError where the URL has another form. The message doesn't repeat the URL.
        """
        parts = urlsplit(url)
        if not parts.hostname or parts.port is None:
            raise ValueError("must be http://HOST:PORT")
        parts.hostname.encode("idna")  # as the resolver will
        authorization = None
        if parts.username is not None:
            pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
            authorization = b"Basic " + base64.b64encode(pair)
        return cls(parts.hostname, parts.port, authorization)

    @property
    def address(self) -> str:
        """`host:port`, for messages: it holds no user and no password."""
        return address(self.host, self.port)


def address(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def open_tunnel(connected: socket.socket, host: str, port: int, proxy: HttpProxy) -> None:
    """Ask the proxy at the socket's other end for a tunnel. Afterwards the socket's next byte is the endpoint's.

    Raises ProxyError. It has no time limit of its own: the caller's covers connecting as a whole.
    """
    loop = asyncio.get_running_loop()
    to = address(host, port).encode("ascii")
    request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (to, to)
    if proxy.authorization is not None:
        request += b"Proxy-Authorization: " + proxy.authorization + b"\r\n"
    try:
        await loop.sock_sendall(connected, request + b"\r\n")
        status = await _read_status(connected, proxy)
    except ConnectionError as error:
        raise ProxyProtocolError(f"the HTTP proxy at {proxy.address} closed the connection during CONNECT") from error
    if status == 407:
        wanted = "asks for a user and a password" if proxy.authorization is None else "refused the user or the password"
        raise ProxyAuthenticationError(f"the HTTP proxy at {proxy.address} {wanted} (407)")
    if not 200 <= status < 300:
        raise ProxyRefusedError(f"the HTTP proxy at {proxy.address} answered {status} to CONNECT")


async def _read_status(connected: socket.socket, proxy: HttpProxy) -> int:
    """Read the head of the answer to CONNECT. Returns its status. Raises ProxyProtocolError."""
    loop = asyncio.get_running_loop()
    head = b""
    while _HEAD_END not in head:
        data = await loop.sock_recv(connected, _MAX_HEAD_BYTES)
        if not data:
            raise ProxyProtocolError(f"the HTTP proxy at {proxy.address} closed the connection during CONNECT")
        head += data
        if not head.startswith(_BEGIN[: len(head)]) or len(head) > _MAX_HEAD_BYTES:
            raise ProxyProtocolError(f"what answers at {proxy.address} isn't an HTTP proxy")
    match = _STATUS.match(head)
    if match is None:
        raise ProxyProtocolError(f"what answers at {proxy.address} isn't an HTTP proxy")
    status = int(match.group(1))
    # In TLS the client speaks first, so bytes after a success can't be the endpoint's. A refusal may have a body.
    if 200 <= status < 300 and not head.endswith(_HEAD_END):
        raise ProxyProtocolError(f"the HTTP proxy at {proxy.address} sent bytes of its own into the tunnel")
    return status
