"""The proxy's attributes.py lists the columns of the span files. The analysis has what `make sql` makes from them."""

import json
from pathlib import Path
from typing import Final

import duckdb
import pytest

from contract import stored_columns
from contract.written_blocks import with_block
from dyno_proxy.attributes import ATTRIBUTES, Attribute

ADDED: Final = (
    Attribute("dyno.added.text", "string", "added_text", "a text"),
    Attribute("dyno.added.count", "int", "added_count", "a number"),
    Attribute("dyno.added.share", "float", "added_share", "a fraction"),
    Attribute("dyno.added.flag", "bool", "added_flag", "yes or no"),
    Attribute("dyno.added.texts", "string[]", "added_texts", "texts"),
    Attribute("dyno.added.counts", "int[]", "added_counts", "numbers"),
)
VALUES: Final = {
    "added_text": "a",
    "added_count": 7,
    "added_share": 0.5,
    "added_flag": False,
    "added_texts": ["b"],
    "added_counts": [1, 2],
}


@pytest.mark.parametrize("path", stored_columns.written(), ids=lambda path: path.name)
def test_written_files_are_current(path: Path) -> None:
    """Each file has the columns of the present attributes.py."""
    assert path.read_text(encoding="utf-8") == stored_columns.written()[path], "run `make sql`"


def test_a_new_attribute_needs_no_edit_by_hand(tmp_path: Path) -> None:
    """Attributes of every type that are added to the table are read from a journal and are columns of the view."""
    sql = stored_columns.written((*ATTRIBUTES, *ADDED))[stored_columns.ANALYSIS / "sql" / "spans.sql"]
    row = {"span_id": "1" * 16, "endpoint": "metis", "attributes": {"dyno.mirror": "copy"}, **VALUES}
    (tmp_path / "w-000000000001.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 2 AS seq, '2' AS span_id WHERE false) TO '{tmp_path}/w-000000000002-000000000002.parquet'"
        )
        connection.execute(sql.replace("'spans/", f"'{tmp_path}/"))
        asked = ", ".join(("endpoint", "attributes", *VALUES))
        (found,) = connection.execute(f"SELECT {asked} FROM spans").fetchall()  # noqa: S608
    assert found == ("metis", {"dyno.mirror": "copy"}, *VALUES.values())


@pytest.mark.parametrize("text", ["", "-- begin: x\n", "-- begin: x\n-- end\n-- begin: x\n-- end\n"])
def test_a_block_stands_in_a_file_once(text: str) -> None:
    """A file without the block, or with two such blocks, is refused: nothing is written into the wrong place."""
    with pytest.raises(ValueError, match="'begin: x'"):
        with_block(text, "x", ["a"])


def test_a_block_keeps_its_place() -> None:
    """Only the lines between the two comments change. They are indented like the comments."""
    text = "a\n    -- begin: x\n    old\n    -- end\nb\n"
    assert with_block(text, "x", ["new"]) == "a\n    -- begin: x\n    new\n    -- end\nb\n"
