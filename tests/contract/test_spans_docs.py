"""docs/spans.md lists each column of the span files, with its type."""

import re
from pathlib import Path

from dyno_proxy.attributes import ATTRIBUTES
from dyno_proxy.telemetry.span import COLUMNS, SCHEMA_VERSION

DOCS = (Path(__file__).parents[2] / "docs" / "spans.md").read_text(encoding="utf-8")


def test_every_column_is_there() -> None:
    """The page has each column's name, type and meaning in the order of a line. The checksum comes last."""
    table = DOCS.partition("## Columns\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([a-z\[\]]+) \| (.+) \|$", table, re.MULTILINE)
    assert [(name, kind) for name, kind, _ in rows] == [*COLUMNS, ("crc32", "int")]
    meanings = {name: meaning for name, _, meaning in rows}
    for attribute in ATTRIBUTES:
        if attribute.column is not None:
            assert meanings[attribute.column] == f"{attribute.meaning} (`{attribute.name}`)"
    assert f'"v":{SCHEMA_VERSION},' in DOCS
