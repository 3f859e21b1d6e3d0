"""Keeps what a run measures: each answer as it comes, and run.json and answers.parquet at the end.

    request ─▶ `sent` ─▶ answer ─▶ a line of answers.jsonl   …   end ─▶ answers.parquet, run.json

answers.jsonl is only appended to. What is in it outlives a kill -9 and a full disk, and `--resume` goes on from there.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from . import run_record
from .client import Answer
from .errors import WrongUseError
from .file_modes import access_in
from .load.remaining import Request, request_of
from .load.schedule import Turn
from .prompts.prompt_set import PromptSet
from .run_json import DriverJson, RunJson, rfc3339
from .run_record import Row, answer_row

JOURNAL: Final = "answers.jsonl"


class NotKeptError(Exception):
    """An answer, or that a request is sent, can't be written."""


class Journal:
    """answers.jsonl, open for one process. A line is an answer's row, or says of a request that it is sent."""

    def __init__(self, path: Path) -> None:
        """Open it, and read what is in it. Raises WrongUseError if another process has it open, or if that fails."""
        self.path = path
        self.rows: list[Row] = []
        self.unanswered: dict[str, Request] = {}  # trace id → a request that was sent
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            self._lock()
            self._read()
        except OSError as error:
            raise WrongUseError(f"{path}: can't be opened: {error.strerror or error}; correct that") from error

    def close(self) -> None:
        os.close(self._fd)

    def append(self, document: Row) -> None:
        """Append one line, whole or not at all. Raises NotKeptError."""
        line = memoryview((json.dumps(document, ensure_ascii=False) + "\n").encode())
        before = os.fstat(self._fd).st_size
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, before)  # half a line
            raise NotKeptError(f"{self.path}: can't be written: {error.strerror or error}") from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise WrongUseError(
                    f"run {self.path.parent.name} goes on at this moment, in another process; wait for its end"
                ) from error
            # Some network file systems have no locks. There the user has to know.

    def _read(self) -> None:
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.ftruncate(self._fd, end)  # a line that a full disk or a kill cut off
        for line in content[:end].splitlines():
            try:
                row = json.loads(line)
                sent = row.get("sent")
                request = Request(row["endpoint"], row["prompt_id"], row["repeat"])
            except (ValueError, KeyError, AttributeError):
                continue  # a crash of the whole machine may leave anything
            if sent is not None:
                self.unanswered[sent] = request
            else:
                self.unanswered.pop(row.get("trace_id"), None)
                self.rows.append({name: row.get(name) for name in run_record.ANSWER_COLUMNS})


class Recording:
    """A run's files while it goes on. `answers` are those of this process, `earlier` those of processes before."""

    def __init__(self, folder: Path, record: RunJson, journal: Journal) -> None:
        self.folder = folder
        self.answers: list[Answer] = []
        self.earlier = journal.rows
        self.done = {
            Request(row["endpoint"], row["prompt_id"], row["repeat"]) for row in journal.rows if not row["warmup"]
        }
        self._record = record
        self._journal = journal
        self._behind: list[Row] = []  # what couldn't be written

    @classmethod
    def begin(cls, folder: Path, record: RunJson, prompt_set: PromptSet) -> "Recording":
        """Of a new run, in its new folder. Raises WrongUseError if it can't be written."""
        run_record.write_run(folder, record)
        run_record.write_prompts(folder, prompt_set.prompts)
        path = folder / JOURNAL
        try:
            access_in(folder).write(path, b"")
        except OSError as error:
            raise WrongUseError(f"{path}: can't be written: {error.strerror or error}; correct that") from error
        return cls(folder, record, Journal(path))

    @classmethod
    def resume(cls, folder: Path, record: RunJson) -> "Recording":
        """Of a run that has begun. Raises WrongUseError if another process goes on with it."""
        return cls(folder, record, Journal(folder / JOURNAL))

    def goes_on(self) -> None:
        """Say in run.json that the run is resumed, and which requests without an answer are asked again."""
        self._record["resumed_at"].append(rfc3339(datetime.now(UTC)))
        self._supersede()
        self._record["finished_at"] = None
        run_record.write_run(self.folder, self._record)

    def sent(self, turn: Turn, trace_id: str) -> None:
        """A request is about to be sent. Raises NotKeptError: then it must not be."""
        if not turn.warmup:
            self._journal.append({"sent": trace_id, **request_of(turn)._asdict()})

    def answered(self, answer: Answer) -> None:
        """Keep an answer. Raises NotKeptError; it is tried again at the end."""
        self.answers.append(answer)
        if not answer.turn.warmup:
            self.done.add(request_of(answer.turn))
        row = answer_row(answer)
        try:
            self._journal.append(row)
        except NotKeptError:
            self._behind.append(row)
            raise

    def finish(
        self,
        simulated: dict[str, bool | None],
        not_sent: dict[str, int],
        course: Mapping[str, Any] | None,
        driver: DriverJson,
        *,
        interrupted: bool,
    ) -> str | None:
        """Write what is known at the end. Returns why something couldn't be written; None if all is."""
        for name, entry in self._record["endpoints"].items():
            entry["simulated"] = simulated[name] if simulated[name] is not None else entry["simulated"]
        self._record["finished_at"] = rfc3339(datetime.now(UTC))
        self._record["interrupted"] = interrupted
        self._record["not_sent"] = not_sent
        self._record["course"] = course
        self._record["driver"] = driver
        try:
            while self._behind:
                self._journal.append(self._behind[0])
                del self._behind[0]
            run_record.write_answers(self.folder, [*self.earlier, *map(answer_row, self.answers)])
            run_record.write_run(self.folder, self._record)
        except (NotKeptError, WrongUseError) as error:
            return str(error)
        finally:
            self._journal.close()
        if not interrupted:
            with contextlib.suppress(OSError):
                self._journal.path.unlink()  # answers.parquet holds all of it
        return None

    def _supersede(self) -> None:
        known = set(self._record["superseded"])
        missing = [trace for trace, request in self._journal.unanswered.items() if request not in self.done]
        self._record["superseded"] += [trace for trace in missing if trace not in known]


def read_record(folder: Path) -> Any:
    """run.json as it stands. Raises WrongUseError."""
    path = folder / "run.json"
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WrongUseError(f"--resume {folder.name}: {path} can't be read: {error}; name another run") from error
