"""Span files for the tests of the analysis, written by the format alone, without any code of Dyno."""

import itertools
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RUN_ID = "20261124_215900_0a1b"
STARTED_AT_US = 1_795_557_540_000_000  # 2026-11-24T21:59:00Z

_numbers = itertools.count(1)


def span(**columns: Any) -> dict[str, Any]:
    """An unstreamed ok chat to metis that took a second. `columns` replace or add; None leaves a column out."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "v": 1,
        "seq": number,
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "name": "chat m",
        "kind": "CLIENT",
        "started_at_us": STARTED_AT_US + number * 1_000_000,
        "duration_us": 1_000_000,
        "operation": "chat",
        "model": "m",
        "status": 200,
        "endpoint": "metis",
        "outcome": "ok",
        "streamed": False,
        **columns,
    }
    return {key: value for key, value in values.items() if value is not None}


def streamed(offsets_us: list[int], **columns: Any) -> dict[str, Any]:
    """An ok stream whose chunks came at these offsets. Each is one token, unless `output_tokens` is given."""
    return span(
        **{
            "streamed": True,
            "headers_us": offsets_us[0],
            "first_event_us": offsets_us[0],
            "first_token_us": offsets_us[0],
            "first_answer_us": offsets_us[0],
            "last_token_us": offsets_us[-1],
            "done_us": offsets_us[-1],
            "duration_us": offsets_us[-1],
            "chunk_offsets_us": offsets_us,
            "chunk_count": len(offsets_us),
            "output_tokens": len(offsets_us),
            **columns,
        }
    )


def pair(prompt_id: str, metis_s: float, sophia_s: float, **columns: Any) -> list[dict[str, Any]]:
    """One prompt asked of both endpoints in one run."""
    return [
        span(
            **{
                "endpoint": name,
                "prompt_id": prompt_id,
                "run_id": RUN_ID,
                "workload": "single",
                "repeat": 1,
                "duration_us": round(latency_s * 1e6),
                **columns,
            }
        )
        for name, latency_s in (("metis", metis_s), ("sophia", sophia_s))
    ]


def mirrored(
    prompt_id: str, original_s: float, copy_s: float, names: tuple[str, str] = ("sophia", "metis"), **columns: Any
) -> list[dict[str, Any]]:
    """A request and its copy by the mirror, outside of any run."""
    original = span(
        endpoint=names[0],
        prompt_id=prompt_id,
        duration_us=round(original_s * 1e6),
        attributes={"dyno.mirror": "original"},
        **columns,
    )
    link = {"dyno.mirror.trace_id": original["trace_id"], "dyno.mirror.span_id": original["span_id"]}
    copy = span(
        endpoint=names[1],
        prompt_id=prompt_id,
        duration_us=round(copy_s * 1e6),
        attributes={"dyno.mirror": "copy", **link},
        **columns,
    )
    return [original, copy]


def prompts(n: int, **columns: Any) -> list[dict[str, Any]]:
    """n prompts for which sophia takes half of metis' time. Their lengths separate fixed time from time per token."""
    rows = []
    for number in range(n):
        tokens = 20 + 10 * number
        rows += pair(
            str(number), 2 + tokens * 0.02, 1 + tokens * 0.01, output_tokens=tokens, input_tokens=50, **columns
        )
    return rows


def line(row: dict[str, Any]) -> bytes:
    body = json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    return body + f',"crc32":{zlib.crc32(body)}}}\n'.encode()


def write(folder: Path, rows: Iterable[dict[str, Any]], writer: str = "node1_42_20261124T215900000000Z") -> Path:
    """Write a journal with these rows. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{writer}-000000000001.jsonl"
    path.write_bytes(b"".join(map(line, rows)))
    return path
