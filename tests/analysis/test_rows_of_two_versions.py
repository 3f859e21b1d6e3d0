"""Rows of version 1 have in their map what rows of version 2 have in columns: the view shows them alike."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from dyno_analysis.compaction.compaction import Compaction
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.file_names import SEEDS
from dyno_analysis.spans.footer import HELD_KEY, VERSION_KEY, read_footer
from dyno_analysis.spans.held_rows import as_text
from dyno_proxy.attributes import ATTRIBUTES
from rigs import first_format
from rigs.compacted import as_parquet, pasted, rested
from rigs.dyno_command import dyno
from rigs.sql_rows import rows_of
from rigs.stored_spans import pair, span, streamed, write

STORED: Final = Path(__file__).parent / "stored" / "0.1.0"
VALUES: Final[dict[str, Any]] = {
    "user_agent": "agent/1.2",
    "client": "alice",
    "client_address": "::1",
    "user": "ada",
    "session_id": "ses",
    "request_id": "req-7",
    "reasoning_level": "high",
    "choice_count": 2,
    "first_read_tokens": 3,
    "resent": True,
    "retries": 1,
    "retry_after_s": 7.5,
    "rtt_us": 900,
    "min_rtt_us": 850,
    "gc_pause_us": 12,
    "load_concurrency": 8,
    "load_rate_per_s": 2.5,
    "sampled": False,
    "tracestate": "a=1",
}
NAMES: Final = {a.column: a.name for a in ATTRIBUTES if a.since > 1}
OF_VIEW: Final = f"SELECT {', '.join(VALUES)}, connection_reused, tpot_s, attributes FROM spans ORDER BY span_id"  # noqa: S608


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def first_version(number: int, values: dict[str, Any] = VALUES, **columns: Any) -> dict[str, Any]:
    """A row as Dyno 0.1.0 wrote it."""
    attributes = {NAMES[column]: text(value) for column, value in values.items()} | {"server.port": "443"}
    return row(number, v=1, attributes=attributes, **columns)


def second_version(number: int, values: dict[str, Any] = VALUES, **columns: Any) -> dict[str, Any]:
    return row(number, v=2, attributes={"server.port": "443"}, **values, **columns)


def row(number: int, **columns: Any) -> dict[str, Any]:
    made = streamed([200_000, 200_000, 240_000, 280_000], output_tokens=13, connection_reused=True, **columns)
    return made | {"span_id": f"{number:016x}", "seq": number}


def without_new_columns(journal: Path) -> Path:
    """The Parquet file of the journal as Dyno 0.1.0 made it: it lacks the columns that came with version 2."""
    path, columns = as_parquet(journal), ", ".join(f'"{column}"' for column in NAMES)
    rows = f"SELECT * EXCLUDE ({columns}) FROM read_parquet('{path}')"  # noqa: S608
    with duckdb.connect() as connection:
        held = as_text(read_footer(path).held)
        connection.execute(
            f"COPY ({rows}) TO '{path}_' (FORMAT parquet, KV_METADATA {{{VERSION_KEY}: '2', {HELD_KEY}: '{held}'}})"
        )
    Path(f"{path}_").rename(path)
    return path


def by_view(folder: Path, query: str = OF_VIEW) -> list[dict[str, Any]]:
    """The rows by Dyno's view; the pasted one has to find the same."""
    with span_folder.connect(folder) as connection:
        ours = rows_of(connection, query)
    with pasted(folder) as connection:
        assert rows_of(connection, query) == ours
    return ours


def mixed(folder: Path) -> dict[str, Path]:
    """Files of each kind, one row in each; the journals rest, so that they may be converted."""
    writers = {name: f"{name}_1_20261124T215900000000Z" for name in ("a", "b", "c", "d", "e")}
    return {
        "journal 1": rested(write(folder, [first_version(1)], writers["a"])),
        "parquet 1": without_new_columns(rested(write(folder, [first_version(2)], writers["b"]))),
        "parquet of a journal 1": as_parquet(rested(write(folder, [first_version(3)], writers["c"]))),
        "journal 2": rested(write(folder, [second_version(4)], writers["d"])),
        "parquet 2": as_parquet(rested(write(folder, [second_version(5)], writers["e"]))),
    }


def test_every_new_column_is_tried() -> None:
    """The columns that came with version 2 are these."""
    assert set(VALUES) == set(NAMES)


def test_a_folder_of_both_versions(tmp_path: Path) -> None:
    """Journals and Parquet files of both versions show the same values, each once: in its column, not in the map."""
    mixed(tmp_path)
    found = by_view(tmp_path)
    assert len(found) == 5
    for each in found:
        assert {column: each[column] for column in VALUES} == VALUES
        assert each["connection_reused"] is True
        assert each["tpot_s"] == pytest.approx(0.08 * 2 / (13 - 3))
        assert each["attributes"]["server.port"] == "443"
        assert not each["attributes"].keys() & {*NAMES.values(), "dyno.connection.reused"}
    assert found == [found[0]] * 5


