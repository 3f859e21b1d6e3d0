"""A scripted upstream in the test's process: `dyno simulate`'s server, which speaks real HTTP on a free port.

    async with fake_upstream([{"wait_s": 0.2}, {"tokens": 30, "every_s": 0.02}, {"finish": "stop"}]) as upstream:
        …  # upstream.url ends in /v1; upstream.requests holds each request as it came, and the stamps of what was sent

dyno_driver/simulation/script.py describes the script language. Instead of a script, a function can be given: it is
called with each request and returns the script.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from dyno_driver.simulation.profiles import PROFILES
from dyno_driver.simulation.server import Received, SimulatedEndpoint

Script = list[Any]


@dataclass
class FakeUpstream:
    """One running upstream. Its stamps are `time.monotonic_ns()`, a clock that a machine's processes share."""

    url: str
    requests: list[Received] = field(default_factory=list)
    arrived: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)  # each request, added once when it begins

    @property
    def last(self) -> Received:
        return self.requests[-1]

    def log(self, received: Received) -> None:
        self.requests.append(received)
        self.arrived.put_nowait(received)


@asynccontextmanager
async def fake_upstream(
    script: Script | Callable[[Received], Script] | None = None,
    *,
    profile: str = "openai",
    seed: int = 0,
    time_scale: float = 1.0,
    exact: bool = False,
    **changes: Any,
) -> AsyncIterator[FakeUpstream]:
    """Without a script the upstream answers as `profile` says. `changes` are fields of the profile."""
    upstream = FakeUpstream("")
    endpoint = SimulatedEndpoint(
        replace(PROFILES[profile], **changes),
        seed=seed,
        time_scale=time_scale,
        script=script,
        log=upstream.log,
        exact=exact,
    )
    upstream.url = await endpoint.start() + "/v1"
    try:
        yield upstream
    finally:
        await endpoint.stop()
