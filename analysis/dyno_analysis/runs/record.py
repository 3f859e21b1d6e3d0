"""What a run's record says: `run.json` as the driver and `dyno import` write it. Pure.

docs/spans.md lists the fields; a contract test holds the driver to the same ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

SCHEMA: Final = 1  # the newest that this version reads; a run.json without one is older than the first
OWN_KIND: Final = "a results file of Dyno's own"  # `imported_kind` of a run that Dyno measured itself


def unreadable_schema(values: Mapping[str, Any]) -> str | None:
    """Why this run.json can't be read, as what follows its name in a message; None where it can."""
    schema = values.get("schema", SCHEMA)
    if schema == SCHEMA:
        return None
    return f"has schema {schema!r}, and this version of Dyno reads {SCHEMA}: install a newer one"


class PromptSetJson(TypedDict, total=False):
    """The prompts that were asked. An import may know their number alone."""

    name: str | None
    source: str | None
    license: str | None
    count: int
    description: str | None
    revision: str | None
    sha256: str


class EndpointJson(TypedDict, total=False):
    """An endpoint as the proxy described it. An import knows its model alone."""

    model: str | None
    url: str
    provider: str | None
    hardware: str | None
    price: Mapping[str, float] | None
    power_w: float | None
    simulated: bool | None


class VersionsJson(TypedDict):
    """The programs that took part."""

    dyno: str
    proxy: str
    python: str
    aiohttp: str


class RunJson(TypedDict, total=False):
    """run.json as a whole. Times are RFC 3339 in UTC."""

    # Of every run
    schema: int
    run_id: str
    started_at: str
    finished_at: str | None
    interrupted: bool
    workload: str
    prompt_set: PromptSetJson
    parameters: Mapping[str, Any]
    method: str
    endpoints: Mapping[str, EndpointJson]
    # Of the driver's
    command: list[str]
    resumed_at: list[str]
    superseded: list[str]
    not_sent: Mapping[str, int]
    schedule: str
    seed: int | None
    loads: list[str]
    interleave: list[str]
    arrivals: str | None
    order: str
    proxy: str
    versions: VersionsJson
    # Of an import
    imported_from: str
    imported_kind: str
    imported_sha256: str
    definitions: list[str]
    published: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RunRecord:
    """run.json as it stands in the file, with its folder.

    The file may be older, or written by hand: a value that is missing or of another type is None or empty here.
    """

    run_id: str
    folder: Path
    values: Mapping[str, Any]  # a RunJson, unchecked

    @property
    def started_at(self) -> str | None:
        return _text(self.values.get("started_at"))

    @property
    def finished_at(self) -> str | None:
        return _text(self.values.get("finished_at"))

    @property
    def imported_from(self) -> str | None:
        return _text(self.values.get("imported_from"))

    @property
    def endpoints(self) -> Mapping[str, Mapping[str, Any]]:
        """By name, in the order in which they were named."""
        return _mapping(self.values.get("endpoints"))

    @property
    def published(self) -> Mapping[str, Mapping[str, Any]]:
        """An imported file's own statistics, by endpoint."""
        return _mapping(self.values.get("published"))

    @property
    def prompt_set(self) -> Mapping[str, Any]:
        return _mapping(self.values.get("prompt_set"))

    @property
    def parameters(self) -> Mapping[str, Any]:
        return _mapping(self.values.get("parameters"))

    @property
    def command(self) -> str | None:
        command = self.values.get("command")
        return " ".join(map(str, command)) if isinstance(command, list) else None

    @property
    def interrupted(self) -> bool:
        return bool(self.values.get("interrupted"))

    @property
    def superseded(self) -> list[str]:
        """Trace ids of requests that have no answer, and were asked again when the run was resumed."""
        found = self.values.get("superseded")
        return list(map(str, found)) if isinstance(found, list) else []

    @property
    def seed(self) -> str | None:
        seed = self.values.get("seed")
        return None if seed is None else str(seed)

    @property
    def workload(self) -> str | None:
        return _text(self.values.get("workload"))

    @property
    def order(self) -> str | None:
        return _text(self.values.get("order"))

    @property
    def method(self) -> str | None:
        return _text(self.values.get("method"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
