"""Does in its own time what the event loop has no time for at once: reading and recording exchanges.

What is left to do for ended requests is put off until a few have gathered. Their clients have the responses already.
Done one after another, with everything that they need still in the processor's caches, they take a third less time than
between other requests. At most EACH are put off, and for 10 ms: no read waits for long, and the spans are on disk in
time. A large exchange isn't put off, nor a stream, whose chunks take longer than several others together.

What takes long in an exchange is done in stretches of STRETCH_NS at the most, with a turn of the loop in between. All
exchanges share them, so a hundred hostile ones take no more of the loop's time than one does.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.kept import Kept
from dyno_proxy.exchange.record import Record

EACH: Final = 8  # 0.3 ms of the event loop's time
WAIT_S: Final = 0.01
LARGE_BYTES: Final = 16 * 1024  # eight of them, written to take long, take 4 ms
STRETCH_NS: Final = 1_500_000  # and at most one `look()` more, 2 ms

_LOG: Final = logging.getLogger("dyno.proxy")


# What `Exchange.finish` needs: when it ended (monotonic ns), the loop's lag and the collections' pause (µs). A tuple: a
# NamedTuple takes 0.5 µs more to make.
_Ended = tuple[Exchange, int, int, int]


class EndedRequests:
    """Calls `record` once for each ended request. Everything happens on one event loop."""

    def __init__(self, record: Callable[[Record], None]) -> None:
        self._record = record
        self._waiting: list[_Ended] = []
        self._behind: deque[Kept] = deque()  # in turn
        self._late: dict[Kept, _Ended] = {}  # those of them that have ended
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange, loop_lag_us: int, gc_pause_us: int) -> None:
        """The exchange ends now. Never raises: aiohttp would write a 500 behind the response that the client has."""
        ended = (exchange, time.monotonic_ns(), loop_lag_us, gc_pause_us)
        if exchange.behind:
            self._late[exchange] = ended
            return
        if exchange.streamed or exchange.request_bytes + exchange.response_bytes > LARGE_BYTES:
            self._finish(ended)
            return
        self._waiting.append(ended)
        if len(self._waiting) >= EACH:
            self.finish()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self.finish)

    def finish(self) -> None:
        """Read and record all that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for ended in waiting:
            self._finish(ended)

    def finish_all(self) -> None:
        """Read and record all that have ended, however long it takes. For the proxy's end."""
        self.finish()
        late, self._late = self._late, {}
        for ended in late.values():
            self._finish(ended)

    def look_later(self, exchange: Kept) -> None:
        """Look into the exchange, which is behind, in stretches until it isn't."""
        self._behind.append(exchange)
        if len(self._behind) == 1:
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        begun_ns = time.monotonic_ns()
        while self._behind and time.monotonic_ns() - begun_ns < STRETCH_NS:
            exchange = self._behind.popleft()
            if self._look_into(exchange):
                self._behind.append(exchange)
            elif (ended := self._late.pop(exchange, None)) is not None:
                self._finish(ended)
        if self._behind:
            asyncio.get_running_loop().call_soon(self._look)

    def _look_into(self, exchange: Kept) -> bool:
        try:
            return exchange.look()
        except Exception as error:  # noqa: BLE001  # whatever failed, the others are looked into, and it has its row
            _LOG.exception("a response could not be read; its span has less")
            exchange.give_up(f"proxy_{type(error).__name__}")
            return False

    def _finish(self, ended: _Ended) -> None:
        try:
            self._record(_finished(*ended))
        except Exception:  # noqa: BLE001  # the others must have their rows, and aiohttp must not see this
            _LOG.exception("a request has no row")
        finally:
            ended[0].release()


def _finished(exchange: Exchange, now_ns: int, loop_lag_us: int, gc_pause_us: int) -> Record:
    try:
        return exchange.finish(now_ns, loop_lag_us, gc_pause_us)
    except Exception as error:  # noqa: BLE001  # whatever failed, the request must have its row
        _LOG.exception("a response could not be read; its span has less")
        exchange.give_up(f"proxy_{type(error).__name__}")
        return exchange.finish(now_ns, loop_lag_us, gc_pause_us)
