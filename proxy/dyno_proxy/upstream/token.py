"""An endpoint's token, from an environment variable, a file, or a command's output."""

import asyncio
import binascii
import logging
import math
import os
import re
import shlex
import shutil
import time
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Final

import msgspec

from dyno_proxy.errors import RefusedError

from .program_output import output_of
from .single_flight import SharedCall

COMMAND_TIMEOUT_S: Final = 60.0
FILE_TIMEOUT_S: Final = 5.0
FILE_REFRESH_S: Final = 5.0  # a token that was read so long ago is waited for; traffic has it read again each second
COMMAND_REST_S: Final = 5.0  # until the next fetch after one that failed, or whose token the endpoint refused
FILE_REST_S: Final = 1.0

_MAX_TOKEN_BYTES: Final = 32 * 1024
_LONGEST_AHEAD_S: Final = 600.0  # at most so long before a token ends, the next is fetched
_TOKEN: Final = re.compile(rb"[\x21-\x7e]+")
_LOG: Final = logging.getLogger("dyno.proxy")


class Token:
    """A token that is fetched once for all requests that wait, kept, and fetched again before it expires.

    A command's token expires at its `exp` claim, if it is a JWT that has one; any other lives for `refresh_s`. In the
    last quarter of that time (10 minutes at most) the next token is fetched, and requests go on with the one at hand.
    A token that could not be replaced stays in use, unless its `exp` has passed.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        env: str | None,
        file: str | None,
        command: str | None,
        refresh_s: float,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        command_rest_s: float = COMMAND_REST_S,
    ) -> None:
        """Takes exactly one of `env`, `file` and `command`. Raises ValueError where that one can't work."""
        if not refresh_s > 0:
            raise ValueError("refresh_s must be more than 0 seconds")
        self._endpoint = endpoint
        self._refresh_s = math.inf if env is not None else FILE_REFRESH_S if file is not None else refresh_s
        self._rest_s = command_rest_s if command is not None else FILE_REST_S
        self._command = shlex.split(command) if command is not None else None
        self._command_timeout_s = command_timeout_s
        self._file = Path(file) if file is not None else None
        self._reading = SharedCall(self._read_in_thread)
        self._fetching = SharedCall(self._fetch)
        self._value: bytes | None = None
        self._fresh_until_s = self._ahead_from_s = 0.0  # on the monotonic clock
        self._expires_unix_s = math.inf
        self._refused = False  # by the endpoint
        self._failure: str | None = None  # why the last fetch gave nothing
        self._rest_until_s = 0.0
        if env is not None:
            if not os.environ.get(env):
                raise ValueError(f"the environment variable {env} is not set or empty")
            self._keep(_checked(os.fsencode(os.environ[env]), f"the environment variable {env}"))
        if self._file is not None:
            try:
                self._keep(_checked(_read(self._file), f"the token file {file}"))
            except OSError as error:
                raise ValueError(f"the token file {file} can't be read: {error.strerror}") from error
        if self._command is not None and (not self._command or shutil.which(self._command[0]) is None):
            raise ValueError(f"the token command's program {self._command[0] if self._command else ''!r} isn't found")

    async def authorization(self) -> bytes:
        """The value of the Authorization header. Raises RefusedError where there is no token to use."""
        now_s = time.monotonic()
        usable = self._value is not None and not self._expired()
        due = self._refused or now_s >= self._fresh_until_s
        if not usable or due or now_s >= self._ahead_from_s:
            resting = now_s < self._rest_until_s and (self._refused or self._failure is not None)
            if not resting:
                if not usable or (due and self._failure is None):
                    await self._fetching()
                else:
                    self._fetching.start()  # while fetching fails, requests don't wait for another try
        if self._value is None or (self._failure is not None and self._expired()):
            raise RefusedError("token_unavailable", f"endpoint '{self._endpoint}': {self._failure}")
        return self._value

    def prefetch(self) -> None:
        """Begin to fetch a command's token, so that the first request need not wait for it. Needs a running loop."""
        if self._value is None:
            self._fetching.start()

    def expire(self, used: bytes) -> None:
        """The endpoint refused `used`, which `authorization()` gave out. If it is still in use, it is replaced."""
        if used == self._value and (self._command is not None or self._file is not None):
            self._refused = True

    def _expired(self) -> bool:
        return time.time() >= self._expires_unix_s

    async def _fetch(self) -> None:
        """Fetch another token, or note why that failed."""
        try:
            if self._command is not None:
                token = await self._run(self._command)
            else:
                token = _checked(await self._read(), "the token file")
        except ValueError as error:
            if self._failure is None:
                _LOG.error("endpoint '%s': %s", self._endpoint, error)
            self._failure = str(error)
        else:
            if self._failure is not None:
                _LOG.warning("endpoint '%s': there is a token again", self._endpoint)
            self._keep(token)
        self._rest_until_s = time.monotonic() + self._rest_s

    def _keep(self, token: bytes) -> None:
        now_s, now_unix_s = time.monotonic(), time.time()
        self._value = b"Bearer " + token
        self._refused, self._failure = False, None
        expires_unix_s = _expiry(token) if self._command is not None else None
        if expires_unix_s is None:
            self._expires_unix_s = math.inf
            lasts_s = self._refresh_s
        else:
            # A token that was just fetched is tried even if it says that it has expired: our clock may be wrong.
            self._expires_unix_s = max(expires_unix_s, now_unix_s + self._rest_s)
            lasts_s = self._expires_unix_s - now_unix_s
        self._fresh_until_s = now_s + lasts_s
        ahead_s = lasts_s * 0.8 if self._file is not None else min(lasts_s / 4, _LONGEST_AHEAD_S)
        self._ahead_from_s = self._fresh_until_s - ahead_s

    async def _run(self, command: list[str]) -> bytes:
        try:
            output = await output_of(command, self._command_timeout_s, _MAX_TOKEN_BYTES)
        except ValueError as error:
            raise ValueError(f"the token command {error}") from error
        return _checked(output, "the token command's output")

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(FILE_TIMEOUT_S):
                return await self._reading()  # shared: a stalled disk blocks one thread, no more
        except TimeoutError as error:
            raise ValueError(f"the token file can't be read within {FILE_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise ValueError(f"the token file can't be read: {error.strerror}") from error

    async def _read_in_thread(self) -> bytes:
        return b"" if self._file is None else await asyncio.to_thread(_read, self._file)


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_MAX_TOKEN_BYTES + 1)


def _checked(text: bytes, source: str) -> bytes:
    """The token in `text`, without the blanks around it. Raises ValueError, whose message doesn't repeat the text."""
    token = text.strip()
    if not token:
        raise ValueError(f"{source} is empty")
    if len(token) > _MAX_TOKEN_BYTES:
        raise ValueError(f"{source} is too long: a token has at most {_MAX_TOKEN_BYTES} bytes")
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            f"{source} must be a bare token: it has a space, a line break or another control character in it"
        )
    return token


class _Claims(msgspec.Struct):
    exp: float | None = None


def _expiry(token: bytes) -> float | None:
    """When a JWT expires, in Unix seconds; None where the token isn't a JWT, or doesn't say when."""
    parts = token.split(b".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)), type=_Claims)
    except (binascii.Error, msgspec.DecodeError, RecursionError):
        return None
    return claims.exp
