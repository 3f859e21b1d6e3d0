"""A run's progress: a bar on a terminal, elsewhere one line per request. Both go to stderr; stdout is for results.

A terminal is written lines of its own width; into a pipe they are never broken.
"""

import shutil
import textwrap
from types import TracebackType
from typing import Protocol, Self, TextIO

from .client import Answer
from .errors import one_line
from .load.schedule import Turn

_BAR_COLUMNS = 16


def fitted(text: str, stream: TextIO) -> str:
    """The text as lines of the terminal's width (or COLUMNS); in a pipe, as it is. A path stays whole."""
    if not stream.isatty():
        return text
    width = max(shutil.get_terminal_size((80, 24)).columns, 20)
    lines = textwrap.wrap(
        text,
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
    return "\n".join(lines)


class Progress(Protocol):
    """A context manager that is told of each request as it is sent, and again as its answer has ended."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def sending(self, turn: Turn) -> None: ...
    def answered(self, answer: Answer) -> None: ...


def progress_on(stream: TextIO, total: int) -> Progress:
    """The progress of `total` requests: a bar if `stream` is a terminal, lines on it if not."""
    return Bar(total) if stream.isatty() else Lines(stream, total)


class Lines:
    """One line per answer: `[3/22] sophia quantum-mechanics-1: 1.621 s`"""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream, self._total, self._done = stream, total, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def sending(self, turn: Turn) -> None:
        pass

    def answered(self, answer: Answer) -> None:
        self._done += 1
        turn = answer.turn
        print(
            f"[{self._done}/{self._total}] {turn.endpoint} {turn.prompt_id}: {_result(answer)}",
            file=self._stream,
            flush=True,
        )


class Bar:
    """A bar that shows the endpoint, how many of the requests are done, the last latency, the failures so far.

    It is one line of the terminal: names and errors that have no room end with an ellipsis.
    """

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.fields[endpoint]}", markup=False),
            BarColumn(_BAR_COLUMNS),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[last]}", markup=False),
            TextColumn("{task.fields[failures]}", style="red"),
            console=console,
        )
        counts = 2 * len(str(total)) + 1
        failures = len(f"{total} failed")
        room = console.width - _BAR_COLUMNS - counts - len("0:00:00") - failures - 6
        self._of_endpoint = max(room * 2 // 5, 8)
        self._of_last = max(room - self._of_endpoint, 12)
        self._task = self._bar.add_task("", total=total, endpoint="", last="", failures="")
        self._failed = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def sending(self, turn: Turn) -> None:
        self._bar.update(self._task, endpoint=named(turn.endpoint, " (warm-up)" * turn.warmup, self._of_endpoint))

    def answered(self, answer: Answer) -> None:
        if answer.error is not None:
            self._failed += 1
        self._bar.update(
            self._task,
            advance=1,
            last=named(answer.turn.endpoint, f" {_result(answer)}", self._of_last),
            failures=f"{self._failed} failed" if self._failed else "",
        )


def named(name: str, about: str, columns: int) -> str:
    """The name and what is said about it, in at most `columns`; what is cut ends with an ellipsis, the name first."""
    about = one_line(about)
    about = f" {about}" if about else ""
    least = min(len(name), 6)
    if len(about) > columns - least:
        about = about[: max(columns - least - 1, 0)] + "…"
    room = columns - len(about)
    return one_line(name, max(room, 1)) + about


def _result(answer: Answer) -> str:
    if answer.error is not None:
        return f"failed: {answer.error}"
    return f"{answer.latency_s:.3f} s"
