"""What a run's record says: `run.json` as the driver and `dyno import` write it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunRecord:
    """run.json as it stands, with its folder. Values that it lacks are None or empty."""

    run_id: str
    folder: Path
    values: Mapping[str, Any]

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

    def text(self, key: str) -> str | None:
        return _text(self.values.get(key))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
