"""The parent of `--workers N`. It holds the port, starts the workers, starts a worker again that died, and ends them.

Each worker has a slot: listening sockets of its own (SO_REUSEPORT), among which the kernel spreads connections. With
one shared socket, a burst of connections would go to the worker that wakes first. The parent keeps all slots' sockets
open, so connections in a dead worker's queue aren't lost: another worker accepts them until the slot has its own again.
Workers are new interpreters and not forks, so they share nothing by accident that was seeded, opened or started before.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from dyno_proxy.config.schema import Config, ConfigError
from dyno_proxy.file_modes import access_of
from dyno_proxy.metrics.multiprocess import Shared, shared_registry
from dyno_proxy.metrics.settle import Totals, published
from dyno_proxy.metrics.totals import totals_line

from .backoff import Backoff
from .collector_process import collecting
from .exporter_process import exporting
from .killed import Dead, count_killed
from .messages import Link, Listen, Ready, Refused, Release, Reload, Serve, Stop, Taken
from .reload import reload_on
from .signals import Signals
from .sockets import bind, served_lines, url_of

_GRACE_S: Final = 15.0  # after the drain, to write spans; then a worker is killed

_LOG: Final = logging.getLogger("dyno.proxy")


class _StartError(Exception):
    """A worker ended before it served, for another reason than its configuration."""


async def supervise(config: Config, load: Callable[[], Config]) -> int:
    """Run the workers until a signal ends them. Returns the exit code, as `run.run` does.

    Raises ConfigError where a worker can't serve the configuration.
    """
    signals = Signals()
    signals.listen()
    count = config.proxy.workers
    sockets = bind(config.proxy.listen, "proxy.listen", count)
    metrics_sockets: list[list[socket.socket]] = [[] for _ in range(count)]
    if config.proxy.metrics_listen is not None:
        metrics_sockets = bind(config.proxy.metrics_listen, "proxy.metrics_listen", count, flag="--metrics-listen")
    # In memory, since figures are written ten times a second and must not wait for a disk.
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dyno-figures-", dir=place, ignore_cleanup_errors=True) as figures:
        try:
            async with exporting(config), collecting(config) as collected_all:
                code = await _Workers(config, sockets, metrics_sockets, Path(figures), signals).run(load)
            return code or int(not collected_all())
        except _StartError as error:
            _LOG.error("%s", error)
            return 1


@dataclass(eq=False)
class _Worker:
    slot: int
    process: Process
    link: Link
    config: Config
    started_s: float
    before: Totals  # the figures of the slot when the process began

    def __str__(self) -> str:
        return f"worker {self.slot + 1} (process {self.process.pid})"


class _Workers:
    """All slots and the workers in them, from their start to their end."""

    def __init__(
        self,
        config: Config,
        sockets: list[list[socket.socket]],
        metrics_sockets: list[list[socket.socket]],
        figures: Path,
        signals: Signals,
    ) -> None:
        self._config = config
        self._sockets = sockets
        self._metrics_sockets = metrics_sockets
        self._figures = figures
        self._signals = signals
        self._alive: set[_Worker] = set()
        self._ready: dict[int, _Worker] = {}  # by slot
        self._accepting: dict[int, _Worker] = {}  # who accepts a slot's connections
        # Held while a configuration is handed out: a worker that starts must not miss it.
        self._reloading = asyncio.Lock()
        self._in_order = True  # every worker that was told to end did so with exit code 0

    async def run(self, load: Callable[[], Config]) -> int:
        slots = range(len(self._sockets))
        stopping = asyncio.create_task(self._signals.stop.wait())
        keepers: list[asyncio.Task[None]] = []
        try:
            for group in (slots[:1], slots[1:]):  # one worker first, so that a faulty configuration is reported once
                served = [asyncio.get_running_loop().create_future() for _ in group]
                keepers += [asyncio.create_task(self._keep(*each)) for each in zip(group, served, strict=True)]
                starting = asyncio.gather(*served)
                await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    starting.cancel()
                    break
                starting.result()
            else:
                print(f"dyno proxy: {len(slots)} workers", flush=True)
                print("\n".join(served_lines(url_of(self._sockets[0][0]), self._config)), flush=True)
                reloading = asyncio.create_task(reload_on(self._signals.reload, load, self._reload))
                await stopping
                reloading.cancel()
        finally:
            self._signals.stop.set()
            await self._end(keepers)
        print(totals_line(shared_registry(Shared(self._figures, 0)).collect()), flush=True)
        return 0 if self._in_order else 1

    async def _keep(self, slot: int, served: "asyncio.Future[None]") -> None:
        """Keep a worker in the slot until the end. `served` gets the result of the first start."""
        try:
            worker = await self._start(slot)
        except (ConfigError, _StartError) as error:
            if not served.done():
                served.set_exception(error)
            return
        if not served.done():
            served.set_result(None)
        backoff = Backoff()
        while True:
            code = await worker.process.wait()
            await self._gone(worker, code)
            # One that was killed with nothing to do has lost nothing.
            if self._signals.stop.is_set():
                self._in_order &= code == 0
                return
            self._in_order &= code <= 0
            _LOG.error("%s ended %s; it is started again", worker, _how(code))
            again = await self._start_again(slot, backoff, asyncio.get_running_loop().time() - worker.started_s)
            if again is None:
                return
            worker = again

    async def _start_again(self, slot: int, backoff: Backoff, lived_s: float) -> _Worker | None:
        """Try until a worker serves; None if the proxy is told to end. `lived_s`: how long the last worker lived."""
        pause_s = backoff.pause_s(lived_s)
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._signals.stop.wait(), pause_s)
            if self._signals.stop.is_set():
                return None
            try:
                return await self._start(slot)
            except (ConfigError, _StartError) as error:
                pause_s = backoff.pause_s(lived_s=0.0)
                _LOG.error("worker %d can't be started: %s; the next try is in %g s", slot + 1, error, pause_s)

    async def _start(self, slot: int) -> _Worker:
        """Start a worker and return once it serves.

        Raises ConfigError where it refuses the configuration, _StartError where it ends before it serves.
        """
        own_end, workers_end = socket.socketpair()
        descriptors = [[each.fileno() for each in bound] for bound in self._sockets]
        metrics_descriptors = [[each.fileno() for each in bound] for bound in self._metrics_sockets]
        try:
            with workers_end:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "dyno_proxy.process.worker", str(workers_end.fileno())),
                    stdin=DEVNULL,
                    pass_fds=[workers_end.fileno(), *chain(*descriptors, *metrics_descriptors)],
                    process_group=0,  # a terminal's Ctrl-C is for the parent alone
                )
        except OSError as error:
            own_end.close()
            raise _StartError(f"the process of worker {slot + 1} can't be started: {error.strerror}") from error
        link = await Link.over(own_end)
        before = published(Shared(self._figures, slot))
        worker = _Worker(slot, process, link, self._config, asyncio.get_running_loop().time(), before)
        self._alive.add(worker)
        link.tell(Serve(worker.config, slot, str(self._figures), descriptors, metrics_descriptors))
        if self._signals.stop.is_set():
            link.tell(Stop(at_once=False))
        answer = await link.answer()
        if not isinstance(answer, Ready):
            code = await process.wait()
            await self._gone(worker, code)
            if isinstance(answer, Refused):
                raise ConfigError(answer.why)
            raise _StartError(f"{worker} ended {_how(code)} before it served")
        async with self._reloading:
            self._has_come(worker)
            if worker.config is not self._config:
                self._note(worker, await self._hand_config(worker, self._config))
        return worker

    def _has_come(self, worker: _Worker) -> None:
        """Note that a worker serves. It takes its slot's connections back, and those of slots that nobody serves."""
        former = self._accepting.get(worker.slot)
        if former is not None:
            former.link.tell(Release(worker.slot))
        self._accepting[worker.slot] = self._ready[worker.slot] = worker
        for slot in range(len(self._sockets)):
            if slot not in self._accepting:
                self._hand_over(slot)

    async def _gone(self, worker: _Worker, code: int) -> None:
        """Note that a worker has ended, hand the slots that it served to others, and count what it had open."""
        worker.link.close()
        self._alive.discard(worker)
        if self._ready.get(worker.slot) is worker:
            del self._ready[worker.slot]
        Shared(self._figures, worker.slot).forget_live()
        for slot in [slot for slot, accepting in self._accepting.items() if accepting is worker]:
            del self._accepting[slot]
            self._hand_over(slot)
        shared = Shared(self._figures, worker.slot)
        shared.forget_live()
        spans, access = Path(self._config.proxy.spans), access_of(self._config.spans.group)
        dead = Dead(str(worker), worker.process.pid, code, spans, access, shared, worker.before)
        try:
            lost = await asyncio.to_thread(count_killed, dead)
        except Exception:  # noqa: BLE001  # whatever failed, another worker must come
            _LOG.exception("what %s had open can't be counted", worker)
            lost = True
        self._in_order &= not lost

    def _hand_over(self, slot: int) -> None:
        """Have another worker accept the slot's connections until the slot has its own again."""
        for other in self._ready.values():
            other.link.tell(Listen(slot))
            self._accepting[slot] = other
            return

    async def _reload(self, config: Config) -> list[str]:
        """Hand the configuration to every worker. The first is asked alone: if it refuses, none has changed.

        Returns the keys that need a restart. Raises ConfigError where the first refuses.
        """
        async with self._reloading:
            taken: Taken | None = None
            for worker in list(self._ready.values()):
                answer = await self._hand_config(worker, config)
                if taken is None and isinstance(answer, Refused):
                    raise ConfigError(answer.why)
                self._note(worker, answer)
                if isinstance(answer, Taken):
                    taken = answer
                    self._config = answer.config
            if taken is None:
                raise ConfigError("no worker is running that could take it; send SIGHUP again later")
            return taken.waiting

    async def _hand_config(self, worker: _Worker, config: Config) -> Taken | Refused | None:
        """The worker's answer; None if the worker ended instead."""
        worker.link.tell(Reload(config))
        answer = await worker.link.answer()
        return None if isinstance(answer, Ready) else answer

    @staticmethod
    def _note(worker: _Worker, answer: Taken | Refused | None) -> None:
        if isinstance(answer, Refused):
            _LOG.error("%s keeps its old configuration: %s", worker, answer.why)

    async def _end(self, keepers: list["asyncio.Task[None]"]) -> None:
        """Let all drain. End them at once after a second signal. Kill a worker that doesn't end."""
        for bound in chain(*self._sockets, *self._metrics_sockets):
            bound.close()
        self._tell_all(Stop(at_once=False))
        ended = asyncio.gather(*keepers)
        hurried = asyncio.create_task(self._signals.at_once.wait())
        limit_s = self._config.proxy.drain_s + _GRACE_S
        await asyncio.wait((ended, hurried), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            self._tell_all(Stop(at_once=True))
            await asyncio.wait((ended,), timeout=_GRACE_S)
        for worker in self._alive:
            _LOG.error("%s doesn't end and is killed; spans that it hadn't written are lost", worker)
            worker.process.kill()
        await ended

    def _tell_all(self, order: Stop) -> None:
        for worker in self._alive:
            worker.link.tell(order)


def _how(code: int) -> str:
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
