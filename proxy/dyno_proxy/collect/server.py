"""`dyno collect` as a server: it takes OTLP/HTTP and writes span files. docs/collect.md lists its answers."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import prometheus_client
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder

from dyno_proxy.config.schema import SpansConfig
from dyno_proxy.errors import RefusedError
from dyno_proxy.file_modes import access_of
from dyno_proxy.process.sockets import BACKLOG
from dyno_proxy.server.keys import ClientKeys
from dyno_proxy.telemetry.compaction import Conversion

from .http_log import OneLine
from .intake import QUEUE_BYTES, Body, FullError, Intake, UnwrittenError
from .otlp import ENCODINGS, JSON, PROTOBUF, BadMessageError, answer, refusal

TRACES: Final = "/v1/traces"
MAX_BODY_BYTES: Final = 16_000_000  # as sent, perhaps compressed
BODY_LIMIT_S: Final = 30.0
RETRY_AFTER_S: Final = 1

_OTHER_SIGNALS: Final = ("/v1/metrics", "/v1/logs", "/v1development/profiles")
_SHUTDOWN_S: Final = 10.0

_LOG: Final = logging.getLogger("dyno.collect")
_HTTP_LOG: Final = logging.getLogger("dyno.collect.http")  # aiohttp's own


class _RefusalError(Exception):
    """A request that is answered with `status`, not taken."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Collector:
    """The collector, made on the event loop that it serves on. Raises SetupError where the folder can't be written."""

    def __init__(
        self, spans: Path, keys: ClientKeys | None, config: SpansConfig, *, queue_bytes: int = QUEUE_BYTES
    ) -> None:
        self._keys = keys
        if not any(isinstance(each, OneLine) for each in _HTTP_LOG.filters):
            _HTTP_LOG.addFilter(OneLine())
        self._figures = _Figures()
        self._conversion = Conversion(spans, config)
        self._intake = Intake(
            spans,
            counted=self._figures.counted,
            dropped=self._figures.dropped,
            filled=self._conversion.start,
            queue_bytes=queue_bytes,
            access=access_of(config.group),
        )
        self._figures.queue_bytes.set_function(lambda: self._intake.waiting_bytes)
        application = web.Application(middlewares=[self._contained])
        application.router.add_post(TRACES, self._traces)
        application.router.add_get("/healthz", _healthy)
        application.router.add_get("/readyz", self._ready)
        application.router.add_get("/metrics", self._metrics)
        # Bodies are decompressed here, within bounds. The spans of a sender that leaves early are stored all the same.
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_HTTP_LOG,
            auto_decompress=False,
            handler_cancellation=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        self._stopping = False

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Serve on these bound sockets."""
        await self._runner.setup()
        for each in sockets:
            await web.SockSite(self._runner, each, backlog=BACKLOG).start()
        self._conversion.begin()

    async def stop(self) -> int:
        """Take no more spans. Everything taken is answered and on disk afterwards, but for what the disk didn't take.

        Returns how many spans those are since the start. Their senders were told, and may have sent them again.
        """
        self._stopping = True
        self._conversion.end()
        await self._runner.cleanup()
        await asyncio.to_thread(self._intake.close)
        return self._figures.lost

    async def _traces(self, request: web.Request) -> web.Response:
        content_type = _content_type(request)
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise _RefusalError(
                415, f"Content-Encoding '{encoding[:40]}' isn't supported; send gzip, deflate or no compression"
            )
        if self._stopping:
            raise _RefusalError(503, "the collector is shutting down; send the spans again later")
        data = await _read(request)
        try:
            taken = await self._intake.offer(Body(data, content_type, encoding))
        except FullError:
            raise _RefusalError(503, "the collector's queue is full; send the spans again later") from None
        except UnwrittenError:
            raise _RefusalError(503, "the spans can't be written to disk now; send them again later") from None
        except BadMessageError as error:
            raise _RefusalError(error.status, str(error)) from error
        return web.Response(
            body=answer(content_type, taken.rejected, taken.reason), headers={"Content-Type": content_type}
        )

    @web.middleware
    async def _contained(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Count every answer, and make every refusal a Status in the request's encoding."""
        try:
            if self._keys is not None and request.path not in ("/healthz", "/readyz"):
                self._keys.check(request.headers.get("Authorization"))
            response = await handler(request)
        except RefusedError as error:
            response = _refused(request, error.status, str(error))
        except _RefusalError as error:
            response = _refused(request, error.status, str(error))
        except web.HTTPException as error:
            response = _refused(request, error.status, _in_words(request, error))
            response.headers.update({name: error.headers[name] for name in ("Allow",) if name in error.headers})
        except Exception:  # noqa: BLE001  # the sender gets a Status, as for any other refusal
            _LOG.exception("a request failed")
            response = _refused(request, 500, "the collector failed; its log says why")
        if request.path == TRACES:
            self._figures.requests.labels(str(response.status)).inc()
        return response

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.Response(status=503, text="stopping\n") if self._stopping else web.Response(text="ready\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        text = await asyncio.to_thread(encode, self._figures.registry)
        return web.Response(body=text, headers={"Content-Type": content_type})


class _Figures:
    """The collector's own metrics."""

    def __init__(self) -> None:
        self.lost = 0  # spans that couldn't be written
        # Otherwise each counter gets one more series, which nobody uses.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dyno_collector_requests", "Requests to /v1/traces.", ["status"], registry=self.registry
        )
        self._spans = Counter(
            "dyno_collector_spans",
            "Spans received: how many were written, rejected or repeated.",
            ["result"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "dyno_spans_dropped",
            "Spans that couldn't be written, and why.",
            ["reason"],
            registry=self.registry,
        )
        self.queue_bytes = Gauge(
            "dyno_collector_queue_bytes", "Bytes of bodies that aren't on disk yet.", registry=self.registry
        )

    def counted(self, result: str, spans: int) -> None:
        self._spans.labels(result).inc(spans)

    def dropped(self, reason: str, spans: int) -> None:
        self.lost += spans
        self._dropped.labels(reason).inc(spans)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _read(request: web.Request) -> bytes:
    too_long = _RefusalError(413, f"the body is longer than {MAX_BODY_BYTES} bytes; send smaller batches")
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise too_long
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            async for piece in request.content.iter_any():
                data += piece
                if len(data) > MAX_BODY_BYTES:
                    raise too_long
    except TimeoutError:
        raise _RefusalError(408, f"the body didn't come within {BODY_LIMIT_S:g} s") from None
    except web.RequestPayloadError as error:
        raise _RefusalError(400, "the body's HTTP framing is malformed") from error
    return bytes(data)


def _content_type(request: web.Request) -> str:
    """The request's content type. Raises _RefusalError for any other than OTLP's two."""
    if request.content_type not in (PROTOBUF, JSON):
        raise _RefusalError(415, f"Content-Type '{request.content_type[:80]}' isn't OTLP's; send {PROTOBUF} or {JSON}")
    return request.content_type


def _refused(request: web.Request, status: int, message: str) -> web.Response:
    content_type = request.content_type if request.content_type in (PROTOBUF, JSON) else JSON
    response = web.Response(
        status=status, body=refusal(content_type, status, message), headers={"Content-Type": content_type}
    )
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status in (408, 413):
        response.force_close()
    return response


def _in_words(request: web.Request, error: web.HTTPException) -> str:
    if error.status == 404 and request.path in _OTHER_SIGNALS:
        return f"the collector takes only traces, at {TRACES}"
    if error.status == 404:
        return f"no such path; traces go to {TRACES}"
    return f"{error.status}: {error.reason}"
