"""Finds the endpoint that a request's target names, and the target there. Pure.

`/{endpoint}/v1/X?q` goes to the endpoint's `url` + `/X?q`. The raw path is passed on unchanged: `%2F` stays `%2F`.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from dyno_proxy.readers import APIS, Api, Reader

_ROUTE: Final = re.compile(r"/([^/?]+)/v1(/[^?]*)?(\?.*)?", re.DOTALL)
_DOT_SEGMENT: Final = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)
_REMEMBERED_CHARACTERS: Final = 200  # of a target: clients ask for the same few, so their routes are cached


class Route(NamedTuple):
    """A target, taken apart."""

    endpoint: str  # as the path names it; it may not exist
    rest: str  # after /v1, with its leading slash, without the query
    query: str  # with its question mark

    @property
    def operation(self) -> str | None:
        """The GenAI conventions' operation; None for a path that is none of the known APIs'."""
        api = self._api
        return None if api is None else api.operation

    @property
    def reader(self) -> Reader | None:
        """How to read what this API answers; None for a path that is none of the known APIs'."""
        api = self._api
        return None if api is None else api.reader

    @property
    def _api(self) -> Api | None:
        return APIS.get("/" + self.rest.strip("/"))


def route(target: str) -> Route | None:
    """None where the target isn't `/{endpoint}/v1…`, or climbs out of the endpoint's `url` by dot segments."""
    return _remembered(target) if len(target) <= _REMEMBERED_CHARACTERS else _route(target)


@lru_cache(maxsize=256)
def _remembered(target: str) -> Route | None:
    return _route(target)


def _route(target: str) -> Route | None:
    match = _ROUTE.fullmatch(target)
    if match is None:
        return None
    endpoint, rest, query = match.group(1), match.group(2) or "", match.group(3) or ""
    if _DOT_SEGMENT.search(rest):
        return None
    return Route(endpoint, rest, query)