def test_a_folder_of_both_versions_is_converted_and_merged(tmp_path: Path) -> None:
    """A compaction makes Parquet of journals of both versions, merges those of one writer, and no value changes."""
    mixed(tmp_path)
    writer = "a_1_20261124T215900000000Z"  # the same writer's next journals
    more = write(tmp_path / "more", [second_version(6)], writer)
    rested(more.rename(tmp_path / f"{writer}-000000000006.jsonl"))
    before = by_view(tmp_path)
    problems: list[str] = []
    compaction = Compaction(tmp_path, datetime.now(UTC), lambda _: None, problems.append, False)
    compaction.convert()
    compaction.merge(None)
    assert problems == []
    assert by_view(tmp_path) == before
    assert len(before) == 6


def test_what_does_not_fit_its_column_stays_in_the_map(tmp_path: Path) -> None:
    """A value of the wrong type isn't lost: it stays in the map as text, and the column is NULL."""
    wrong = {"dyno.retries": "many", "dyno.resent": "perhaps", "dyno.retry_after_s": "soon"}
    write(tmp_path, [span(v=1, attributes=wrong), span(v=2, attributes=wrong)])
    for found in by_view(tmp_path):
        assert (found["retries"], found["resent"], found["retry_after_s"]) == (None, None, None)
        assert found["attributes"] == wrong


def test_an_empty_folder_has_the_columns(tmp_path: Path) -> None:
    """The pasted view of a new folder, with its seed files alone, has all columns and no row."""
    assert by_view(tmp_path) == []
    with duckdb.connect() as connection:
        seed = connection.execute(f"DESCRIBE FROM read_parquet('{tmp_path / SEEDS[1]}')").fetchall()
    assert set(NAMES) <= {name for name, *_ in seed}


def test_released_files_beside_new_ones(tmp_path: Path) -> None:
    """The files that 0.1.0 left are read beside this version's, and have values in the columns that came later."""
    for path in STORED.iterdir():
        if path.suffix != ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    old = by_view(tmp_path)
    write(tmp_path, [second_version(1, span_id="f" * 16)])
    found = by_view(tmp_path)
    assert len(found) == len(old) + 1
    assert [each for each in found if each["user_agent"] != VALUES["user_agent"]] == old
    assert any(each["gc_pause_us"] is not None for each in old)
    assert not [each for each in old if each["attributes"].keys() & NAMES.values()]


@pytest.mark.parametrize("version", [1, 2])
def test_results_that_were_reported_come_back(tmp_path: Path, version: int) -> None:
    """A report's results file has these values under their OpenTelemetry names, and its import has them in columns."""
    values = {"connection_reused": True} | VALUES
    said = {NAMES[column]: text(value) for column, value in VALUES.items()}
    columns = values if version > 1 else {"attributes": said, "connection_reused": True}
    write(tmp_path / "spans", [each for name in "ab" for each in pair(name, 1.5, 0.5, v=version, **columns)])
    assert dyno("report", "--spans", tmp_path / "spans", "--out", tmp_path / "out").returncode == 0
    (results,) = (tmp_path / "out").glob("*_results_*.json")
    document = json.loads(results.read_text(encoding="utf-8"))
    for each in (*document["metis"]["results"], *document["sophia"]["results"]):
        assert each["attributes"] == said | {"dyno.connection.reused": "true"}
    assert dyno("import", results, "--spans", tmp_path / "again").returncode == 0
    found = by_view(tmp_path / "again")
    assert len(found) == 4
    assert [{column: each[column] for column in values} for each in found] == [values] * 4


def test_an_older_dyno_names_the_new_files_and_reads_the_rest(tmp_path: Path) -> None:
    """By the rule of the older code, files of version 2 are named, and nothing converts, replaces or empties them."""
    files = mixed(tmp_path)
    read, refused = first_format.readable(tmp_path)
    assert sorted(read) == [files["journal 1"]]
    later = "was written by a later Dyno (format 2); read it with that version"
    assert refused == {path: later for kind, path in files.items() if kind != "journal 1"}
    before = {path: path.read_bytes() for path in refused}
    now_s = datetime.now(UTC).timestamp()
    for days in (0, 1, 2):
        first_format.compact(tmp_path, lambda _: True, now_s + days * 86_400, None)
    assert {path: path.read_bytes() for path in before} == before
    assert len(by_view(tmp_path)) == 5
