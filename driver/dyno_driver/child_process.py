"""Dyno's other programs as child processes: started, known to be ready, ended."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Self, cast

READY_TIMEOUT_S: Final = 30.0
# The proxy drains and writes its spans first.
STOP_TIMEOUT_S: Final = 20.0

# -P: not the working folder first on the import path, where a user's own dyno.py may lie.
DYNO: Final = (sys.executable, "-P", "-m", "dyno")


class ChildError(Exception):
    """A child that didn't come up. `spoke`: it ended with exit code 2, so its one line on stderr has said why."""

    def __init__(self, message: str, *, spoke: bool = False) -> None:
        super().__init__(message)
        self.spoke = spoke


class Child:
    """One running `dyno COMMAND`. Its stderr is ours, so its messages reach the person."""

    def __init__(self, command: str, process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
        self._command, self._process, self._output = command, process, output
        self._drain: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, command: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Self:
        process = await asyncio.create_subprocess_exec(
            *DYNO,
            command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=dict(environment),
            # A terminal's Ctrl-C goes to all of a session: the proxy must outlive the request that is being stopped.
            start_new_session=True,
        )
        return cls(command, process, cast(asyncio.StreamReader, process.stdout))  # there, since a pipe was asked for

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self, line: re.Pattern[str], count: int = 1) -> list[re.Match[str]]:
        """The first `count` lines of its output that match `line`. Raises ChildError where they don't come."""
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
        """SIGTERM, and SIGKILL for one that doesn't heed it. Returns when it has ended."""
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
        """A full pipe would block the child."""
        while await self._output.read(65536):
            pass
