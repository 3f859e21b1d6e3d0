"""Training logs of Cerebras' model zoo as rows of the table `training`. Pure: lines in, runs out.

    | Train Device=CSX, Step=50, Loss=7.67126, Rate=31.97 samples/sec, GlobalRate=31.97 samples/sec, …
    Processed 204800 training sample(s) in 7303.586917439 seconds.

A run ends with the line `Processed …`, or where another job trains, or where the steps begin again: a killed run, then
one that goes on from a checkpoint. Without `Processed …`, samples and total time are unknown. That line counts the
samples of its own run, so a restarted run's steps are counted from the step where it began.
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
_UNIT: Final = re.compile(r"Rate=[^\s,]+ (\w+)/s")
_CHECKPOINT: Final = re.compile(r"(?i)(?:load|restor|resum)\w*\b.*checkpoint_(\d+)")
_PROCESSED: Final = re.compile(r"Processed (\d+) (?:training )?sample\(s\) in ([0-9.]+) seconds")
_JOB: Final = re.compile(r"Job id: (wsjob-\w+)")
_DEVICES: Final = re.compile(r"Preparing to execute using (\d+) CSX")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Run = dict[str, Any]


class TrainingLog:
    """Call `read` with the lines; `runs()` then has the runs found.

    `broken` names the lines that couldn't be read; `notes` says what was left out.
    """

    def __init__(self, file_name: str) -> None:
        self.broken: list[str] = []
        self.notes: list[str] = []
        self._file_name = file_name
        self._runs: list[Run] = []
        self._run: Run = {}
        self._next: Run | None = None  # a job that began after steps; its first step shows that it trains
        self._steps: list[dict[str, Any]] = []
        self._last_us: int | None = None
        self._checkpoint: int | None = None

    def read(self, lines: Iterable[tuple[str, str, bool]]) -> None:
        """Read the whole log: its lines, each with its place in the file, and whether it has a line end."""
        for where, line, ended in lines:
            if not ended and (" | " in line or "Processed" in line) and not _PROCESSED.search(line):
                self.broken.append(f"{where}: it has no line end, so its last number may be cut off")
                continue
            self._read(where, line)
        self._end()

    def runs(self) -> list[Run]:
        return self._runs

    def _read(self, where: str, line: str) -> None:
        stamp_us = _stamp_us(line)
        known = self._run if self._next is None else self._next
        if stamp_us is not None:
            known.setdefault("started_at_us", stamp_us)
            if self._next is None:
                self._last_us = stamp_us
        if found := _JOB.search(line):
            if any(step["phase"] == "train" for step in self._steps):
                self._next = {"restarted": True}
                known = self._next
                if stamp_us is not None:
                    known["started_at_us"] = stamp_us
            known["job_id"] = found.group(1)
        elif found := _DEVICES.search(line):
            known["systems"] = int(found.group(1))
        elif found := _CHECKPOINT.search(line):
            if self._next is None and self._steps:
                self._checkpoint = int(found.group(1))  # of the run that begins next, if one does
            else:
                known["start_step"] = int(found.group(1))
        elif found := _PROGRESS.search(line):
            try:
                step = _step(found.group(1).lower(), found.group(2), stamp_us)
            except (KeyError, ValueError) as error:
                self.broken.append(f"{where}: its progress can't be read: {error}")
                return
            self._note_unit(found.group(2))
            self._begin_again(step, stamp_us)
            self._steps.append(step)
        elif found := _PROCESSED.search(line):
            if self._next is not None:
                self._go_on(self._next, stamp_us)
            total_s = _number(found.group(2).rstrip("."))
            self._run |= {"samples": int(found.group(1)), "total_s": total_s}
            self._end()

    def _begin_again(self, step: dict[str, Any], stamp_us: int | None) -> None:
        """Begin a run where a step of training shows that another one trains."""
        if step["phase"] != "train":
            return
        if self._next is not None:
            self._go_on(self._next, stamp_us)
            return
        last = next((each for each in reversed(self._steps) if each["phase"] == "train"), None)
        if last is not None and step["step"] <= last["step"]:
            self._go_on({"restarted": True}, stamp_us)

    def _go_on(self, run: Run, stamp_us: int | None) -> None:
        checkpoint = self._checkpoint
        last_us = self._steps[-1]["logged_at_us"] if self._steps else None
        self._last_us = last_us if last_us is not None else self._last_us
        self._end()
        self._run = run
        self._last_us = stamp_us
        if checkpoint is not None:
            run.setdefault("start_step", checkpoint)
        if stamp_us is not None:
            run.setdefault("started_at_us", stamp_us)

    def _note_unit(self, fields: str) -> None:
        unit = _UNIT.search(fields)
        if unit is not None and unit.group(1) != "samples":
            note = f"its rates are in {unit.group(1)} per second, not in samples: they are left empty"
            self.notes += [] if note in self.notes else [note]

    def _end(self) -> None:
        if self._steps or "samples" in self._run:
            # The id depends on the run's beginning alone, so that a log which has grown since is the same run.
            first = self._steps[0] if self._steps else self._run
            said = f"{self._run.get('job_id')}/{self._run.get('started_at_us')}/{first}"
            start_step = self._run.get("start_step", _start_step(self._steps, self._run))
            self._runs.append(
                {
                    "training_id": hashlib.sha256(said.encode()).hexdigest()[:16],
                    "imported_from": self._file_name,
                    **self._run,
                    "start_step": start_step,
                    "finished_at_us": self._last_us,
                    "steps": self._steps,
                }
            )
        self._run, self._steps, self._last_us, self._next, self._checkpoint = {}, [], None, None, None


def _start_step(steps: list[dict[str, Any]], run: Run) -> int | None:
    """The step after which the run began: one interval of its lines before its first. None if nothing shows it."""
    trained = [step["step"] for step in steps if step["phase"] == "train"]
    if len(trained) > 1:
        return int(max(0, trained[0] - (trained[1] - trained[0])))
    return None if run.get("restarted") else 0


def _step(phase: str, fields: str, logged_at_us: int | None) -> dict[str, Any]:
    said = dict(_FIELD.findall(fields))
    unit = _UNIT.search(fields)
    in_samples = unit is None or unit.group(1) == "samples"  # older logs name no unit
    step = said.get("GlobalStep") or said.get("Step") or said["Batch"]
    return {
        "phase": phase,
        "logged_at_us": logged_at_us,
        "device": said["Device"],
        "step": int(step),
        "loss": _number(said.get("Loss")),
        "rate": _number(said.get("Rate")) if in_samples else None,
        "global_rate": _number(said.get("GlobalRate")) if in_samples else None,
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
