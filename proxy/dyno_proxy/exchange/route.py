"""Finds the endpoint that a request's target names, and the target there. Pure.

    /{endpoint}/v1/X?q       API      the endpoint's `url` + /X?q
    /{endpoint}/v1/v1/X?q    DOUBLED  the same, for a client that adds /v1 to its base URL by itself
    /{endpoint}/X?q          BESIDE   the endpoint's `origin` + /X?q: /health, /metrics, /tokenize
    …/../…, in any spelling  CLIMBS   nowhere

The raw path is passed on untouched (`%2F` stays).
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from dyno_proxy.readers import APIS, Reader

API: Final = "api"
DOUBLED: Final = "doubled"
BESIDE: Final = "beside"
CLIMBS: Final = "climbs"

_ROUTE: Final = re.compile(r"/([^/?]+)(/[^?]*)(\?.*)?", re.DOTALL)
_VERSION: Final = "/v1"
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
    rest: str  # after /v1, or after the endpoint where it is BESIDE; with its leading slash, without the query
    query: str  # with its question mark
    kind: str = API
    operation: str | None = None  # the GenAI conventions' operation; None for a path that is none of the known APIs'
    reader: Reader | None = None  # how to read what this API answers


def route(target: str) -> Route | None:
    """None where the target names no endpoint."""
    return _remembered(target) if len(target) <= _REMEMBERED_CHARACTERS else _route(target)


@lru_cache(maxsize=256)
def _remembered(target: str) -> Route | None:
    return _route(target)


def _route(target: str) -> Route | None:
    match = _ROUTE.fullmatch(target)
    if match is None:
        return None
    endpoint, path, query = match.group(1), match.group(2), match.group(3) or ""
    if _may_climb(path):
        return Route(endpoint, path, query, CLIMBS)
    rest = _after_version(path)
    if rest is None:
        return Route(endpoint, path, query, BESIDE)
    again = _after_version(rest)
    kind, rest = (API, rest) if again is None else (DOUBLED, again)
    api = APIS.get("/" + rest.strip("/"))
    if api is None:
        return Route(endpoint, rest, query, kind)
    return Route(endpoint, rest, query, kind, api.operation, api.reader)


def _after_version(path: str) -> str | None:
    """What follows `/v1`; None for a path that doesn't begin with it."""
    rest = path.removeprefix(_VERSION)
    return rest if rest != path and rest[:1] in ("", "/") else None


def _may_climb(path: str) -> bool:
    """Whether some server may read `.` or `..` as a segment of the path."""
    if "." not in path and "%" not in path:
        return False
    read = path.encode("utf-8", "surrogateescape")
    for _ in range(_DECODED_AT_MOST):
        if _DOT_SEGMENT.search(_OTHER_SLASHES.sub(b"/", _OTHER_DOTS.sub(b".", read))):
            return True
        decoded = unquote_to_bytes(read)
        if decoded == read:
            return False
        read = decoded
    return True  # nobody encodes a path so often by accident
