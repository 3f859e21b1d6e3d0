"""A run's progress: a bar on a terminal, elsewhere one line per request. Both go to stderr; stdout is for results."""

from types import TracebackType
from typing import Protocol, Self, TextIO

from .client import Answer
from .load.schedule import Turn


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
    """A bar that shows the endpoint, how many of the requests are done, the last latency, the failures so far."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.fields[endpoint]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[last]}", markup=False),
            TextColumn("{task.fields[failures]}", style="red"),
            console=Console(stderr=True),
        )
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
        self._bar.update(self._task, endpoint=turn.endpoint + (" (warm-up)" if turn.warmup else ""))

    def answered(self, answer: Answer) -> None:
        if answer.error is not None:
            self._failed += 1
        self._bar.update(
            self._task,
            advance=1,
            last=f"{answer.turn.endpoint} {_result(answer)}"[:60],
            failures=f"{self._failed} failed" if self._failed else "",
        )


def _result(answer: Answer) -> str:
    if answer.error is not None:
        return f"failed: {answer.error}"
    return f"{answer.latency_s:.3f} s"
