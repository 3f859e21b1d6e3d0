"""The rows of a trace's file, as its content says: CSV, JSON lines or Parquet. Nothing is held but the row at hand."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError, one_line

from .shapes import Row

_BOM: Final = b"\xef\xbb\xbf"
_PACKED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Each row, with the words that name its place. WrongUseError if the file can't be read as what it is."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise WrongUseError(f"--trace {path}: can't be read: {error.strerror or error}; correct the path") from error
    for mark, name in _PACKED.items():
        if head.startswith(mark):
            raise WrongUseError(f"--trace {path}: is packed with {name}; unpack it first")
    text = head.removeprefix(_BOM).lstrip()
    if not text:
        raise WrongUseError(f"--trace {path}: is empty; it needs a row for each request")
    reader = _parquet_rows if head.startswith(b"PAR1") else _json_rows if text[:1] in (b"{", b"[") else _csv_rows
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUseError(f"--trace {path}: can't be read: {one_line(str(error))}; correct the file") from error


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            columns = next(reader, [])
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(columns):
                    raise WrongUseError(
                        f"--trace {path}: line {reader.line_num} has {len(cells)} cells, and the header "
                        f"{len(columns)}; correct the file"
                    )
                yield f"line {reader.line_num}", dict(zip(columns, cells, strict=True))
        except csv.Error as error:
            raise WrongUseError(f"--trace {path}: line {reader.line_num}: {error}; correct the file") from error


def columns_of_csv(path: Path) -> list[str]:
    """The header of a CSV file that has no further row."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        return next(csv.reader(file), [])


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    row: Any = None
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                # A proxy that was killed, or still writes, may leave a journal's last line incomplete.
                if not line.endswith("\n") and row is not None and "span_id" in row:
                    return
                raise WrongUseError(
                    f"--trace {path}: line {number} isn't JSON: {one_line(str(error))}; a trace in JSON has an object "
                    "on each line"
                ) from error
            if not isinstance(row, dict):
                raise WrongUseError(
                    f"--trace {path}: line {number} isn't an object; a trace in JSON has an object on each line"
                )
            yield f"line {number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            # A span file has a column for each event of a request, and a trace needs few of them.
            columns = [name for name in file.schema_arrow.names if name not in _UNUSED]
            number = 0
            for batch in file.iter_batches(batch_size=4096, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except pyarrow.ArrowException as error:
        raise WrongUseError(f"--trace {path}: isn't whole Parquet: {one_line(str(error))}; correct the file") from error


_UNUSED: Final[frozenset[Any]] = frozenset({"chunk_offsets_us", "user_agent", "path", "response_id", "tracestate"})


def prompt_texts(path: Path) -> dict[str, str]:
    """A run's prompts.parquet: texts by prompt id."""
    return {
        str(row["prompt_id"]): row["prompt"] for _, row in _parquet_rows(path) if isinstance(row.get("prompt"), str)
    }
