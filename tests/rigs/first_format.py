"""What Dyno did to a folder before format 2 of its Parquet files: the world that an upgrade finds, or goes back to.

It knows files by `WRITER-FIRST[-LAST]` alone, takes every file with a name of another kind for a stranger's, and joins
neighbours of one writer under a name that claims all between them. It leaves files alone that say a later format, and
its reader names them: lines and Parquet files of version 1 are all that it knows.
"""

import json
import re
import stat
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import duckdb

from dyno_analysis.compaction.convert import whole_row
from dyno_analysis.spans.footer import VERSION_KEY, read_footer
from dyno_analysis.spans.sql_text import sql_part

_NAME = re.compile(r"(?P<writer>[A-Za-z0-9_]+)-(?P<first>\d{12})(?:-(?P<last>\d{12})\.parquet|\.jsonl)")
_METADATA = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{VERSION_KEY}: '1'}}"
_MERGED_ROWS = 1000
_VERSION = 1


def readable(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """The folder's files that count and can be read, and why each of the others can't: the rest of `it …`."""
    read, refused = [], {}
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".jsonl", ".parquet")):
        if (version := _version(path)) > _VERSION:
            refused[path] = f"was written by a later Dyno (format {version}); read it with that version"
        elif "seed" not in path.name:
            read.append(path)
    return read, refused


def _version(path: Path) -> int:
    if path.suffix == ".parquet":
        return int(read_footer(path).version)
    with path.open("rb") as lines:
        first = lines.readline()
    return int(json.loads(first).get("v", 0)) if first else 0


def compact(folder: Path, is_finished: Callable[[Path], bool], now_s: float, keep_from_us: int | None) -> None:
    """`dyno compact [--keep AGE]` of then, at that time."""
    for path in _counting(folder, ".jsonl"):
        if is_finished(path) and _version(path) <= _VERSION and (rows := _rows(path)):
            _write(path.with_name(f"{path.stem}-{rows[-1]:012d}.parquet"), _journal_sql(path))
    by_writer: dict[str, list[Path]] = defaultdict(list)
    for path in _counting(folder, ".parquet"):
        if read_footer(path).version == "1":
            by_writer[_part(path, "writer")].append(path)
    for files in by_writer.values():
        if len(files) > 1 and sum(_count(path) for path in files) <= _MERGED_ROWS:
            last = max(_part(path, "last") for path in files)
            listed = ", ".join(f"'{path}'" for path in files)
            name = f"{_part(files[0], 'writer')}-{_part(files[0], 'first')}-{last}.parquet"
            _write(folder / name, f"FROM read_parquet([{listed}], union_by_name = true)")
    for path in _counting(folder, ".parquet"):
        if keep_from_us is not None and read_footer(path).version == "1" and _is_older(path, keep_from_us):
            _write(path, f"FROM read_parquet('{path}') WHERE false")
    _clean(folder, now_s)


def _clean(folder: Path, now_s: float) -> None:
    """Ten minutes after a file was replaced it is emptied, and removed after a day."""
    files = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and "seed" not in path.name]
    counting = {*_counting(folder, ".jsonl"), *_counting(folder, ".parquet")}
    for path in files:
        if path in counting:
            continue
        ages_s = [now_s - other.stat().st_mtime for other in files if other.exists() and _covers(other, path)]
        if not ages_s or max(ages_s) <= 600:
            continue
        if max(ages_s) > 86_400:
            path.unlink()
        elif path.suffix == ".jsonl":
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
            path.write_bytes(b"")
        else:
            _write(path, f"FROM read_parquet('{path}') WHERE false")


def _counting(folder: Path, suffix: str) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and "seed" not in path.name)
    counting = [path for path in files if not any(_covers(other, path) for other in files if other != path)]
    return [path for path in counting if path.suffix == suffix]


def _covers(one: Path, other: Path) -> bool:
    if one.suffix != ".parquet" or _part(one, "writer") != _part(other, "writer") or one == other:
        return False
    last = _part(other, "last") if other.suffix == ".parquet" else _part(other, "first")
    return _part(one, "first") <= _part(other, "first") and _part(one, "last") >= last


def _part(path: Path, name: str) -> str:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return found[name]


def _rows(path: Path) -> list[int]:
    with path.open("rb") as lines:
        return [row["seq"] for line in lines if (row := whole_row(line)) is not None]


def _journal_sql(path: Path) -> str:
    reading = sql_part("spans", "journal").replace("'spans/*.jsonl'", f"['{path}']").rstrip().removesuffix(",")
    return f"WITH {reading} FROM journal SELECT * EXCLUDE (filename)"


def _write(target: Path, query: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{target}.tmp' ({_METADATA})")
    Path(f"{target}.tmp").rename(target)


def _count(path: Path) -> int:
    with duckdb.connect() as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchall()
    return int(count)


def _is_older(path: Path, keep_from_us: int) -> bool:
    if not _count(path):
        return False
    with duckdb.connect() as connection:
        ((us,),) = connection.execute("SELECT epoch_us(max(started_at)) FROM read_parquet(?)", [str(path)]).fetchall()
    return bool(us < keep_from_us)
