"""Dyno's other programs as child processes: start one, wait until it is ready, stop it."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Self, cast

READY_TIMEOUT_S: Final = 30.0
# This long, because the proxy drains its connections and writes its spans before it ends.
STOP_TIMEOUT_S: Final = 20.0

# -P keeps the working folder off the import path: a user's own dyno.py may lie there.
DYNO: Final = (sys.executable, "-P", "-m", "dyno")


class ChildError(Exception):
    """A child didn't become ready. `spoke`: it ended with exit code 2, so its own line on stderr has said why."""

    def __init__(self, message: str, *, spoke: bool = False) -> None:
        super().__init__(message)
        self.spoke = spoke


class Child:
    """One running `dyno COMMAND`. It inherits our stderr, so the user sees its messages."""

    def __init__(self, command: str, process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
        self._command, self._process, self._output = command, process, output
        self._drain: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, command: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Self:
        """Start `dyno COMMAND ARGUMENTS…`. The caller waits for `ready`, and calls `stop` in any case."""
        process = await asyncio.create_subprocess_exec(
            *DYNO,
            command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=dict(environment),
            # A terminal sends Ctrl-C to every process of its foreground group. The child gets a session of its own,
            # since the proxy must outlive the request that Ctrl-C stops.
            start_new_session=True,
        )
        return cls(command, process, cast(asyncio.StreamReader, process.stdout))  # not None, since stdout is a pipe

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0, a signal has ended it."""
        return self._process.returncode

    async def ready(self, line: re.Pattern[str], count: int = 1) -> list[re.Match[str]]:
        """The first `count` lines on its stdout that match `line`.

        Raises ChildError where the child ends first, or hasn't written them within READY_TIMEOUT_S.
        """
        found: list[re.Match[str]] = []
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while len(found) < count:
                    text = await self._output.readline()
                    if not text:
                        code = await self._process.wait()
                        message = f"'dyno {self._command}' ended with exit code {code} before it was ready"
                        raise ChildError(message, spoke=code == 2)
                    match = line.fullmatch(text.decode(errors="replace").strip())
                    if match:
                        found.append(match)
        except TimeoutError as error:
            raise ChildError(f"'dyno {self._command}' wasn't ready within {READY_TIMEOUT_S:g} s") from error
        self._drain = asyncio.create_task(self._read_on())
        return found

    async def stop(self) -> None:
        """Send SIGTERM, then SIGKILL if it still runs after STOP_TIMEOUT_S. Returns when it has ended."""
        if self._process.returncode is None:
            self._process.terminate()
        if self._drain is None:
            self._drain = asyncio.create_task(self._read_on())
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            print(f"'dyno {self._command}' didn't end within {STOP_TIMEOUT_S:g} s: killed", file=sys.stderr)
            self._process.kill()
            await self._process.wait()
        await self._drain

    async def _read_on(self) -> None:
        """Read the rest of the child's output and drop it: a full pipe would block the child."""
        while await self._output.read(65536):
            pass
