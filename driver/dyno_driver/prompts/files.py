"""Prompt files (JSON, JSON lines, CSV, Parquet) → records. Nothing here uses the network."""

import csv
import glob
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError, one_line

from . import hub

Row = Mapping[str, Any]

# Images stand in their records as text. Endpoints take some tens of megabytes at most.
LONGEST_LINE_BYTES: Final = 64 * 2**20


def rows(path: Path, count: int) -> Iterator[Row]:
    """The file's records, at least the first `count` of them.

    Raises WrongUseError if there is no such file, or if its content doesn't fit the ending of its name.
    """
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise WrongUseError(
            f"--prompts {path}: {what}; correct the path, or use --prompts science, which ships with Dyno"
        )
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise WrongUseError(f"--prompts {path}: a file must end in {', '.join(READERS)}")
    try:
        if path.stat().st_size == 0:
            return
        yield from reader(path, count)
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUseError(f"--prompts {path}: can't be read: {one_line(str(error))}") from error


def _json(path: Path, _count: int) -> Iterator[Row]:
    """The records of one of three shapes: a list of records, an object with that list under 'data', or SQuAD's own
    nested shape (1.1 or 2.0).

    The JSON builder of `datasets` isn't used, since it infers a type for each whole column. It turns answers that are
    all dates into timestamps, and they lose the form in which an endpoint writes them.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        try:
            # A .json file may hold JSON lines; the hub's own exports do.
            yield from _json_records(path, text)
        except WrongUseError:
            raise WrongUseError(f"--prompts {path}: not JSON: {error}") from error
        return
    listed = document.get("data", [document]) if isinstance(document, dict) else document
    if not isinstance(listed, list):
        raise WrongUseError(f"--prompts {path}: must be a list of records, or have SQuAD's shape")
    for number, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict):
            raise WrongUseError(f"--prompts {path}: record {number} must be an object with 'question' or 'prompt'")
        if "paragraphs" in entry:
            yield from _squad_article(path, number, entry)
        else:
            yield entry


def _squad_article(path: Path, number: int, article: dict[str, Any]) -> Iterator[Row]:
    """The article's questions as records.

    SQuAD 2.0's questions without an answer get an empty list: their `plausible_answers` are wrong ones.
    """
    try:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                yield {
                    "id": asked["id"],
                    "title": article.get("title"),
                    "context": paragraph["context"],
                    "question": asked["question"],
                    "answers": asked.get("answers", []),
                }
    except (KeyError, TypeError) as error:
        raise WrongUseError(
            f"--prompts {path}: article {number} doesn't have SQuAD's shape: {one_line(repr(error))}"
        ) from error


def _json_lines(path: Path, _count: int) -> Iterator[Row]:
    """A record for each line. The file may be larger than the memory, so only one line is held."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE_BYTES + 1):
            number += 1
            if len(line) > LONGEST_LINE_BYTES:
                raise WrongUseError(
                    f"--prompts {path}: line {number} is over {LONGEST_LINE_BYTES // 2**20} MiB; no endpoint takes "
                    "such a prompt, so shorten it, or put each record into a line of its own"
                )
            yield from _json_record(path, number, line.decode("utf-8-sig" if number == 1 else "utf-8"))


def _json_records(path: Path, text: str) -> Iterator[Row]:
    # splitlines would also split at U+2028 and the like, which a JSON text may hold unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        yield from _json_record(path, number, line)


def _json_record(path: Path, number: int, line: str) -> Iterator[Row]:
    """The line's record; none for an empty line."""
    if not line.strip():
        return
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongUseError(f"--prompts {path}: line {number} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise WrongUseError(f"--prompts {path}: line {number} must be an object with 'question' or 'prompt'")
    yield record


def _csv(path: Path, count: int) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        columns = next(csv.reader(file), [])
        has_rows = any(line.strip() for line in file)
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise WrongUseError(f"--prompts {path}: the column '{twice[0]}' is there twice; rename or remove one")
    if not has_rows:
        return []
    # Every column is read as text, so that an id 007 stays 007 and an answer NA stays one.
    return _built("csv", path, count, columns, keep_default_na=False, encoding="utf-8-sig")


def _parquet(path: Path, count: int) -> list[Row]:
    from pyarrow import ArrowException, parquet

    try:
        has_rows = parquet.read_metadata(path).num_rows > 0
    except ArrowException as error:
        raise WrongUseError(f"--prompts {path}: not readable as parquet: {one_line(str(error))}") from error
    return _built("parquet", path, count, None) if has_rows else []


def _built(kind: str, path: Path, count: int, columns: list[str] | None, **options: Any) -> list[Row]:
    """The records as the builder `kind` of `datasets` reads them. It fails on a file without rows.

    It asks nothing of the hub, and it has a cache folder of its own, so a changed file is read anew.
    """
    datasets = hub.library(offline=True)
    if columns is not None:
        options["features"] = datasets.Features({column: datasets.Value("string") for column in columns})
    with tempfile.TemporaryDirectory(prefix="dyno-prompts-") as cache:
        try:
            loaded = datasets.load_dataset(
                kind, data_files=glob.escape(str(path)), split="train", cache_dir=cache, keep_in_memory=True, **options
            )
        except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
            why = error.__cause__ or error
            raise WrongUseError(f"--prompts {path}: not readable as {kind}: {one_line(str(why))}") from error
        records: list[Row] = loaded.select(range(min(count, len(loaded)))).to_list()
        return records


READERS: Final[dict[str, Callable[[Path, int], Iterable[Row]]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
