"""The proxy's own pages: `/metrics`, `/healthz`, `/readyz`, `/endpoints`. They make no rows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from aiohttp import web

from dyno_proxy.errors import RefusedError
from dyno_proxy.upstream.endpoint import Endpoint

from .access import Access
from .answers import error_response

METRICS: Final = "/metrics"
_ASKING_FOR_KEY: Final = ("/endpoints",)  # where the proxy has client keys

Page = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Pages:
    """The pages of one listener; `/readyz` is always among them."""

    def __init__(self, pages: dict[str, Page] | None = None) -> None:
        self.draining = False
        self.by_path = {"/readyz": self._ready, **(pages or {})}

    async def answer(self, page: Page, path: str, request: web.BaseRequest, access: Access) -> web.StreamResponse:
        """The page's answer, by the listener's rules."""
        try:
            access.check_page(request.headers, asks_for_key=path in _ASKING_FOR_KEY)
        except RefusedError as refusal:
            return error_response(refusal.status, refusal.code, str(refusal))
        return await page(request)

    async def _ready(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(status=503, text="draining\n") if self.draining else web.Response(text="ready\n")


def process_pages(
    finish_ended: Callable[[], None],
    metrics: Callable[[str], tuple[bytes, str]],
    endpoints: Callable[[], Iterable[Endpoint]],
    version: str,
    max_requests: int,
) -> dict[str, Page]:
    """The pages that are the same on each listener of a process.

    `finish_ended` records at once what has ended, so that `/metrics` counts it. `metrics` makes the text and content
    type for an Accept header; a thread calls it. `endpoints` returns those that are configured now.
    `max_requests`: how many requests all workers take at once.
    """

    async def show_metrics(request: web.BaseRequest) -> web.Response:
        finish_ended()
        text, content_type = await asyncio.to_thread(metrics, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def healthy(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def list_endpoints(_request: web.BaseRequest) -> web.Response:
        known = [endpoint.public() for endpoint in endpoints()]
        return web.json_response({"endpoints": known, "version": version, "max_requests": max_requests})

    return {METRICS: show_metrics, "/healthz": healthy, "/endpoints": list_endpoints}
