"""Runs a program for what it prints, beside the event loop.

A thread starts it and waits for it. asyncio's own subprocesses are forked on the event loop, which stalls every stream
for 4 ms; this way stalls them for 0.2 ms.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from typing import IO, Final, cast

_LOOK_EVERY_MS: Final = 50  # how often to see whether the program ended, or nobody waits for it any more
_KILLED_WITHIN_S: Final = 1.0


async def output_of(command: list[str], limit_s: float, max_bytes: int) -> bytes:
    """What a program printed before it ended with exit code 0. Cancelling this kills the program and its children.

    The program's input is empty. What it writes to stderr is dropped, since complaints may hold secrets. Raises
    ValueError where it can't be run, fails, takes longer than `limit_s` or prints more than `max_bytes`; no message
    repeats its output.
    """
    left = threading.Event()
    try:
        return await asyncio.to_thread(_run, command, limit_s, max_bytes, left)
    finally:
        left.set()


def _run(command: list[str], limit_s: float, max_bytes: int, left: threading.Event) -> bytes:
    ends_s = time.monotonic() + limit_s
    try:
        process = subprocess.Popen(  # noqa: S603 - the command is the configuration's, and no shell reads it
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so its children can be killed with it, and Ctrl-C reaches the proxy alone
        )
    except OSError as error:
        raise ValueError(f"can't be run: {error.strerror}") from error
    with cast(IO[bytes], process.stdout) as printed:
        try:
            output = _read(process, printed.fileno(), max_bytes, ends_s, left)
        except TimeoutError as error:
            raise ValueError(f"took more than {limit_s:g} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_KILLED_WITHIN_S)
    if process.returncode != 0:
        raise ValueError(f"ended with exit code {process.returncode}; run it by hand to see why")
    return output


def _read(
    process: "subprocess.Popen[bytes]", printed: int, max_bytes: int, ends_s: float, left: threading.Event
) -> bytes:
    """All that it prints until it ends. Children that outlive it and hold the pipe open aren't waited for."""
    output = b""
    poller = select.poll()
    poller.register(printed, select.POLLIN)
    is_open = True
    while True:
        # Asked before the pipe is read: once it has ended, all it printed is in the pipe.
        ended = process.poll() is not None
        if is_open and poller.poll(0 if ended else _LOOK_EVERY_MS):
            data = os.read(printed, max_bytes + 1 - len(output))
            output += data
            is_open = bool(data)
            if len(output) > max_bytes:
                raise ValueError(f"printed more than {max_bytes} bytes")
        elif ended:
            return output
        elif not is_open:
            left.wait(0.005)
        if left.is_set() or time.monotonic() > ends_s:
            raise TimeoutError
