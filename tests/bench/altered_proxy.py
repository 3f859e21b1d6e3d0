"""`dyno proxy` with one thing altered that no configuration can alter: `python -m bench.altered_proxy HOW --config …`.

HOW is `slow-disk` (each fdatasync takes two seconds) or `no-telemetry` (each request's record is let go, so that there
are neither spans nor figures).
"""

import os
import sys
import time
from collections.abc import Callable

_SLOW_SYNC_S = 2.0


def slow_disk() -> None:
    def slow_fdatasync(fd: object) -> None:  # noqa: ARG001
        time.sleep(_SLOW_SYNC_S)  # like the real one, without the interpreter's lock

    os.fdatasync = slow_fdatasync


def no_telemetry() -> None:
    from dyno_proxy.exchange.record import Record
    from dyno_proxy.telemetry.telemetry import Telemetry

    def let_go(self: Telemetry, record: Record) -> None:
        pass

    Telemetry.record = let_go  # type: ignore[method-assign]


ALTERATIONS: dict[str, Callable[[], None]] = {"slow-disk": slow_disk, "no-telemetry": no_telemetry}

if __name__ == "__main__":
    ALTERATIONS[sys.argv[1]]()
    from dyno_proxy.commands.proxy import main

    sys.exit(main(sys.argv[2:]))
