"""An endpoint's credentials: a token from the environment, a file, or a command's output."""

import asyncio
import logging
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Final

from .errors import RefusedError

COMMAND_TIMEOUT_S: Final = 60.0
_LOG: Final = logging.getLogger("dyno.proxy")


class Token:
    """A token that is fetched when first needed, kept `refresh_s`, and fetched once for all requests that wait."""

    def __init__(
        self, endpoint: str, *, env: str | None, file: str | None, command: str | None, refresh_s: float
    ) -> None:
        """Exactly one of `env`, `file`, `command`. Raises ValueError where it can't work, before any request."""
        self._endpoint = endpoint
        self._env, self._file, self._command = env, file, command
        self._refresh_s = refresh_s
        self._value: bytes | None = None
        self._fetched_s = 0.0
        self._lock = asyncio.Lock()
        if env is not None and not os.environ.get(env):
            raise ValueError(f"the environment variable {env} is not set")
        if file is not None:
            try:
                Path(file).read_bytes()
            except OSError as error:
                raise ValueError(f"the token file {file} can't be read: {error.strerror}") from error
        if command is not None:
            words = shlex.split(command)
            if not words or shutil.which(words[0]) is None:
                raise ValueError(f"the token command's program {words[0] if words else ''!r} isn't found")

    async def authorization(self) -> bytes:
        """The value of the Authorization header. Raises RefusedError where the token can't be had."""
        if self._value is None or time.monotonic() - self._fetched_s > self._refresh_s:
            async with self._lock:
                if self._value is None or time.monotonic() - self._fetched_s > self._refresh_s:
                    self._value = b"Bearer " + await self._fetch()
                    self._fetched_s = time.monotonic()
        return self._value

    def expire(self) -> None:
        """The endpoint refused it: the next request fetches it anew."""
        self._value = None

    async def _fetch(self) -> bytes:
        if self._env is not None:
            token = os.environ.get(self._env, "").encode()
        elif self._file is not None:
            try:
                token = await asyncio.to_thread(Path(self._file).read_bytes)
            except OSError as error:
                raise self._unavailable(f"the token file can't be read: {error.strerror}") from error
        else:
            token = await self._run(self._command or "")
        token = token.strip()
        if not token or b"\n" in token or b"\r" in token:
            raise self._unavailable("its source gave no token, or more than one line")
        return token

    async def _run(self, command: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise self._unavailable(f"the token command took more than {COMMAND_TIMEOUT_S:.0f} s") from error
        if process.returncode != 0:
            raise self._unavailable(f"the token command ended with exit code {process.returncode}")
        return output

    def _unavailable(self, why: str) -> RefusedError:
        _LOG.error("endpoint '%s': %s", self._endpoint, why)
        return RefusedError(502, "token_unavailable", f"endpoint '{self._endpoint}': {why}")
