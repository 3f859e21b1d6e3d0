"""`dyno proxy` as a program: a process that serves, or the parent of workers that serve."""

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from dyno_proxy.config.schema import Config

from .reload import reload_on
from .sockets import bind, served_lines, url_of

if TYPE_CHECKING:
    from .signals import Signals


def run(config: Config, load: Callable[[], Config]) -> int:
    """Run until SIGTERM or SIGINT. On SIGHUP, `load` reads the configuration again.

    Returns the exit code: 1 where requests were cut off at the end, spans were lost, or a worker failed.
    Raises ConfigError or SetupError where the proxy can't serve.
    """
    if config.proxy.workers > 1:
        from .supervisor import supervise

        return asyncio.run(supervise(config, load))

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve_alone(config, load))


async def _serve_alone(config: Config, load: Callable[[], Config]) -> int:
    from .collector_process import collecting
    from .exporter_process import exporting
    from .signals import Signals

    signals = Signals()
    signals.listen()
    (sockets,) = bind(config.proxy.listen, "proxy.listen")
    metrics_sockets = []
    if config.proxy.metrics_listen is not None:
        (metrics_sockets,) = bind(config.proxy.metrics_listen, "proxy.metrics_listen", flag="--metrics-listen")
    async with exporting(config), collecting(config) as collected_all:
        code = await _serve(config, load, signals, sockets, metrics_sockets)
    return code or int(not collected_all())


async def _serve(
    config: Config,
    load: Callable[[], Config],
    signals: "Signals",
    sockets: list[socket.socket],
    metrics_sockets: list[socket.socket],
) -> int:
    from .proxy import Proxy

    proxy = Proxy(config)
    await proxy.listen(sockets, metrics_sockets)
    url = url_of(sockets[0])
    for each in (*sockets, *metrics_sockets):
        each.close()
    proxy.begin()
    print("\n".join(served_lines(url, config)), flush=True)

    async def take(config: Config) -> list[str]:
        return (await proxy.reload(config)).waiting

    reloading = asyncio.create_task(reload_on(signals.reload, load, take))
    await signals.stop.wait()
    reloading.cancel()
    in_order = await proxy.stop(signals.at_once)
    print(proxy.totals_line(), flush=True)
    return 0 if in_order else 1
