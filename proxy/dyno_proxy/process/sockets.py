"""Binds the sockets that the proxy listens on, before anything else: a port in use is an error at the start."""

import errno
import socket
from typing import Any

from dyno_proxy.config.address import split_address
from dyno_proxy.config.schema import Config, ConfigError

BACKLOG = 1024  # connections that may wait to be accepted


def bind(address: str, key: str, copies: int = 1, *, flag: str = "--listen") -> list[list[socket.socket]]:
    """`copies` sets of listening sockets. A set has one for each IP address that the host's name stands for.

    The kernel spreads connections among the sets (SO_REUSEPORT). Raises ConfigError, naming key and flag.
    """
    host, port = split_address(address)
    bound: list[list[socket.socket]] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` stands for ::1 too, even on a machine without IPv6.
        possible = [each for each in found if each[0] != socket.AF_INET6 or _has_ipv6()] or found
        places: list[tuple[int, Any]] = list(dict.fromkeys((each[0], each[4]) for each in possible))
        # Sockets without SO_REUSEPORT first: with it nobody would notice that another program has the port.
        bound.append([])
        for family, place in places:
            bound[0].append(_listening(family, place))
        if copies > 1:
            places = [(each.family, each.getsockname()) for each in bound[0]]
            _close(bound.pop())
        for _ in range(copies - len(bound)):
            bound.append([])
            for family, place in places:
                bound[-1].append(_listening(family, place, shared=True))
    except OSError as error:
        for each in bound:
            _close(each)
        why = "the port is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise ConfigError(f"{key}: can't listen on {address}: {why}; choose another with {flag} HOST:PORT") from error
    return bound


def url_of(bound: socket.socket) -> str:
    """The URL that reaches a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def served_lines(url: str, config: Config) -> list[str]:
    """What the operator is told at the start: where it listens, and each endpoint's base URL."""
    return [
        f"dyno proxy: listening on {url}, spans in {config.proxy.spans}",
        *(f"dyno proxy: {url}/{name}/v1 goes to {each.url}" for name, each in config.endpoints.items()),
    ]


def _listening(family: int, place: Any, *, shared: bool = False) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(place)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
