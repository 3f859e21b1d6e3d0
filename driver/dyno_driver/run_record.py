"""A run's own files, `SPANS/runs/RUN_ID/`: run.json, prompts.parquet, answers.parquet.

Each file is written under another name and then renamed, so nobody ever reads half a file.
"""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .client import Answer
from .errors import WrongUseError
from .file_modes import access_in
from .prompts.prompt_set import Prompt
from .run_json import RunJson

Row = dict[str, Any]

# Column → Parquet type, as pyarrow names it.
PROMPT_COLUMNS: Final = {
    "prompt_id": "string",
    "title": "string",
    "domain": "string",
    "context": "string",
    "question": "string",
    "prompt": "string",
    "reference_answers": "list<string>",
    "tokens": "int64",  # by the configured tokenizer; null without one
    "conversation": "string",  # of which it is a turn; null where the whole is one request
    "turn": "int32",  # from 1
}
ANSWER_COLUMNS: Final = {
    "trace_id": "string",
    "endpoint": "string",
    "prompt_id": "string",
    "repeat": "int32",
    "warmup": "bool",
    "answer": "string",
    "reasoning": "string",
    "finish_reason": "string",
    "error": "string",
    "status": "int32",
    "client_ttft_s": "double",
    "client_latency_s": "double",
    "sent_at_us": "int64",
}


def new_folder(spans: Path, now: datetime) -> Path:
    """Make the folder of a run that starts `now`. Its name is the run's id. Raises WrongUseError if that fails."""
    while True:
        folder = spans / "runs" / f"{now.astimezone(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"
        try:
            access_in(spans).make_folder(folder)
        except FileExistsError:
            # Another run drew the same id in the same second, or a file is in the way. The file stays.
            if not folder.is_dir():
                raise _unwritable(spans, "a file is in the way") from None
        except OSError as error:
            raise _unwritable(spans, error.strerror or str(error)) from error
        else:
            return folder


def write_run(folder: Path, record: RunJson) -> None:
    """Write run.json."""
    _replace(folder / "run.json", (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode())


def write_prompts(folder: Path, prompts: Sequence[Prompt]) -> None:
    """Write prompts.parquet."""
    rows = [
        {
            "prompt_id": prompt.prompt_id,
            "title": prompt.title,
            "domain": prompt.domain,
            "context": prompt.context,
            "question": prompt.question,
            "prompt": prompt.prompt,
            "reference_answers": list(prompt.reference_answers),
            "tokens": prompt.tokens,
            "conversation": prompt.conversation_id,
            "turn": prompt.turn,
        }
        for prompt in prompts
    ]
    _write_parquet(folder / "prompts.parquet", PROMPT_COLUMNS, rows)


def write_answers(folder: Path, rows: Sequence[Row]) -> None:
    """Write answers.parquet, a row for each answer, warm-ups included."""
    _write_parquet(folder / "answers.parquet", ANSWER_COLUMNS, list(rows))


def answer_row(answer: Answer) -> Row:
    """An answer as a row of answers.parquet."""
    return {
        "trace_id": answer.trace_id,
        "endpoint": answer.turn.endpoint,
        "prompt_id": answer.turn.prompt_id,
        "repeat": answer.turn.repeat,
        "warmup": answer.turn.warmup,
        "answer": _storable(answer.text),
        "reasoning": _storable(answer.reasoning),
        "finish_reason": _storable(answer.finish_reason),
        "error": _storable(answer.error),
        "status": answer.status,
        "client_ttft_s": answer.ttft_s,
        "client_latency_s": answer.latency_s,
        "sent_at_us": answer.sent_at_us,
    }


def _storable(text: str | None) -> str | None:
    """The text without lone surrogates. JSON can express them and UTF-8 can't, and one must not cost the whole file."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _write_parquet(path: Path, columns: dict[str, str], rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {"list<string>": pyarrow.list_(pyarrow.string())}
    schema = pyarrow.schema([(name, types.get(kind) or pyarrow.type_for_alias(kind)) for name, kind in columns.items()])
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    _replace(path, sink.getvalue().to_pybytes())


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}_{secrets.token_hex(4)}")
    try:
        access_in(path.parent).write(unfinished, content)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "make room for it" if full else "correct that, or give another folder with --spans DIR"
        raise WrongUseError(f"{path}: can't be written: {error.strerror or error}; {mend}") from error


def _unwritable(spans: Path, why: str) -> WrongUseError:
    return WrongUseError(f"--spans {spans}: can't be written: {why}; give a folder that can, with --spans DIR")
