"""The keys that clients must show to a proxy that others can reach."""

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Final

from dyno_proxy.config.schema import ConfigError
from dyno_proxy.errors import RefusedError

_KEY: Final = re.compile(rb"[\x21-\x7e]+")


def client_keys(file: str | None) -> "ClientKeys | None":
    """The keys of `proxy.keys_file`, if there is one. Raises ConfigError."""
    if file is None:
        return None
    try:
        return ClientKeys(Path(file))
    except OSError as error:
        raise ConfigError(f"proxy.keys_file: {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"proxy.keys_file: {file}: {error}") from error


class ClientKeys:
    """The keys of a file, one a line. A line that begins with `#` is a comment. Only digests of the keys are kept."""

    def __init__(self, file: Path) -> None:
        """Raises OSError, or ValueError where the file holds no key, or a line that can't be one."""
        # Digests have one length, so the time of a comparison tells nothing about a key's length.
        self._salt = secrets.token_bytes(32)
        self._digests: list[bytes] = []
        for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
            key = line.strip()
            if not key or key.startswith(b"#"):
                continue
            if not _KEY.fullmatch(key):
                raise ValueError(f"line {number}: a key must be visible ASCII characters without a space")
            self._digests.append(self._digest(key))
        if not self._digests:
            raise ValueError("it holds no key")

    def check(self, authorization: str | None, api_key: str | None = None) -> None:
        """Raises RefusedError unless Authorization is `Bearer KEY` or X-Api-Key, which Anthropic's SDK sends, is `KEY`.

        Every key is compared, in constant time.
        """
        scheme, _, bearer = (authorization or "").partition(" ")
        known = scheme.lower() == "bearer" and self._is_known(bearer)
        if not known and not (api_key is not None and self._is_known(api_key)):
            asked = "this proxy asks for a client key: Authorization: Bearer KEY, or X-Api-Key: KEY"
            raise RefusedError("invalid_client_key", asked)

    def _is_known(self, shown: str) -> bool:
        digest = self._digest(shown.strip().encode("utf-8", "surrogateescape"))
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt, digest_size=32).digest()
