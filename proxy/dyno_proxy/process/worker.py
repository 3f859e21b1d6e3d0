"""A worker: one of several processes that share the port.

Its parent starts it as `python -m dyno_proxy.process.worker FD`.
"""

import asyncio
import logging
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

import uvloop

from dyno_proxy.config.schema import ConfigError
from dyno_proxy.metrics.multiprocess import Shared
from dyno_proxy.telemetry.journal import SetupError

from .messages import Link, Listen, Order, Ready, Refused, Release, Reload, Serve, Stop, Taken
from .proxy import Proxy
from .signals import Signals

_LOG: Final = logging.getLogger("dyno.proxy")


def main(argv: list[str]) -> int:
    """`argv` holds the file descriptor of the socket to the parent. The exit codes are those of `dyno proxy`."""
    logging.basicConfig(level=logging.WARNING, format="dyno proxy: %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(socket.socket(fileno=int(argv[0]))))


async def _work(control: socket.socket) -> int:
    signals = Signals()
    signals.listen_as_worker()
    parent = await Link.over(control)
    first = await parent.order()
    if not isinstance(first, Serve):
        return 1  # the parent is gone already
    sockets, metrics_sockets = _opened(first.sockets), _opened(first.metrics_sockets)
    try:
        proxy = Proxy(first.config, Shared(Path(first.figures), first.slot))
    except (ConfigError, SetupError) as error:
        parent.tell(Refused(str(error)))
        parent.close()
        return 2
    await proxy.listen(sockets[first.slot], metrics_sockets[first.slot], first.slot)
    proxy.begin()
    parent.tell(Ready())

    async def obey(order: Order) -> None:
        match order:
            case Stop(at_once):
                signals.stop.set()
                if at_once:
                    signals.at_once.set()
            case Listen(slot):
                if not signals.stop.is_set():  # else the sockets are closed already
                    await proxy.listen(sockets[slot], metrics_sockets[slot], slot)
            case Release(slot):
                proxy.release(slot)
            case Reload(config):
                try:
                    parent.tell(Taken(*await proxy.reload(config)))
                except ConfigError as error:
                    parent.tell(Refused(str(error)))

    async def listen_to_parent() -> None:
        while (order := await parent.order()) is not None:
            try:
                await obey(order)
            except Exception as error:  # noqa: BLE001  # a fault of ours must not keep the next order from being read
                _LOG.exception("an order from the parent failed")
                if isinstance(order, Reload):
                    parent.tell(Refused(f"{type(error).__name__}: {error}"))
        _LOG.error("worker %d: the parent process is gone; it drains and ends", first.slot + 1)
        orphaned.set()
        signals.stop.set()

    orphaned = asyncio.Event()
    listening = asyncio.create_task(listen_to_parent())
    await signals.stop.wait()
    for each in (one for slot in (*sockets, *metrics_sockets) for one in slot):
        each.close()
    in_order = await proxy.stop(signals.at_once)
    listening.cancel()
    if orphaned.is_set():
        shutil.rmtree(first.figures, ignore_errors=True)  # as the parent would have done
    return 0 if in_order else 1


def _opened(descriptors: list[list[int]]) -> list[list[socket.socket]]:
    return [[socket.socket(fileno=descriptor) for descriptor in slot] for slot in descriptors]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
