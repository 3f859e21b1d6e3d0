"""The proxy of one process: how it is made, serves, takes on another configuration, drains and stops."""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dyno_proxy.config.address import is_loopback, split_address
from dyno_proxy.config.schema import Config, ConfigError, EndpointConfig
from dyno_proxy.file_modes import access_of
from dyno_proxy.metrics.gc_pauses import GcPauses
from dyno_proxy.metrics.loop_lag import LoopLag
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.metrics.multiprocess import Shared
from dyno_proxy.metrics.totals import totals_line
from dyno_proxy.server.access import Access, guarded
from dyno_proxy.server.connection import MeasuredProtocol, MeasuredServer
from dyno_proxy.server.handler import Handler
from dyno_proxy.server.keys import client_keys
from dyno_proxy.server.pages import METRICS, Pages, process_pages
from dyno_proxy.server.peer_user import can_tell
from dyno_proxy.telemetry.compaction import Conversion
from dyno_proxy.telemetry.endpoint_watch import EndpointWatch
from dyno_proxy.telemetry.named_users import named_users
from dyno_proxy.telemetry.otlp_settings import otlp_settings, otlp_wanted
from dyno_proxy.telemetry.request_log import RequestLog
from dyno_proxy.telemetry.sampling import sampled_by
from dyno_proxy.telemetry.telemetry import Telemetry
from dyno_proxy.upstream.endpoint import Endpoint

from .descriptors import SURPLUS, allow_many, in_use, shares
from .listening import Listening

# What a running proxy can't change: its sockets, its folder, its number of processes, and what its server was made
# with.
NEEDS_RESTART: Final = (
    *("listen", "metrics_listen", "spans", "workers", "max_head_bytes", "head_timeout_s"),
    "log_requests",
)

# The first number is how many more objects are made than freed before the young ones are collected. Three times 500
# streams that begin together meet 320 pauses with Python's 700, the longest over 10 ms. With 10,000 they meet 19, all
# under 5 ms. With 50,000 they meet 3, the longest over 10 ms again. The memory in use is the same with each.
_GC_THRESHOLDS: Final = (10_000, 20, 50)

# How long the event loop waits for the interpreter's lock while another thread computes (/metrics, say). Python's 5 ms
# would then show in the timing of every tenth read. A short time also helps the other thread: uvloop releases the lock
# at each callback and has it back before a waiting thread is awake, so that thread wakes up in vain until this time is
# over. With 500 µs a busy loop lost 15 % to a thread that writes five times a second; with 30 µs, nothing measurable.
_SWITCH_S: Final = 0.00003

_SHUTDOWN_S: Final = 0.5  # for connections without a request to close

_LOG: Final = logging.getLogger("dyno.proxy")


class Reloaded(NamedTuple):
    """What became of a new configuration."""

    config: Config  # in force now; keys that need a restart have their old values
    waiting: list[str]  # the keys that changed and need a restart


