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
    """The keys of a file, one a line: `KEY` or `NAME KEY`. A line that begins with `#` is a comment.

    Only digests of the keys are kept.
    """

    def __init__(self, file: Path) -> None:
        """Raises OSError, or ValueError where the file holds no key, or a line that can't be one."""
        # Digests have one length, so the time of a comparison tells nothing about a key's length.
        self._salt = secrets.token_bytes(32)
        self._digests: list[tuple[bytes, str | None]] = []  # of each key, with its name
        for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
            *names, key = line.split() or [b""]
            if not key or line.lstrip().startswith(b"#"):
                continue
            if len(names) > 1 or not all(map(_KEY.fullmatch, (*names, key))):
                raise ValueError(f"line {number}: it must be KEY or NAME KEY, each of visible ASCII characters")
            self._digests.append((self._digest(key), names[0].decode() if names else None))
        if not self._digests:
            raise ValueError("it holds no key")

    def check(self, authorization: str | None, api_key: str | None = None) -> str | None:
        """Raises RefusedError unless Authorization is `Bearer KEY` or X-Api-Key, which Anthropic's SDK sends, is `KEY`.

        Returns the key's name, if it has one. Every key is compared, in constant time.
        """
        scheme, _, bearer = (authorization or "").partition(" ")
        shown = (bearer if scheme.lower() == "bearer" else None, api_key)
        found = [name for each in shown if each is not None for name in self._names(each)]
        if not found:
            asked = "this proxy asks for a client key: Authorization: Bearer KEY, or X-Api-Key: KEY"
            raise RefusedError("invalid_client_key", asked)
        return found[0]

    def _names(self, shown: str) -> list[str | None]:
        """The names of the keys that are equal to it: none or one, unless the file holds a key twice."""
        digest = self._digest(shown.strip().encode("utf-8", "surrogateescape"))
        matches = [(hmac.compare_digest(digest, known), name) for known, name in self._digests]
        return [name for equal, name in matches if equal]

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt, digest_size=32).digest()
