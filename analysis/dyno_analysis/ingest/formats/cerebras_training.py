"""Training logs of Cerebras' model zoo as rows of the table `training`. Pure: lines in, runs out.

    | Train Device=CSX, Step=50, Loss=7.67126, Rate=31.97 samples/sec, GlobalRate=31.97 samples/sec, …
    Processed 204800 training sample(s) in 7303.586917439 seconds.

A run ends with the line `Processed …`; a log may have several runs. Without that line, samples and total time are
unknown.
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

# A moment at a line's start. It has no zone, and is read as UTC.
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:[,.](\d{1,6}))?")
_PROGRESS: Final = re.compile(r"\|\s*(Train|Eval)\s+(Device=.*)")
_FIELD: Final = re.compile(r"(\w+)=([^\s,]+)")
_PROCESSED: Final = re.compile(r"Processed (\d+) (?:training )?sample\(s\) in ([0-9.]+) seconds")
_JOB: Final = re.compile(r"Job id: (wsjob-\w+)")
_DEVICES: Final = re.compile(r"Preparing to execute using (\d+) CSX")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Run = dict[str, Any]


class TrainingLog:
    """Call `read` with the lines; `runs()` then has the runs found. `broken` names the lines that couldn't be read."""

    def __init__(self, file_name: str) -> None:
        self.broken: list[str] = []
        self._file_name = file_name
        self._runs: list[Run] = []
        self._run: Run = {}
        self._steps: list[dict[str, Any]] = []
        self._last_us: int | None = None

    def read(self, lines: Iterable[tuple[str, str]]) -> None:
        """Read the whole log: its lines, each with its place in the file."""
        for where, line in lines:
            self._read(where, line)
        self._end()

    def runs(self) -> list[Run]:
        return self._runs

    def _read(self, where: str, line: str) -> None:
        stamp_us = _stamp_us(line)
        if stamp_us is not None:
            self._run.setdefault("started_at_us", stamp_us)
            self._last_us = stamp_us
        if found := _JOB.search(line):
            self._run["job_id"] = found.group(1)
        elif found := _DEVICES.search(line):
            self._run["systems"] = int(found.group(1))
        elif found := _PROGRESS.search(line):
            try:
                self._steps.append(_step(found.group(1).lower(), found.group(2), stamp_us))
            except (KeyError, ValueError) as error:
                self.broken.append(f"{where}: its progress can't be read: {error}")
        elif found := _PROCESSED.search(line):
            self._run |= {"samples": int(found.group(1)), "total_s": float(found.group(2))}
            self._end()

    def _end(self) -> None:
        if self._steps or "samples" in self._run:
            # The id depends on the run's beginning alone, so that a log which has grown since is the same run.
            first = self._steps[0] if self._steps else self._run
            said = f"{self._run.get('job_id')}/{self._run.get('started_at_us')}/{first}"
            self._runs.append(
                {
                    "training_id": hashlib.sha256(said.encode()).hexdigest()[:16],
                    "imported_from": self._file_name,
                    **self._run,
                    "finished_at_us": self._last_us,
                    "steps": self._steps,
                }
            )
        self._run, self._steps, self._last_us = {}, [], None


def _step(phase: str, fields: str, logged_at_us: int | None) -> dict[str, Any]:
    said = dict(_FIELD.findall(fields))
    step = said.get("GlobalStep") or said.get("Step") or said["Batch"]
    return {
        "phase": phase,
        "logged_at_us": logged_at_us,
        "device": said["Device"],
        "step": int(step),
        "loss": _number(said.get("Loss")),
        "rate": _number(said.get("Rate")),
        "global_rate": _number(said.get("GlobalRate")),
    }


def _number(text: str | None) -> float | None:
    """The number; None if it is missing, or is nan or inf (an overflowed loss), which JSON can't hold."""
    if text is None:
        return None
    value = float(text)
    return value if abs(value) < float("inf") else None


def _stamp_us(line: str) -> int | None:
    found = _STAMP.match(line)
    if found is None:
        return None
    moment = datetime.fromisoformat(found.group(1)).replace(tzinfo=UTC) - _EPOCH
    fraction_us = int((found.group(2) or "0").ljust(6, "0"))
    return moment // timedelta(microseconds=1) + fraction_us
