"""Ctrl-C and SIGTERM end a command at once, with one line, and nothing half done stays behind.

    signal ──▶ C handler ──byte──▶ a thread ──▶ interrupts DuckDB's connections ──▶ waits 0.1 s, then ends the process
                    └──────────────▶ main thread, once it runs Python: `Stopped` unwinds it, and `finally` cleans up

Python runs a signal's handler between two steps of the main thread, and DuckDB keeps that thread until its statement
ends. So a thread of ours hears of the signal too, by `signal.set_wakeup_fd`. Whatever the main thread does, the process
ends soon: temporary files and folders that the unwinding didn't reach are removed by their names. Each writer has them
replaced by a rename only when they are whole, so an end at any moment is safe.

The same thread ends the process when its time is over (`--timeout`). At a prompt, Ctrl-C ends a statement and not the
process: `prompting`, `one_statement`.
"""

import contextlib
import itertools
import os
import secrets
import select
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Protocol, TypeVar
from weakref import WeakSet

# A part of temporary files' names, so that no two processes use the same name. The process id alone isn't enough:
# several containers may share a folder, and the first process of each has number 1.
OURS: Final = f"{os.getpid()}_{secrets.token_hex(4)}"

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STUCK_S: Final = 0.05  # for the main thread to run Python again
_UNWIND_S: Final = 0.12  # for it to end the block
_UNDISTURBED_S: Final = 10.0
_AGAIN_S: Final = 0.01  # a connection may begin its next statement meanwhile
_EXITS: Final = (contextlib.__file__, __file__)
# The exit code of timeout(1), if the time is over.
TIMED_OUT: Final = 124
# So long a statement has to end after Ctrl-C at a prompt. A second Ctrl-C after that ends the process.
_STATEMENT_S: Final = 0.5


class Stopped(KeyboardInterrupt):
    """A signal has told the command to end."""


@dataclass(frozen=True)
class _Cause:
    """Why the command ends: the rest of its last line, and its exit code."""

    says: str
    code: int


def _signalled(number: int) -> _Cause:
    how = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return _Cause(f"stopped by {how}", 128 + number)


class _Connection(Protocol):
    def interrupt(self) -> None: ...


Opened = TypeVar("Opened", bound=_Connection)

_connections: Final[WeakSet[_Connection]] = WeakSet()
_temporary: Final[set[Path]] = set()
_folders: Final[set[Path]] = set()


def opened(connection: Opened) -> Opened:
    """The same connection to DuckDB. A signal interrupts its statement."""
    _connections.add(connection)
    return connection


def temporary(path: Path) -> Path:
    """The same path, of a file or folder that is removed if a signal ends the process."""
    _temporary.add(path)
    return path


def kept(path: Path) -> None:
    """This temporary path is gone, or has become something that stays."""
    _temporary.discard(path)


def works_in(folder: Path) -> None:
    """Files and folders there whose hidden names have OURS in them are removed if a signal ends the process."""
    _folders.add(folder)


@contextmanager
def ending(program: str, timeout_s: float | None = None) -> Iterator[None]:
    """A command's block. A signal ends it, and the process with exit code 128 + its number; `program` begins the line.

    So does the end of `timeout_s`, with exit code TIMED_OUT. In another thread than the main one it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(program, timeout_s)
    try:
        yield
    except BaseException:
        if watch.cause is None:
            raise
    finally:
        try:
            watch.end()
        except Stopped:  # raised once, wherever the main thread is, and this is a place too
            watch.end()


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is done here is done whole: a signal is heeded at its end."""
    watch = _watches[-1] if _watches else None
    if watch is None:
        yield
        return
    watch.undisturbed += 1
    try:
        yield
    finally:
        watch.undisturbed -= 1
    watch.heed()


@contextmanager
def left_to_child() -> Iterator[None]:
    """Ctrl-C is for a child process that shares our terminal: it does with it what it likes."""
    for watch in _watches:
        watch.ignored.add(signal.SIGINT)
    try:
        yield
    finally:
        for watch in _watches:
            watch.ignored.discard(signal.SIGINT)


@contextmanager
def prompting() -> Iterator[None]:
    """Until the block ends, Ctrl-C is a KeyboardInterrupt in the main thread and doesn't end the command."""
    for watch in _watches:
        watch.prompting += 1
    try:
        yield
    finally:
        for watch in _watches:
            watch.prompting -= 1


@contextmanager
def one_statement() -> Iterator[None]:
    """Within `prompting`: Ctrl-C interrupts what DuckDB does for this block."""
    for watch in _watches:
        watch.statement = next(_statements)
    try:
        yield
    finally:
        for watch in _watches:
            watch.statement = None


