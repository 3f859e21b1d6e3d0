"""Span files of every version that was ever released are read by this one, with the same result."""

import json
import re
import shutil
from pathlib import Path

import pytest

from dyno_analysis.compaction import convert
from dyno_analysis.spans import folder as span_folder
from dyno_proxy.attributes import ATTRIBUTES
from rigs.freeze_format import STORED, VERSION, read_rows

COLUMNS = {a.name: a.column for a in ATTRIBUTES if a.column is not None}
VERSIONS = sorted(path.name for path in STORED.iterdir() if path.is_dir())


def expected_rows(version: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads((STORED / version / "expected.json").read_text(encoding="utf-8"))
    return rows


def assert_same(folder: Path, expected: list[dict[str, str]]) -> None:
    """Each value that was there then, in its column or the map; a later version may have more columns for them."""
    found = read_rows(folder)
    assert len(found) == len(expected)
    for now, then in zip(found, expected, strict=True):
        assert {name: now.get(name) for name in then if name != "attributes"} == without_map(then)
        kept, was = entries(now["attributes"]), entries(then["attributes"])
        assert kept.items() <= was.items()
        for name in was.keys() - kept.keys():
            assert now[COLUMNS[name]] == was[name], name


def without_map(row: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if name != "attributes"}


def entries(text: str) -> dict[str, str]:
    """The map that DuckDB writes as this text."""
    return dict(part.split("=", 1) for part in re.split(r", (?=[\w.]+=)", text[1:-1]))


def test_this_version_is_frozen() -> None:
    """`python -m rigs.freeze_format` has been run for it."""
    assert VERSION in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_read(version: str) -> None:
    """Journal and Parquet, row by row; there are both, and the rows have something in nearly every column."""
    expected = expected_rows(version)
    assert_same(STORED / version, expected)
    assert {path.suffix for path in span_folder.span_files(STORED / version)} == {".jsonl", ".parquet"}
    assert len(expected) >= 20
    assert len({row["outcome"] for row in expected}) >= 4
    assert {name for row in expected for name in row} >= {"ttft_s", "chunk_offsets_us", "run_id", "error_type"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_versions_journals_become_parquet(version: str, tmp_path: Path) -> None:
    """By this version, beside the Parquet of then; and all of it becomes one file where it is one writer's."""
    folder = tmp_path / "spans"
    shutil.copytree(STORED / version, folder)
    for source in span_folder.sources(folder):
        if source.counted.file.last is None:
            convert.convert(folder, source.counted.file)
        else:
            convert.merge(folder, [source])
    assert {path.suffix for path in span_folder.span_files(folder)} == {".parquet"}
    assert_same(folder, expected_rows(version))
