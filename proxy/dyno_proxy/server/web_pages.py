"""Keeps web pages away from a listener on loopback that asks for no key, and lets in those that the user named.

A page in the user's browser can send requests to 127.0.0.1, and by DNS rebinding it can read the answers too. Its own
name then stands in `Host`. A page of another origin is known by `Origin` or, where that is missing, by
`Sec-Fetch-Site` (Fetch Metadata, W3C).
"""

from collections.abc import Collection, Mapping
from typing import Final

from multidict import istr

from dyno_proxy.config.address import is_loopback
from dyno_proxy.errors import RefusedError

ANY: Final = "*"
# An istr is found faster than a str, whose lower case would be made each time.
_HOST: Final = istr("Host")
_ORIGIN: Final = istr("Origin")
_SITE: Final = istr("Sec-Fetch-Site")
_MODE: Final = istr("Sec-Fetch-Mode")
_OF_NO_OTHER_PAGE: Final = ("none", "same-origin")


class WebPages:
    """Which requests a listener takes for those of foreign web pages."""

    def __init__(self, hosts: Collection[str], origins: Collection[str]) -> None:
        """`hosts`: names that may stand in `Host` beside those of loopback. `origins`: whose pages may ask."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = origins
        self._known: set[str] = set()  # values of `Host` that were found good

    def check(self, headers: Mapping[str, str], *, may_navigate: bool = False) -> None:
        """Raises RefusedError for a page's request. `may_navigate`: a link may lead here, since it changes nothing."""
        host = headers.get(_HOST)
        # A browser always sends a Host, so who sends none is no page.
        if host is not None and host not in self._known:
            self._check_host(host)
        origin = headers.get(_ORIGIN)
        if origin is None:
            site = headers.get(_SITE)
            if site is None or site in _OF_NO_OTHER_PAGE:
                return
            if may_navigate and headers.get(_MODE) == "navigate":
                return
        elif allowed(origin, self._origins) or origin.partition("://")[2] == host:
            return
        raise RefusedError("foreign_page", "a web page of another origin asks; proxy.cors_origins names those that may")

    def _check_host(self, host: str) -> None:
        name = _without_port(host).lower()
        if not (is_loopback_name(name) or name in self._hosts or host.lower() in self._hosts):
            raise RefusedError("foreign_host", "Host isn't a name of this machine; proxy.hosts names further ones")
        if len(self._known) < 100:
            self._known.add(host)


def allowed(origin: str, origins: Collection[str]) -> bool:
    """Whether the configured origins hold this one."""
    return origin in origins or ANY in origins


def is_loopback_name(name: str) -> bool:
    """Whether the name of a host, without a port, always means this machine."""
    name = name.removesuffix(".")
    return name.endswith(".localhost") or is_loopback(name.strip("[]"))  # RFC 6761, 6.3


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and (name.endswith("]") or ":" not in name) else host