class _Watch:
    """Our signals' handlers while a command runs."""

    def __init__(self, program: str, timeout_s: float | None) -> None:
        self.cause: _Cause | None = None  # what ends the command
        self.undisturbed = 0
        self.ignored: set[int] = set()
        self.prompting = 0
        self.statement: int | None = None  # the number of the one that runs at a prompt
        self._interrupted: tuple[int | None, float] = (None, 0.0)  # such a number, and when
        self._timeout_s = timeout_s
        self._ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._program = program
        self._raised = False
        self._finishing = threading.Lock()
        self._over = threading.Event()
        # A signal that is ignored stays so: nohup ignores SIGHUP.
        self._former = {each: handler for each in _SIGNALS if (handler := signal.getsignal(each)) != signal.SIG_IGN}
        heard, tell = os.pipe()
        os.set_blocking(tell, False)
        self._tell = tell
        self._wakeup_before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, args=(heard,), name="dyno-signals", daemon=True)
        self._thread.start()
        _watches.append(self)
        for each in self._former:
            signal.signal(each, self._handle)

    def end(self) -> None:
        """The block has ended. If that was a signal's doing, or came too late for one, so does the process."""
        if self.cause is not None:
            self._raised = True
            self._finish()
        for each, handler in self._former.items():
            signal.signal(each, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        _watches.remove(self)
        self._over.set()
        os.close(self._tell)
        self._thread.join()

    def heed(self) -> None:
        """Raise Stopped if a signal has come, and nothing may be finished first. Only once: then it unwinds."""
        if self.cause is not None and not self.undisturbed and not self._raised:
            self._raised = True
            raise Stopped

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number in self.ignored:
            return
        # The main thread may be on its way out of a `with` already, by DuckDB's own error. What is raised there skips
        # the rest of that `__exit__`, ours too. If it isn't on its way, the thread ends the process.
        may_raise = frame is None or frame.f_code.co_filename not in _EXITS
        if number == signal.SIGINT and self.prompting and self.cause is None:
            if may_raise:
                raise KeyboardInterrupt
            return
        self.cause = self.cause or _signalled(number)
        if may_raise:
            self.heed()

    def _listen(self, heard: int) -> None:
        """The thread: wait for a signal of ours, or the end of our time, then see to it that the process ends."""
        with os.fdopen(heard, "rb", buffering=0) as signals:
            while True:
                left_s = None if self._ends_s is None else max(0.0, self._ends_s - time.monotonic())
                if not select.select([signals], [], [], left_s)[0]:
                    self._ends_s = None
                    self.cause = self.cause or _Cause(f"stopped after {self._timeout_s:g} s (--timeout)", TIMED_OUT)
                    self._stop()
                    continue
                numbers = signals.read(16)
                if not numbers:
                    return
                for number in [each for each in numbers if each in self._former and each not in self.ignored]:
                    if number == signal.SIGINT and self.prompting and not self._is_stuck():
                        self._interrupt_statement()
                        continue
                    self.cause = self.cause or _signalled(number)
                    self._stop()
                    break

    def _is_stuck(self) -> bool:
        """Whether the statement at the prompt was interrupted a while ago, and goes on all the same."""
        number, since_s = self._interrupted
        return number is not None and number == self.statement and time.monotonic() - since_s > _STATEMENT_S

    def _interrupt_statement(self) -> None:
        number, began_s = self.statement, time.monotonic()
        if number is None:
            return
        if self._interrupted[0] != number:
            self._interrupted = (number, began_s)
        while self.statement == number and time.monotonic() - began_s < _STATEMENT_S:
            _interrupt_all()
            self._over.wait(_AGAIN_S)

    def _stop(self) -> None:
        began_s = time.monotonic()
        while not self._over.is_set():
            if time.monotonic() - began_s > self._patience_s():
                self._finish()
            if not self.undisturbed:
                _interrupt_all()
            self._over.wait(_AGAIN_S)

    def _patience_s(self) -> float:
        if self.undisturbed:
            return _UNDISTURBED_S
        return _UNWIND_S if self._raised else _STUCK_S

    def _finish(self) -> None:
        """End the process. What is still buffered for standard output has no reader that waits for it."""
        with self._finishing:
            cause = self.cause or _signalled(signal.SIGTERM)
            _clear()
            # Not through sys.stderr, whose lock the main thread may hold.
            with contextlib.suppress(OSError):
                os.write(2, f"{self._program}: {cause.says}\n".encode())
            os._exit(cause.code)


_watches: Final[list[_Watch]] = []
_statements: Final = itertools.count(1)


def _interrupt_all() -> None:
    try:
        connections = list(_connections)
    except RuntimeError:  # the main thread opens another one at this moment; we come again
        return
    for connection in connections:
        with contextlib.suppress(Exception):  # it was closed meanwhile, in DuckDB's own words
            connection.interrupt()


def _clear() -> None:
    found = list(_temporary)
    for folder in list(_folders):
        with contextlib.suppress(OSError):
            found += [path for path in folder.iterdir() if path.name.startswith(".") and OURS in path.name]
    for path in found:
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
