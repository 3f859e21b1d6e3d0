"""Who may use a listener.

with keys      who shows one of them
without keys   the listener is on loopback: this machine's programs, but no foreign web pages; where an endpoint
               holds a credential, programs of the proxy's own user and of root alone
"""

import os
from collections.abc import Mapping

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from dyno_proxy.config.address import is_loopback, split_address
from dyno_proxy.config.schema import ProxyConfig
from dyno_proxy.errors import RefusedError
from dyno_proxy.upstream.endpoint import Endpoint

from .connection import MeasuredProtocol
from .cors import Cors
from .keys import ClientKeys
from .peer_user import peer_uid
from .web_pages import WebPages


class Access:
    """The rules of one listener; without arguments everybody may use it."""

    def __init__(
        self,
        keys: ClientKeys | None = None,
        *,
        web_pages: WebPages | None = None,
        own_user_alone: bool = False,
        cors: Cors | None = None,
    ) -> None:
        self.keys = keys
        self.own_user_alone = own_user_alone  # at an endpoint that holds a credential
        self.cors = cors
        self._web_pages = web_pages

    @classmethod
    def of(cls, proxy: ProxyConfig, listen: str, keys: ClientKeys | None) -> "Access":
        """The rules of the listener at the address `listen`."""
        is_open = keys is None and is_loopback(split_address(listen)[0])
        return cls(
            keys,
            web_pages=WebPages(proxy.hosts, proxy.cors_origins) if is_open else None,
            own_user_alone=is_open and not proxy.allow_other_users,
            cors=Cors(proxy.cors_origins) if proxy.cors_origins else None,
        )

    def check(self, headers: CIMultiDictProxy[str]) -> str | None:
        """Raises RefusedError where nobody with such headers may ask. Returns the name of the client's key."""
        if self._web_pages is not None:
            self._web_pages.check(headers)
        return None if self.keys is None else _check_key(self.keys, headers)

    def check_page(self, headers: CIMultiDictProxy[str], *, asks_for_key: bool) -> None:
        """The same for one of the proxy's own pages, which change nothing."""
        if self._web_pages is not None:
            self._web_pages.check(headers, may_navigate=True)
        if self.keys is not None and asks_for_key:
            _check_key(self.keys, headers)

    def check_user(self, client: MeasuredProtocol) -> None:
        """Raises RefusedError unless the proxy's own user or root is at the connection's other end."""
        if client.peer_is_trusted is None:
            client.peer_is_trusted = _is_trusted(client)
        if not client.peer_is_trusted:
            raise RefusedError(
                "other_user",
                "the proxy holds a credential for this endpoint and serves its own user alone; others need a key "
                "(proxy.keys_file), or proxy.allow_other_users",
            )


def guarded(endpoints: Mapping[str, Endpoint]) -> frozenset[str]:
    """The names of the endpoints at which a request shows a credential of the proxy's, perhaps by its mirror's copy."""
    holding = {name for name, endpoint in endpoints.items() if endpoint.holds_credential}
    mirrors = {name: endpoint.config.mirror for name, endpoint in endpoints.items()}
    return frozenset(
        holding | {name for name, mirror in mirrors.items() if mirror is not None and mirror.to in holding}
    )


def _check_key(keys: ClientKeys, headers: CIMultiDictProxy[str]) -> str | None:
    return keys.check(headers.get(hdrs.AUTHORIZATION), headers.get("X-Api-Key"))


def _is_trusted(client: MeasuredProtocol) -> bool:
    transport = client.transport
    if transport is None:
        return False
    uid = peer_uid(transport.get_extra_info("sockname"), transport.get_extra_info("peername"))
    return uid is not None and uid in (0, os.geteuid())
