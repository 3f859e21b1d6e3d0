"""`dyno proxy` with one thing altered that no configuration can alter: `python -m bench.altered_proxy HOW --config …`.

HOW is `slow-disk` (each fdatasync takes two seconds) or `no-telemetry` (the thread that makes histograms and spans and
writes them lets each record go).
"""

import os
import sys
import time
from collections.abc import Callable, Sequence

_SLOW_SYNC_S = 2.0


def slow_disk() -> None:
    def slow_fdatasync(fd: object) -> None:  # noqa: ARG001
        time.sleep(_SLOW_SYNC_S)  # like the real one, without the interpreter's lock

    os.fdatasync = slow_fdatasync


def no_telemetry() -> None:
    from dyno_proxy.record import Record
    from dyno_proxy.telemetry import Telemetry

    def let_go(self: Telemetry, batch: Sequence[Record]) -> None:
        pass

    if not hasattr(Telemetry, "_write"):
        raise AttributeError("Telemetry._write is gone: 'no-telemetry' alters nothing")
    Telemetry._write = let_go  # type: ignore[method-assign]


ALTERATIONS: dict[str, Callable[[], None]] = {"slow-disk": slow_disk, "no-telemetry": no_telemetry}

if __name__ == "__main__":
    ALTERATIONS[sys.argv[1]]()
    from dyno_proxy.cli import main

    sys.exit(main(sys.argv[2:]))
