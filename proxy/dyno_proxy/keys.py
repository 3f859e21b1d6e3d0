"""The keys that clients show to a proxy that strangers can reach."""

import hmac
from pathlib import Path

from .errors import RefusedError


class ClientKeys:
    """Keys of a file, one a line; `#` begins a comment."""

    def __init__(self, file: Path) -> None:
        """Raises OSError, or ValueError where the file holds no key."""
        lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
        self._keys = [line.encode() for line in lines if line and not line.startswith("#")]
        if not self._keys:
            raise ValueError("it holds no key")

    def check(self, authorization: str | None) -> None:
        """Raises RefusedError unless the header is `Bearer KEY`. Every key is compared, each in constant time."""
        scheme, _, key = (authorization or "").partition(" ")
        shown = key.strip().encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(shown, known) for known in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            raise RefusedError(401, "invalid_client_key", "this proxy asks for a client key: Authorization: Bearer KEY")
