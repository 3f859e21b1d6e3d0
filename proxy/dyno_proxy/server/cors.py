"""What lets a browser's page of another origin use the proxy: CORS (Fetch Standard, WHATWG, 3.2)."""

from collections.abc import Collection, Mapping
from typing import Final

from aiohttp import web

from .web_pages import ANY, allowed

ALLOW_ORIGIN: Final = "Access-Control-Allow-Origin"
EXPOSE_HEADERS: Final = "Access-Control-Expose-Headers"
_PREFLIGHT_AGE_S: Final = 600  # how long a browser need not ask again


class Cors:
    """The origins whose pages may ask."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins

    def headers_for(self, asked: Mapping[str, str]) -> dict[str, str] | None:
        """The headers that let the asking page read the answer; None for a request that is of no such page."""
        origin = asked.get("Origin")
        if origin is None or not allowed(origin, self._origins):
            return None
        return {ALLOW_ORIGIN: ANY if ANY in self._origins else origin, EXPOSE_HEADERS: "*", "Vary": "Origin"}


def is_preflight(request: web.BaseRequest) -> bool:
    """Whether the browser asks if it may send a request."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def preflight_answer(request: web.BaseRequest, page_headers: Mapping[str, str]) -> web.Response:
    """Yes, to a page that may ask. It needs no key, since a browser sends none with a preflight."""
    asked = request.headers
    headers = {
        **page_headers,
        "Access-Control-Allow-Methods": asked["Access-Control-Request-Method"],
        "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    if "Access-Control-Request-Headers" in asked:
        headers["Access-Control-Allow-Headers"] = asked["Access-Control-Request-Headers"]
    if asked.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)