class Proxy:
    """A proxy, made on the event loop that it serves on. Raises ConfigError or SetupError where it can't serve."""

    def __init__(self, config: Config, shared: Shared | None = None) -> None:
        """`shared`: where the workers share their figures; None where this process is the only one."""
        version = metadata.version("inference-dyno")
        keys = client_keys(config.proxy.keys_file)
        self._config = config
        self._endpoints = {name: Endpoint(name, each) for name, each in config.endpoints.items()}
        access = Access.of(config.proxy, config.proxy.listen, keys)
        _check_users(access, self._endpoints)  # before telemetry takes over what a killed proxy has left
        exported = sampled_by(otlp_settings(os.environ).environ) if otlp_wanted(os.environ) else None
        self._metrics = Metrics(
            version,
            _models(config),
            shared,
            config.proxy.workers,
            exported=exported,
            otlp_of=None if exported is None else Path(config.proxy.spans),
        )
        self._conversion = Conversion(Path(config.proxy.spans), config.spans)
        self._first = shared is None or shared.slot == 0  # of the workers, one looks what is to be converted
        self._request_log = RequestLog() if config.proxy.log_requests else None
        self._telemetry = Telemetry(
            Path(config.proxy.spans),
            self._metrics,
            filled=self._conversion.start,
            watch=EndpointWatch(None if shared is None else shared.folder),
            request_log=self._request_log,
            access=access_of(config.spans.group),
        )
        self._metrics.follow_journal_lag(self._telemetry.lag_s)
        self._lag = LoopLag(asyncio.get_running_loop(), each_time=None if shared is None else self._metrics.publish)
        self._metrics.follow_loop_lag(self._lag.worst_us)
        self._gc_pauses = GcPauses(self._metrics.gc_paused)

        pages = process_pages(
            lambda: self._handler.finish_ended(),
            self._metrics.render,
            lambda: self._endpoints.values(),
            version,
            config.proxy.max_requests * config.proxy.workers,
        )
        # Where /metrics has a listener of its own, or clients come from elsewhere, their listener has none.
        hidden = config.proxy.metrics_listen is not None or not is_loopback(split_address(config.proxy.listen)[0])
        clients_pages = {path: page for path, page in pages.items() if not (hidden and path == METRICS)}
        self._handler = Handler(
            self._endpoints,
            self._telemetry,
            self._lag,
            Pages(clients_pages),
            access,
            config.proxy,
            self._gc_pauses,
            self._metrics.mirrored,
            named_users(Path(config.proxy.spans), config.spans.user),
        )
        self._own = Handler(
            {}, self._telemetry, self._lag, Pages(pages), _own_access(config), config.proxy, self._gc_pauses
        )
        self._servers = [MeasuredServer(each, each.refused, config.proxy) for each in (self._handler, self._own)]
        self._listening = [Listening(server) for server in self._servers]
        self._max_descriptors = 0

    async def listen(self, sockets: list[socket.socket], metrics_sockets: list[socket.socket], slot: int = 0) -> None:
        """Accept connections on a slot's listening sockets, which stay the caller's."""
        for listening, bound in zip(self._listening, (sockets, metrics_sockets), strict=True):
            await listening.open(slot, bound)

    def release(self, slot: int) -> None:
        """Accept no more connections on this slot's sockets. Accepted ones stay."""
        for listening in self._listening:
            listening.close(slot)

    def begin(self) -> None:
        """Everything is made: begin to serve, and to measure the process itself."""
        self._lag.start()
        # What was made so far lives as long as the process. The garbage collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        sys.setswitchinterval(_SWITCH_S)
        self._max_descriptors = allow_many()
        self._prepare_endpoints()
        self._prefetch_tokens()
        self._gc_pauses.start()
        if self._first:
            self._conversion.begin()

    async def reload(self, config: Config) -> Reloaded:
        """Take on another configuration for requests from now on. Running ones end with the old one.

        Where the configuration can't be served, this raises ConfigError and changes nothing.
        """
        running = self._config.proxy
        fixed = {key: getattr(running, key) for key in NEEDS_RESTART}
        waiting = [f"proxy.{key}" for key, value in fixed.items() if getattr(config.proxy, key) != value]
        if config.collector != self._config.collector:
            waiting.append("collector.listen")
        if config.otlp != self._config.otlp:
            waiting.append("otlp.keep")
        if config.spans.group != self._config.spans.group:
            waiting.append("spans.group")
        config = msgspec.structs.replace(
            config,
            proxy=msgspec.structs.replace(config.proxy, **fixed),
            spans=msgspec.structs.replace(config.spans, group=self._config.spans.group),
            collector=self._config.collector,
            otlp=self._config.otlp,
        )
        if not is_loopback(split_address(running.listen)[0]) and config.proxy.keys_file is None:
            raise ConfigError(
                f"proxy.keys_file is missing, but {running.listen} is reachable by others until a restart; "
                "set it, or restart"
            )
        keys = client_keys(config.proxy.keys_file)
        kept = {
            name: endpoint
            for name, endpoint in self._endpoints.items()
            if config.endpoints.get(name) == endpoint.config and not _has_files(endpoint.config)
        }
        # In a thread, since a TLS context alone takes some 20 ms.
        made = await asyncio.to_thread(
            lambda: {name: Endpoint(name, each) for name, each in config.endpoints.items() if name not in kept}
        )
        access = Access.of(config.proxy, running.listen, keys)
        _check_users(access, kept | made)
        replaced = [endpoint for name, endpoint in self._endpoints.items() if name not in kept]
        self._config = config
        self._conversion.replace(config.spans)
        self._endpoints = {name: kept.get(name) or made[name] for name in config.endpoints}
        self._metrics.expect(_models(config))
        self._handler.replace(self._endpoints, access, config.proxy)
        self._own.replace({}, _own_access(config), config.proxy)
        for server in self._servers:
            server.limits = config.proxy
        self._prepare_endpoints()
        self._prefetch_tokens()
        for endpoint in replaced:
            endpoint.pool.close()  # connections in use serve their exchange to its end
        return Reloaded(config, waiting)

    async def stop(self, at_once: asyncio.Event) -> bool:
        """Refuse new requests, let the running ones finish, then write the spans to disk.

        Running requests are cut off after `drain_s`, or as soon as `at_once` is set. Returns False where requests were
        cut off, or spans were lost.
        """
        clients, own = self._listening
        clients.close_all()
        # The listener for metrics stays open meanwhile. It says that we aren't ready, and shows the last figures.
        await self._own.drain(0.0)
        draining = asyncio.create_task(self._handler.drain(self._config.proxy.drain_s))
        hurried = asyncio.create_task(at_once.wait())
        await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurried):
            task.cancel()
        # Nobody waits for copies, and they don't count as requests that were cut off.
        await self._handler.close_mirror()
        self._handler.finish_ended(all_of_them=True)
        cut = self._metrics.active()
        if cut:
            _LOG.warning("running requests that are cut off: %d", cut)
            await self._cut()
        own.close_all()
        for server in self._servers:
            await server.shutdown(_SHUTDOWN_S)
        for endpoint in self._endpoints.values():
            endpoint.pool.close()
        for handler in (self._handler, self._own):
            handler.finish_ended(all_of_them=True)
        self._lag.stop()
        self._gc_pauses.stop()
        self._conversion.end()
        written = await asyncio.to_thread(self._telemetry.close)
        self._metrics.publish()
        if self._request_log is not None:
            self._request_log.close()
        lost = self._telemetry.lost
        if lost:
            _LOG.error("spans that were lost since the start: %d; dyno_spans_dropped_total says why", lost)
        return written and not cut and not lost

    def totals_line(self) -> str:
        """What this process did, in a line for its operator."""
        return totals_line(self._metrics.registry.collect())

    async def _cut(self) -> None:
        """Cut off running requests, and wait until each has its outcome."""
        server = self._servers[0]
        self._handler.cut()
        for connection in list(server.connections):
            if isinstance(connection, MeasuredProtocol) and connection.upstream is not None:
                connection.upstream.cut(("truncated", "proxy_shutdown"))
        await server.shutdown(_SHUTDOWN_S)  # cancels the requests that have no upstream connection yet
        await self._handler.drain(_SHUTDOWN_S)

    def _prepare_endpoints(self) -> None:
        """Tell them and the clients' server how many connections there may be, and which addresses are our own."""
        mirrors = [each.mirror for each in self._config.endpoints.values() if each.mirror is not None]
        copies = sum(mirror.max_requests for mirror in mirrors)
        clients, idle = shares(self._max_descriptors, in_use(), len(self._endpoints), copies)
        self._servers[0].max_connections, self._servers[0].surplus_connections = clients, SURPLUS
        for endpoint in self._endpoints.values():
            endpoint.pool.max_idle = idle
            endpoint.pool.leads_back = self._listening[0].is_reached_by

    def _prefetch_tokens(self) -> None:
        for endpoint in self._endpoints.values():
            if endpoint.token is not None:
                endpoint.token.prefetch()


def _own_access(config: Config) -> Access:
    """The rules of the listener for metrics: it asks for no key."""
    return Access.of(config.proxy, config.proxy.metrics_listen or config.proxy.listen, None)


def _check_users(access: Access, endpoints: Mapping[str, Endpoint]) -> None:
    """Raises ConfigError where other users must be kept out, and this system doesn't tell who a client is."""
    if access.own_user_alone and guarded(endpoints) and not can_tell():
        raise ConfigError(
            "proxy.keys_file is missing: endpoints have credentials, and this system doesn't tell whose program is a "
            "client; set it, or proxy.allow_other_users where this machine has no other users"
        )


def _models(config: Config) -> dict[str, str | None]:
    return {name: endpoint.model for name, endpoint in config.endpoints.items()}


def _has_files(config: EndpointConfig) -> bool:
    """Whether it has TLS files, which may have changed although their names haven't."""
    return any((config.ca_file, config.client_cert_file, config.client_key_file))
