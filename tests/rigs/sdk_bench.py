"""Observes an SDK's behaviour twice, directly at a scripted upstream and through the real proxy, and compares them."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from dyno_driver.simulation.server import Received
from rigs.fake_upstream import FakeUpstream, Script, fake_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

Observed = TypeVar("Observed")

_OF_A_HOP: Final = {"host", "connection", "keep-alive", "te", "transfer-encoding"}
_OF_A_CALL: Final = {"idempotency-key", "x-stainless-idempotency-key"}  # random for each


@dataclass
class SdkBench:
    """`direct` and `proxied` are the same upstream's URLs, without /v1."""

    upstream: FakeUpstream
    proxy: RunningProxy
    scripts: list[Script] = field(default_factory=list)  # one for each attempt; the last is used again

    @property
    def direct(self) -> str:
        return self.upstream.url.removesuffix("/v1")

    @property
    def proxied(self) -> str:
        return f"{self.proxy.url}/up"

    async def same(
        self, scripts: Sequence[Script], observe: Callable[[str], Awaitable[Observed]]
    ) -> tuple[Observed, list[dict[str, Any]]]:
        """What `observe(url)` sees, which must be equal both ways, and the rows of the requests through the proxy.

        What the upstream sees must be equal too: attempts, methods, targets, headers, bodies.
        """
        direct, direct_attempts = await self._observe(self.direct, scripts, observe)
        before = len(await self.proxy.rows(self.proxy.started()))
        proxied, proxied_attempts = await self._observe(self.proxied, scripts, observe)
        assert proxied == direct
        assert list(map(_comparable, proxied_attempts)) == list(map(_comparable, direct_attempts))
        rows = (await self.proxy.rows(before + len(proxied_attempts)))[before:]
        assert len(rows) == len(proxied_attempts), "a row an attempt"
        return proxied, rows

    async def _observe(
        self, url: str, scripts: Sequence[Script], observe: Callable[[str], Awaitable[Observed]]
    ) -> tuple[Observed, list[Received]]:
        self.scripts = list(scripts)
        before = len(self.upstream.requests)
        observed = await observe(url)
        attempts = self.upstream.requests[before:]
        for each in attempts:
            await each.finished.wait()
        return observed, attempts


@asynccontextmanager
async def sdk_bench(folder: Path, **profile: Any) -> AsyncIterator[SdkBench]:
    made: list[SdkBench] = []

    def next_script(_received: Received) -> Script:
        scripts = made[0].scripts
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    async with (
        fake_upstream(next_script, **profile) as upstream,
        in_thread(running_proxy(folder, {"up": upstream.url})) as proxy,
    ):
        made.append(SdkBench(upstream, proxy))
        yield made[0]


def outcomes(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [row["outcome"] for row in rows]


def gaps_s(attempts: Sequence[Received]) -> list[float]:
    """Seconds between the attempts' arrivals."""
    return [(later.received_ns - earlier.received_ns) / 1e9 for earlier, later in pairwise(attempts)]


def head(status: int = 200, /, **headers: str) -> dict[str, Any]:
    """A script's head, with the request id under OpenAI's and Anthropic's names. `retry_after` is Retry-After."""
    ids = {"x-request-id": "req_1", "request-id": "req_1"}
    return {"status": status, "headers": {**ids, **{name.replace("_", "-"): value for name, value in headers.items()}}}


def answered(body: Any, **headers: str) -> Script:
    """A 200 with JSON."""
    return [head(**headers), {"json": body}]


def _comparable(received: Received) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """A request without what belongs to its connection, and without random parts such as a multipart boundary."""
    headers = [(name.lower(), value) for name, value in received.headers if name.lower() not in _OF_A_HOP | _OF_A_CALL]
    body = received.body
    boundary = re.search(r"boundary=(\S+)", dict(headers).get("content-type", ""))
    if boundary is not None:
        body = body.replace(boundary[1].encode(), b"BOUNDARY")
        headers = [(name, value.replace(boundary[1], "BOUNDARY")) for name, value in headers]
    return received.method, received.target, headers, body
