"""Writes imported spans as a journal, in the proxy's format: JSON lines, each with its checksum."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from dyno_analysis.spans.columns import ATTRIBUTE_COLUMNS, OWN_COLUMNS

SCHEMA_VERSION: Final = 2
# The order of a line's keys; `attributes` and the checksum come last.
LEADING_KEYS: Final = (
    *(column for column, kind in OWN_COLUMNS if kind != "map"),
    *(column for _, column, _ in ATTRIBUTE_COLUMNS),
)


def journal_lines(spans: Iterable[Mapping[str, Any]]) -> bytes:
    """The bytes of a journal with these spans; values that are None or empty are left out."""
    return b"".join(journal_line(span) for span in spans)


def journal_line(span: Mapping[str, Any]) -> bytes:
    """The span as one line of a journal; ValueError if it has a key that isn't a column."""
    if unknown := span.keys() - {*LEADING_KEYS, "attributes"}:
        raise ValueError(f"no column for {', '.join(sorted(unknown))}")
    kept: dict[str, Any] = {"v": SCHEMA_VERSION}
    kept |= {key: span[key] for key in LEADING_KEYS[1:] if span.get(key) not in (None, [])}
    if span.get("attributes"):
        kept["attributes"] = dict(span["attributes"])
    body = orjson.dumps(kept)[:-1]
    return body + b',"crc32":%d}\n' % zlib.crc32(body)
