"""What a spans folder costs by its number of files: each of a writer of its own, as restarts and workers leave them.

    python -m soak.many_files                 100, 1,000 and 12,000 files
    python -m soak.many_files --files 1000    so many

It prints a table: `dyno sql` over all requests and over the last 15 minutes, `dyno compact`, then the same again.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.compaction import convert
from dyno_analysis.spans.file_names import SpanFile, contents, parse
from dyno_analysis.spans.footer import HELD_KEY, VERSION_KEY
from rigs.dyno_command import dyno
from rigs.stored_spans import span, streamed
from rigs.stored_spans import write as write_journal

_FILES: Final = (100, 1_000, 12_000)
_ROWS: Final = 102
_KINDS: Final = 20
_CHUNKS_US: Final = [100_000 + number * 10_000 for number in range(40)]
_COUNT: Final = "SELECT count(*) FROM spans"


def write(folder: Path, files: int) -> int:
    """Make so many Parquet files over the last 30 days, the newest now; returns their rows.

    They are copies of a few. A copy's name and its footer say whose rows it holds; that the rows' ids are those of
    other files, no query here sees.
    """
    folder.mkdir(parents=True)
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    step_us = 30 * 86_400_000_000 // files
    per_kind = -(-files // _KINDS)
    with tempfile.TemporaryDirectory() as temporary:
        for kind in range(0, files, per_kind):
            start_us = now_us - (files - kind) * step_us
            made = _of_kind(Path(temporary) / str(kind), start_us, kind).read_bytes()
            for number in range(kind, min(kind + per_kind, files)):
                at_us = now_us - (files - number) * step_us
                said = contents(at_us, at_us + _ROWS * 1_000, ["metis", "sophia"], [f"r{kind}"])
                path = folder / SpanFile(_writer(number), 1, _ROWS, said).name
                path.write_bytes(made.replace(_writer(0).encode() + b":1-", _writer(number).encode() + b":1-"))
    return files * _ROWS


def _writer(number: int) -> str:
    return f"import_{number:08x}"


def _of_kind(folder: Path, start_us: int, kind: int) -> Path:
    """A file of the writer 0 without a column that says so."""
    rows = [
        streamed(_CHUNKS_US, seq=seq, run_id=f"r{kind}", started_at_us=start_us + seq * 1_000)
        for seq in range(1, _ROWS)
    ]
    rows.append(span(seq=_ROWS, endpoint="sophia", started_at_us=start_us + _ROWS * 1_000))
    journal = write_journal(folder, rows, _writer(0))
    file = parse(journal.name)
    assert file is not None
    made = convert.convert(folder, file).path
    assert made is not None
    target = folder / "without_writer.parquet"
    metadata = f"KV_METADATA {{{VERSION_KEY}: '2', {HELD_KEY}: '{_writer(0)}:1-{_ROWS}'}}"
    with duckdb.connect() as connection:
        rows_sql = f"FROM read_parquet('{made}') SELECT * EXCLUDE (writer)"
        connection.execute(f"COPY ({rows_sql}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, {metadata})")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak.many_files", description=__doc__)
    parser.add_argument("--files", type=int, nargs="*", default=_FILES)
    arguments = parser.parse_args()
    asked = ["count(*), s", "--since 15m, s"]
    print("|", " | ".join(["files", *asked, "compact, s", "files then", *asked, "compact again, s"]), "|")
    print("|", " | ".join(["--:"] * 8), "|")
    with tempfile.TemporaryDirectory(prefix="dyno-many-files-") as temporary:
        for files in arguments.files:
            folder = Path(temporary) / str(files) / "spans"
            rows = write(folder, files)
            before = (*_asked(folder, rows), _timed(folder, "compact"))
            left = len([path for path in folder.iterdir() if path.name.startswith("2") and "_merged_" in path.name])
            figures = [f"{each:.2f}" for each in before]
            after = [f"{each:.2f}" for each in (*_asked(folder, rows), _timed(folder, "compact"))]
            print("|", " | ".join([f"{files:,}", *figures, str(left), *after]), "|", flush=True)
    return 0


def _asked(folder: Path, rows: int) -> tuple[float, float]:
    every_s, found = _answered(folder, ())
    if found != rows:
        raise RuntimeError(f"{found} rows were found, and {rows} were written")
    return every_s, _answered(folder, ("--since", "15m"))[0]


def _answered(folder: Path, flags: Sequence[str]) -> tuple[float, int]:
    begun_s = time.monotonic()
    done = dyno("sql", _COUNT, "--spans", folder, "--format", "csv", *flags)
    took_s = time.monotonic() - begun_s
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return took_s, int(done.stdout.split()[-1])


def _timed(folder: Path, command: str) -> float:
    begun_s = time.monotonic()
    done = dyno(command, "--spans", folder)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return time.monotonic() - begun_s


if __name__ == "__main__":
    sys.exit(main())
