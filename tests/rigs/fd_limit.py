"""Sets how many files this process may have open while a test runs. Programs started meanwhile inherit the limit."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def soft_limit_of_fds(count: int) -> Iterator[None]:
    """Set the soft limit, at most to the hard limit. The hard limit stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
