"""run.json: what was run, as the driver records it and the analysis reads it.

docs/spans.md lists the fields. A field may be added under the same schema. One that changes its meaning or goes away
needs a new number, so that an older analysis refuses the file instead of misreading it.
"""

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from typing import Final, TypedDict

from .client import Endpoint
from .load.schedule import Interleave, Load, how_interleaved
from .options.run_options import RunOptions
from .prompts.prompt_set import PromptSet

SCHEMA: Final = 1


class PromptSetJson(TypedDict):
    """The prompts that were asked."""

    name: str
    source: str
    license: str | None  # None: the source doesn't say
    count: int
    description: str
    revision: str | None  # the commit of a set of the Hugging Face hub
    sha256: str  # of all that is known of the prompts


class ParametersJson(TypedDict):
    """What every request asked for, and how often each prompt was sent."""

    temperature: float | None  # None: not sent, so the endpoint's own default held
    max_tokens: int | None
    seed: int | None
    stream: bool
    repeat: int
    warmup: int


class EndpointJson(TypedDict):
    """An endpoint as the proxy describes it; None where its configuration says nothing."""

    model: str | None
    url: str
    provider: str | None
    hardware: str | None
    price: Mapping[str, float] | None
    power_w: float | None
    simulated: bool | None  # None until an answer tells


class VersionsJson(TypedDict):
    """The programs that took part."""

    dyno: str
    proxy: str
    python: str
    aiohttp: str


class RunJson(TypedDict):
    """run.json as a whole, in its order. Times are RFC 3339 in UTC."""

    schema: int
    run_id: str
    command: list[str]
    started_at: str
    finished_at: str | None  # None while the run goes on
    interrupted: bool
    resumed_at: list[str]
    superseded: list[str]  # trace ids of requests that have no answer, and were sent again when the run was resumed
    not_sent: Mapping[str, int]  # by endpoint: requests that were due while it was down
    schedule: str  # SHA-256
    seed: int | None  # of the order in which endpoints and prompts take turns
    workload: str
    loads: list[str]  # in turn
    interleave: list[str]  # how the endpoints took turns under each load
    arrivals: str | None  # None: no load is an open loop
    order: str
    prompt_set: PromptSetJson
    parameters: ParametersJson
    method: str
    endpoints: dict[str, EndpointJson]
    proxy: str
    versions: VersionsJson


def run_json(
    run_id: str,
    command: Sequence[str],
    started: datetime,
    seed: int | None,
    options: RunOptions,
    prompt_set: PromptSet,
    endpoints: Sequence[Endpoint],
    proxy_url: str,
    proxy_version: str,
    schedule: str,
    prompts: str,
) -> RunJson:
    """The record as it stands while the run goes on. `schedule` and `prompts` are their checksums."""
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "command": list(command),
        "started_at": rfc3339(started),
        "finished_at": None,
        "interrupted": False,
        "resumed_at": [],
        "superseded": [],
        "not_sent": {},
        "schedule": schedule,
        "seed": seed,
        "workload": options.workload,
        "loads": [load.in_words() for load in options.shape.loads],
        "interleave": [how_interleaved(options.shape, load) for load in options.shape.loads],
        "arrivals": options.shape.arrivals.name if _has_rate(options) else None,
        "order": options.order,
        "prompt_set": {
            "name": prompt_set.name,
            "source": prompt_set.source,
            "license": prompt_set.license,
            "count": len(prompt_set.prompts),
            "description": prompt_set.description,
            "revision": prompt_set.revision,
            "sha256": prompts,
        },
        "parameters": {
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "seed": options.sampling_seed,
            "stream": options.stream,
            "repeat": options.repeat,
            "warmup": options.warmup,
        },
        "method": method(options, len(prompt_set.prompts), [endpoint.name for endpoint in endpoints]),
        "endpoints": {endpoint.name: _endpoint(endpoint) for endpoint in endpoints},
        "proxy": proxy_url,
        "versions": {
            "dyno": metadata.version("inference-dyno"),
            "proxy": proxy_version,
            "python": platform.python_version(),
            "aiohttp": metadata.version("aiohttp"),
        },
    }


def _endpoint(endpoint: Endpoint) -> EndpointJson:
    return {
        "model": endpoint.model,
        "url": endpoint.url,
        "provider": endpoint.provider,
        "hardware": endpoint.hardware,
        "price": endpoint.price,
        "power_w": endpoint.power_w,
        "simulated": None,
    }


def method(options: RunOptions, prompts: int, endpoints: Sequence[str]) -> str:
    """How it was measured, in one sentence."""
    times = "once" if options.repeat == 1 else f"{options.repeat} times"
    parts = [f"{counted(prompts, 'prompt')}, each sent {times} to {' and '.join(endpoints)}"]
    for load in options.shape.loads:
        how = _INTERLEAVE_WORDS[how_interleaved(options.shape, load)].format(order=_ORDER_WORDS[options.order])
        words = [*([how] if len(endpoints) > 1 else []), _load_words(load)]
        parts.append(", ".join(words) if len(options.shape.loads) == 1 else " ".join(words[::-1]))
    if _has_rate(options):
        parts.append(f"arrivals: {options.shape.arrivals.name}")
    if options.traced.exact_lengths:
        parts.append("answers of exactly the lengths asked for")
    parts.append("streamed" if options.stream else "not streamed")
    if options.warmup:
        parts.append(f"after {counted(options.warmup, 'warm-up request')} to each endpoint")
    return ", ".join(parts) + "."


def _load_words(load: Load) -> str:
    if load.ramp is not None:
        return f"{load.ramp[0]:g} to {load.ramp[1]:g} new requests a second"
    if load.rate_per_s is not None:
        return f"{load.rate_per_s:g} new requests a second"
    if load.all_at_once:
        return "all requests at once"
    return "one request at a time" if load.concurrency == 1 else f"{load.concurrency} requests at once"


def _has_rate(options: RunOptions) -> bool:
    return any(load.rate_per_s is not None for load in options.shape.loads)


_INTERLEAVE_WORDS: Final[dict[Interleave, str]] = {
    "pair": "one endpoint right after the other, who goes first {order}",
    "block": "in blocks that alternate between the endpoints",
    "parallel": "to all endpoints at the same time",
    "whole": "one endpoint wholly after the other",
}
_ORDER_WORDS = {"alternate": "alternating", "random": "drawn in balanced blocks"}


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there isn't one of it."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def rfc3339(moment: datetime) -> str:
    """A time in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
