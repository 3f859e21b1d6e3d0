"""Finds the endpoint that a request's target names, and the target there. Pure.

`/{endpoint}/v1/X?q` goes to the endpoint's `url` + `/X?q`. The raw path is passed on untouched (`%2F` stays). A path is
refused if some server behind the proxy may read it as one that climbs out of the endpoint's `url`.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from dyno_proxy.readers import APIS, Api, Reader

_ROUTE: Final = re.compile(r"/([^/?]+)/v1(/[^?]*)?(\?.*)?", re.DOTALL)
# Servers decode a path once or twice. Some take a backslash for a slash, some leave out what follows a semicolon, and
# old ones read overlong UTF-8 and `%u002e`. The path must not climb by any of these readings, or by several at once.
_DECODED_AT_MOST: Final = 4
_OTHER_DOTS: Final = re.compile(rb"\xc0\xae|\xe0\x80\xae|\xf0\x80\x80\xae|%u(?:002e|ff0e)", re.IGNORECASE)
_OTHER_SLASHES: Final = re.compile(
    rb"\\|\xc0\xaf|\xe0\x80\xaf|\xf0\x80\x80\xaf|%u(?:002f|2215|005c|ff0f)", re.IGNORECASE
)
_DOT_SEGMENT: Final = re.compile(rb"(?:^|/)[\x00-\x20]*\.{1,2}[\x00-\x20]*(?:;[^/]*)?(?=/|$)")
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
    if _may_climb(rest):
        return None
    return Route(endpoint, rest, query)


def _may_climb(rest: str) -> bool:
    """Whether some server may read `.` or `..` as a segment of the path."""
    if "." not in rest and "%" not in rest:
        return False
    read = rest.encode("utf-8", "surrogateescape")
    for _ in range(_DECODED_AT_MOST):
        if _DOT_SEGMENT.search(_OTHER_SLASHES.sub(b"/", _OTHER_DOTS.sub(b".", read))):
            return True
        decoded = unquote_to_bytes(read)
        if decoded == read:
            return False
        read = decoded
    return True  # nobody encodes a path so often by accident
