"""How many files this process may have open, for as long as a test needs it; programs started meanwhile inherit it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def soft_limit_of_fds(count: int) -> Iterator[None]:
    """At most the hard limit, which stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
