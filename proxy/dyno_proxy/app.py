"""The proxy's life: start, serve, drain, stop."""

import asyncio
import gc
import signal
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from aiohttp import web

from .config import Config, ConfigError, is_loopback, split_address
from .endpoints import Endpoint
from .handle import Handler, OwnPage
from .keys import ClientKeys
from .lag import LoopLag
from .metrics import Metrics
from .server import MeasuredServer
from .telemetry import Telemetry

DRAIN_S = 30.0  # how long running requests may still take after SIGTERM


@dataclass
class Listener:
    server: MeasuredServer
    sockets: asyncio.Server
    url: str


async def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT; then let running requests finish and put their spans on disk.

    Raises ConfigError where the configuration can't be served (a port in use, an unreadable key file).
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    version = metadata.version("inference-dyno")
    endpoints = {name: Endpoint(name, each) for name, each in config.endpoints.items()}
    keys = _client_keys(config)
    models = [endpoint.config.model for endpoint in endpoints.values() if endpoint.config.model is not None]
    metrics = Metrics(version, endpoints, models)
    telemetry = Telemetry(Path(config.proxy.spans), metrics, version)
    lag = LoopLag(loop)
    metrics.follow_loop_lag(lag.worst_us)
    pages = _own_pages(endpoints, metrics, version)
    # Off loopback the figures have a listener of their own: clients' keys don't open them.
    public = not is_loopback(split_address(config.proxy.listen)[0])
    handler = Handler(endpoints, telemetry, lag, _without(pages, "/metrics") if public else pages, keys, config.proxy)
    listener = await _listen(MeasuredServer(handler, handler.refused), config.proxy.listen, "proxy.listen")
    listeners = [listener]
    if config.proxy.metrics_listen is not None:
        own = Handler({}, telemetry, lag, pages, None)
        listeners.append(
            await _listen(MeasuredServer(own, own.refused), config.proxy.metrics_listen, "proxy.metrics_listen")
        )
    lag.start()
    # What start-up made stays for good: the collector need not walk it during measurements.
    gc.collect()
    gc.freeze()
    print(f"dyno proxy: listening on {listener.url}, spans in {config.proxy.spans}", flush=True)

    await stop.wait()
    for each in listeners:
        each.sockets.close()
    await handler.drain(DRAIN_S)
    for each in listeners:
        await each.server.shutdown(1.0)
    for endpoint in endpoints.values():
        endpoint.pool.close()
    lag.stop()
    await asyncio.to_thread(telemetry.close)


async def _listen(server: MeasuredServer, address: str, key: str) -> Listener:
    host, port = split_address(address)
    try:
        listening = await asyncio.get_running_loop().create_server(server, host, port, backlog=1024)
    except OSError as error:
        why = "the port is in use" if error.errno == 98 else (error.strerror or str(error))
        raise ConfigError(f"{key}: can't listen on {address}: {why}; choose another with --listen HOST:PORT") from error
    bound = listening.sockets[0].getsockname()
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return Listener(server, listening, f"http://{shown}:{bound[1]}")


def _own_pages(endpoints: dict[str, Endpoint], metrics: Metrics, version: str) -> dict[str, OwnPage]:
    known = {"endpoints": [endpoint.public() for endpoint in endpoints.values()], "version": version}

    async def show_metrics(request: web.BaseRequest) -> web.Response:
        text, content_type = await asyncio.to_thread(metrics.render, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def healthy(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def list_endpoints(_request: web.BaseRequest) -> web.Response:
        return web.json_response(known)

    return {"/metrics": show_metrics, "/healthz": healthy, "/endpoints": list_endpoints}


def _without(pages: dict[str, OwnPage], path: str) -> dict[str, OwnPage]:
    return {other: page for other, page in pages.items() if other != path}


def _client_keys(config: Config) -> ClientKeys | None:
    if config.proxy.keys_file is None:
        return None
    try:
        return ClientKeys(Path(config.proxy.keys_file))
    except OSError as error:
        raise ConfigError(f"proxy.keys_file: {config.proxy.keys_file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"proxy.keys_file: {config.proxy.keys_file}: {error}") from error
