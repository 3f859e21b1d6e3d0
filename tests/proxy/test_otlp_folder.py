"""export/: a folder that changes while rows wait: journals become Parquet, are emptied or deleted; ranges and state."""

import stat
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.export.journals import Parquet, began_us, parquet_of, stored_of
from dyno_proxy.export.ranges import add, contains
from dyno_proxy.export.state import Item, State
from dyno_proxy.file_modes import PRIVATE
from rigs.dyno_command import dyno
from rigs.otlp_export import ExportRig, Writer, ids, numbered
from rigs.otlp_receiver import OtlpReceiver, Reply

pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


def journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("*Z-*.jsonl"))


def compact(folder: Path) -> None:
    done = dyno("compact", "--spans", folder)
    assert done.returncode == 0, done


def test_rows_that_became_parquet_meanwhile(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """The first journals are converted and removed while the endpoint is away, in the middle of what was read. Later
    rows of the writer wait until those in Parquet are sent: all arrive, in their order.
    """
    writer, rig = Writer(tmp_path, journal_bytes=4_000), ExportRig(tmp_path)
    writer.put(*numbered(4))
    rig.send()
    receiver.behave = lambda _spans: Reply(503)
    writer.put(*numbered(20, 5))
    rig.send()
    writer.journal.shutdown()
    compact(tmp_path)
    converted = [path for path in journals(tmp_path) if not path.stat().st_mode & stat.S_IWUSR]
    assert len(converted) > 3
    for journal in converted:
        journal.unlink()
    other = Writer(tmp_path)
    other.put(*numbered(3, 100))
    receiver.behave = lambda _spans: Reply()
    again = ExportRig(tmp_path).send()
    taken = ids(receiver.taken)
    assert [number for number in taken if number < 100] == list(range(1, 25))
    assert [number for number in taken if number >= 100] == [100, 101, 102]
    assert (again.figures.sent, again.figures.dropped) == (27, {})
    rig.send()  # the one from before knows it too
    assert len(receiver.taken) == 27


def test_an_emptied_journal_hides_nothing(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """A journal is emptied after it was listed, and before it was read: its rows are in Parquet."""
    writer, rig = Writer(tmp_path, journal_bytes=4_000), ExportRig(tmp_path)
    writer.put(*numbered(2))
    rig.send()
    writer.put(*numbered(12, 3))
    writer.journal.shutdown()
    rig.exporter._journals.look(now=True)  # it has listed them
    copies = {path.name: path.read_bytes() for path in journals(tmp_path)}
    compact(tmp_path)
    first, *later = copies
    (tmp_path / first).write_bytes(b'{"v":1,"seq":1,"name":"emptied","crc32":1}\n')
    for name in later:
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).write_bytes(copies[name])
    rig.send()
    assert ids(receiver.taken) == list(range(1, 15))
    assert rig.figures.dropped == {}


def test_rows_that_were_deleted_are_counted(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Somebody deletes a journal whose rows weren't sent: their numbers tell how many that were."""
    writer, rig = Writer(tmp_path, journal_bytes=1), ExportRig(tmp_path)
    writer.put(*numbered(2))
    rig.send()
    writer.put(*numbered(3, 3))
    for journal in journals(tmp_path)[2:]:
        journal.unlink()
    writer.put(*numbered(2, 6))
    rig.send()
    assert ids(receiver.taken) == [1, 2, 6, 7]
    assert rig.figures.dropped == {"not_stored": 3}


def test_a_folder_that_is_replaced(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """`mv spans archive`: the export goes on in the new folder, and remembers what it has sent."""
    spans = tmp_path / "spans"
    writer, rig = Writer(spans), ExportRig(spans)
    writer.put(*numbered(3))
    rig.send()
    spans.rename(tmp_path / "archive")
    writer.put(*numbered(3, 4))
    rig.send()
    assert ids(receiver.taken) == [1, 2, 3, 4, 5, 6]
    assert (rig.figures.sent, rig.figures.dropped) == (6, {})


@given(st.lists(st.integers(1, 40), max_size=60))
def test_ranges_are_sets(numbers: list[int]) -> None:
    """Whatever is added, in whatever order: the ranges hold it, in order and apart from each other."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        add(ranges, number)
    assert [number for number in range(45) if contains(ranges, number)] == sorted({*numbers})
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


def test_the_state_outlives_its_process(tmp_path: Path) -> None:
    """What one exporter has saved another one knows, also what was sent by hand, and what lies in between."""
    state = State(tmp_path, 7, PRIVATE)
    for seq in (1, 2, 3, 9):
        item = Item("w", seq, 0)
        state.looked_at(item, 0)
        state.done(item)
    state.done(Item("by_hand", 40, 0))
    state.save()
    other = State(tmp_path, 99, PRIVATE)
    other.reload()
    assert other.figures.from_us == 7
    assert other.figures.dropped == {"not_stored": 5}
    assert other.writers == {"w": 9}
    assert [seq for seq in range(12) if other.is_done(Item("w", seq, 0))] == [1, 2, 3, 9]
    assert other.is_done(Item("by_hand", 40, 0))
    assert other.looked_at(Item("by_hand", 30, 0), 29) == 0
    assert list(tmp_path.iterdir()) == [tmp_path / ".dyno.otlp.json"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("node_1_20261124T215900000000Z-000000000001-000000000009.parquet", ("node_1_20261124T215900000000Z", 1, 9)),
        (
            "20261124T215900Z_20261124T215901Z_0123456789abcdef_w-000000000003-000000000004.parquet",
            ("w", 3, 4),
        ),
        ("seed-000000000000-000000000000.parquet", None),
        ("import_0a-000000000001-000000000002.parquet", None),
        ("x.parquet", None),
    ],
)
def test_names_of_parquet_files(name: str, said: tuple[str, int, int] | None) -> None:
    """A name says the writer and the numbers; seeds, imports and strangers have nothing to send."""
    assert parquet_of(name) == (None if said is None else Parquet(name, *said))


def test_when_a_writer_began() -> None:
    """Its name says it; one that doesn't began long ago."""
    assert began_us("node_7_20261124T215900000001Z") == 1_795_557_540_000_001
    assert began_us("import_0a1b") == began_us("node_7_20269924T215900000001Z") == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_no_row(line: bytes) -> None:
    """A line without its checksum is nothing, whatever it is."""
    assert stored_of("w", line) is None
