"""What is kept of a user's name (OpenAI's `user`): its HMAC with a key of this installation, or the name itself.

A bare hash would hide little: who has the span files can hash every address of an organisation and compare. The key is
made once and stays in the spans folder, in a file that only the proxy's user may read, whoever may read the spans.
"""

import hmac
import logging
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dyno_proxy.file_modes import OWN_FILE

KEY_FILE: Final = ".dyno.user_key"
KEY_BYTES: Final = 32
HMAC: Final = "hmac"
CLEAR: Final = "clear"

_HMAC_CHARACTERS: Final = 32
_NAME_CHARACTERS: Final = 256

_LOG: Final = logging.getLogger("dyno.proxy")


def named_users(folder: Path, kept: str) -> Callable[[str], str] | None:
    """What makes of a user's name that which is kept; None where there is no key, as the log says then.

    `kept`: HMAC or CLEAR.
    """
    if kept == CLEAR:
        return lambda name: name[:_NAME_CHARACTERS]
    try:
        key = _key(folder)
    except OSError as error:
        _LOG.warning(
            "users' names aren't kept: the key in '%s' can't be read or made: %s", folder / KEY_FILE, error.strerror
        )
        return None
    return lambda name: hmac.digest(key, name.encode("utf-8", "surrogatepass"), "sha256").hex()[:_HMAC_CHARACTERS]


def _key(folder: Path) -> bytes:
    """The installation's key. It is made if it isn't there; of several processes that make it, one wins."""
    path = folder / KEY_FILE
    for _ in range(2):
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) >= KEY_BYTES:
            return key
        if key:
            raise OSError(None, "it is too short; remove it, and another one is made")
        _make(path)
    raise OSError(None, "it is empty, and no other can be put in its place")


def _make(path: Path) -> None:
    """Put a key there, whole at once, unless another process has done so."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWN_FILE)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        _sync_later(draft)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            if not path.stat().st_size:  # the machine went down before it was on disk, so nothing was named by it
                draft.replace(path)
        except OSError:  # a file system without hard links
            if not path.exists():
                draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def _sync_later(path: Path) -> None:
    """Have the file on disk some time. A file server may take a minute for that, and the proxy's start doesn't wait."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def sync() -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            _LOG.debug("the key of users' names isn't synced: %s", error)
        finally:
            os.close(fd)

    threading.Thread(target=sync, name="dyno-key-sync", daemon=True).start()
