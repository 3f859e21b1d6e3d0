"""What a process has open can be read after its end, whenever that comes."""

import mmap
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.exchange.record import Record
from dyno_proxy.outcomes import OUTCOMES
from dyno_proxy.telemetry.left_behind import _WRITER, LeftBehind, read_left, take_all
from dyno_proxy.telemetry.open_requests import SIZE, Kept, OpenRequests, memory_path
from rigs.records import record

WRITER = f"host_{os.getpid()}_20261127T101112131415Z"
NOW_US = 1_800_000_000_000_000


def read(content: bytes, folder: Path = Path("/nonexistent")) -> LeftBehind:
    left = read_left(content, _WRITER.fullmatch(WRITER), folder, WRITER)
    assert left is not None
    return left


def begun(number: int, endpoint: str | None = "e", outcome: str = "ok") -> Record:
    return record(span_id=number, trace_id=number, endpoint=endpoint, outcome=outcome, started_at_unix_us=NOW_US)


STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "end", "note"]), st.sampled_from(["a", "b", None]), st.sampled_from(OUTCOMES)),
    max_size=60,
)


@given(STEPS)
def test_whatever_happened_before(steps: list[tuple[str, str | None, str]]) -> None:
    """For each endpoint: started = ended + lost. Each one lost is one that was open. One that was open when the thread
    looked last is known by its ids."""
    memory = mmap.mmap(-1, SIZE)
    requests = OpenRequests(memory)
    running: list[Record] = []
    noted: set[int] = set()
    started, ended = Counter[str](), Counter[tuple[str, str]]()
    for number, (step, endpoint, outcome) in enumerate(steps, start=1):
        if step == "start":
            running.append(begun(number, endpoint))
            requests.started(running[-1])
            started[endpoint or ""] += 1
        elif step == "note":
            requests.note(NOW_US + 5)
            noted = {each.span_id for each in running}
        elif running:
            one = running.pop(number % len(running))
            requests.ended(begun(one.span_id, one.endpoint, outcome))
            ended[one.endpoint or "", outcome] += 1
    left = read(bytes(memory))
    assert left.started == started
    assert left.ended == ended
    assert Counter(each.endpoint for each in left.lost) == Counter(each.endpoint for each in running)
    known = {each.span_id for each in left.lost} & {each.span_id for each in running}
    assert known == noted & {each.span_id for each in running}
    assert {each.outcome for each in left.lost} <= {"lost"}
    assert left.unwritten == ended.total()


def test_more_than_there_are_slots_and_names_for() -> None:
    """Beyond 4,096 open requests each is still counted; beyond a thousand endpoints nothing is wrong, only unknown."""
    memory = mmap.mmap(-1, SIZE)
    requests = OpenRequests(memory)
    for number in range(1, 5001):
        requests.started(begun(number))
    requests.note(NOW_US)
    for number in range(5001, 7001):
        requests.started(begun(number, f"e{number}"))
        requests.ended(begun(number, f"e{number}"))
    left = read(bytes(memory))
    assert len(left.lost) == 5000 == left.started["e"]
    assert left.ended[("e5001", "ok")] == 1


def test_what_was_written_is_not_missing(tmp_path: Path) -> None:
    """Ended requests are missing that were neither written nor dropped, also those of a batch in the middle."""
    memory = mmap.mmap(-1, SIZE)
    requests = OpenRequests(memory)
    for number in range(1, 11):
        requests.started(begun(number))
        requests.ended(begun(number))
    requests.writing(1, 4)
    requests.writing(5, 1)
    requests.written(4)
    requests.lost(1)
    requests.given_up(1)
    assert read(bytes(memory)).unwritten == 5
    requests.writing(6, 5)
    (tmp_path / f"{WRITER}-000000000001.jsonl").write_bytes(
        b"".join(b'{"v":1,"seq":%d,"crc32":1}\n' % seq for seq in range(1, 9)) + b'{"v":1,"seq":9,"cr'
    )
    assert read(bytes(memory), tmp_path).unwritten == 2


# A process with one request that was open at the thread's last look, and one that began later. It ends as by a kill.
DYING = """
import os, sys
from pathlib import Path
from dyno_proxy.telemetry.open_requests import Kept
from proxy.test_left_behind import begun
kept = Kept(Path(sys.argv[1]), sys.argv[2])
kept.requests.started(begun(1))
kept.save()
kept.requests.started(begun(2))
print("open", flush=True)
sys.stdin.read()
os._exit(9)
"""


@pytest.mark.parametrize("memory_is_lost", [False, True])
def test_it_is_taken_once_and_not_from_the_living(tmp_path: Path, memory_is_lost: bool) -> None:
    """What a living process has open is its own. After its end one taker gets it: from memory, or from the copy if the
    memory was another container's or another boot's."""
    command: list[str | Path] = [sys.executable, "-c", DYING, tmp_path, WRITER]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as living:
        assert living.stdout is not None
        assert living.stdout.readline() == b"open\n"
        assert list(take_all(tmp_path)) == []
    if memory_is_lost:
        memory_path(WRITER).unlink()
    (left,) = take_all(tmp_path)
    assert (left.pid, len(left.lost)) == (os.getpid(), 1 if memory_is_lost else 2)
    assert left.lost[0].trace_id == 1
    assert list(take_all(tmp_path)) == []
    assert not memory_path(WRITER).exists()
    assert list(tmp_path.iterdir()) == []


def test_an_orderly_end_leaves_nothing(tmp_path: Path) -> None:
    """After the end no file is left, in the spans folder and in memory."""
    kept = Kept(tmp_path, WRITER)
    kept.save()
    kept.remove()
    assert list(tmp_path.iterdir()) == []
    assert not memory_path(WRITER).exists()
