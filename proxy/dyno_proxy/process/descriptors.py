"""Shares out the descriptors that a process may have open: a client's connection needs another to its endpoint."""

import logging
import resource
from pathlib import Path
from typing import Final, NamedTuple

from dyno_proxy.upstream.pool import MAX_IDLE

RESERVED: Final = 64  # for the journal, /metrics, name lookups, token commands, the compaction's process
SURPLUS: Final = 32  # of those: for clients who are only told that there are too many
_LEAST: Final = 4
_IDLE_SHARE: Final = 16  # one of so many may rest in pools

_LOG: Final = logging.getLogger("dyno.proxy")


class Shares(NamedTuple):
    """What descriptors are for."""

    clients: int  # connections of clients that are served at once
    idle: int  # idle connections to each endpoint


def shares(limit: int, in_use: int, endpoints: int, copies: int) -> Shares:
    """`limit`: descriptors that the process may have. `copies`: requests that mirrors may send beside the clients'."""
    left = max(limit - in_use - RESERVED - copies, 0)
    idle = min(MAX_IDLE, left // _IDLE_SHARE // max(endpoints, 1))
    return Shares(max((left - idle * endpoints) // 2, _LEAST), idle)


def in_use() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


def allow_many() -> int:
    """Raise the limit on open files to the hard one, since the soft one is often 1,024. Returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:  # macOS reports a hard limit that it doesn't grant
        _LOG.debug("the limit of %d open files stays: %s", soft, error)
        return soft
    return hard
