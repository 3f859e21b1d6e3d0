import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyno_driver.errors import WrongUseError
from dyno_driver.traces.selection import Window, due_s, selected
from dyno_driver.traces.shapes import Request, moment_ns
from dyno_driver.traces.trace import Trace
from rigs.shared_data import SHARED, needs_shared

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROWS = st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 9999), st.integers(1, 999)), min_size=1, max_size=40)


def saved(folder: Path, content: str | bytes, name: str = "trace") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lengths(requests: Sequence[Request]) -> list[tuple[int, int]]:
    return [(each.input_tokens, each.output_tokens) for each in requests]


def read(path: Path, **options: Any) -> list[Request]:
    return selected(Trace(path, **options).requests(), 0, None, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(ROWS, st.floats(0.01, 100), st.sampled_from(["azure", "mooncake", "burst"]))
def test_times_are_the_traces_divided_by_the_speed(
    tmp_path: Path, rows: list[tuple[int, int, int]], speed: float, kind: str
) -> None:
    """Whatever the file's order, requests go in order of time, equal ones in the file's order, and each is due at its
    time after the first one divided by the speed.
    """
    if kind == "mooncake":
        lines = [{"timestamp": at_us / 1000, "input_length": i, "output_length": o} for at_us, i, o in rows]
        text = "".join(json.dumps(line) + "\n" for line in lines)
    elif kind == "burst":
        cells = [f"{at_us // 10**6}.{at_us % 10**6:06},{i},{o}" for at_us, i, o in rows]
        text = "Timestamp,Request tokens,Response tokens\n" + "\n".join(cells)
    else:
        begin = datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC)
        cells = [f"{begin + timedelta(microseconds=at_us):%Y-%m-%d %H:%M:%S.%f}0,{i},{o}" for at_us, i, o in rows]
        text = AZURE + "\n".join(cells)
    requests = read(saved(tmp_path, text))
    ordered = sorted(enumerate(rows), key=lambda row: (row[1][0], row[0]))
    assert [each.number for each in requests] == [number + 1 for number, _ in ordered]
    assert lengths(requests) == [(i, o) for _, (_, i, o) in ordered]
    for due, (_, (at_us, _, _)) in zip(due_s(requests, speed), ordered, strict=True):
        assert due == pytest.approx((at_us - ordered[0][1][0]) / 1e6 / speed, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "apart_s"),
    [
        ("2023-11-16 23:59:59.9999999", "2023-11-17 00:00:00.0000001", 2e-7),  # midnight
        ("2024-02-28 23:59:59", "2024-03-01 00:00:01", 86_402),  # a leap year's
        ("2023-12-31T23:59:59.5", "2024-01-01T00:00:00", 0.5),
        ("2024-05-10 00:00:00.009930+00:00", "2024-05-10 02:00:00.009930+01:00", 3600),
        ("2024-05-10 00:00:00Z", "2024-05-09 23:00:00-0130", 1800),
        ("2024-05-10 00:00:00", "2024-05-10 00:00:00 UTC", 0),
        ("2024-05-10 00:00:00,25", "2024-05-10T00:00:01z", 0.75),
        ("2024-05-10", "2024-05-11", 86_400),
        ("0", "1.25", 1.25),
        ("-1.5", "1e3", 1001.5),
        ("1700000000.123456789", "1700000000.123456790", 1e-9),
    ],
)
def test_moments(one: str, other: str, apart_s: float) -> None:
    """Dates with fractions and zones are exact to the ns, past midnight too; without a zone they are UTC."""
    assert moment_ns(other) - moment_ns(one) == round(apart_s * 1e9)


@pytest.mark.parametrize(
    "text", ["\ufeff" + AZURE, AZURE.upper().replace("\n", "\r\n"), ' timestamp ,"Context Tokens",generated_tokens\n']
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\r\n", ""])
def test_headers_as_others_write_them(tmp_path: Path, text: str, end: str) -> None:
    """A byte order mark, CRLF, blank lines, another case or spaces in a header change nothing."""
    row = "2023-11-16 18:15:46.6805900,374,44"
    assert lengths(read(saved(tmp_path, text + row + "\r\n" + row + end))) == [(374, 44)] * 2


def test_burst_gpt(tmp_path: Path) -> None:
    """BurstGPT's failures, with 0 tokens of a response, are left out and counted; further columns are ignored."""
    text = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,,1.5,ChatGPT,472,18,490,Conversation log\n45.5,,2,ChatGPT,1087.0,0,1087,API log\n"
        "118,,1,GPT-4,417,276,693,Conversation log\n"
    )
    trace = Trace(saved(tmp_path, text))
    requests = selected(trace.requests(), 0, None, None)
    assert (lengths(requests), due_s(requests, 2)) == ([(472, 18), (417, 276)], (0.0, 56.5))
    assert dict(trace.left_out) == {"without an answer": 1}


def test_hash_ids(tmp_path: Path) -> None:
    """Ids of blocks are kept; a row without them is one of fresh text, and in CSV they are a list in a cell."""
    rows = [{"timestamp": 1, "input_length": 600, "output_length": 5, "hash_ids": [46, 47]}]
    rows.append({"timestamp": 2, "input_length": 6, "output_length": 5})
    path = saved(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert [each.hash_ids for each in read(path)] == [(46, 47), ()]
    out = io.StringIO()
    csv.writer(out).writerows([("timestamp", "input_length", "output_length", "hash_ids"), (1, 600, 5, "[46, 47]")])
    assert [each.hash_ids for each in read(saved(tmp_path, out.getvalue()))] == [(46, 47)]


@given(ROWS, st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 50))
def test_a_window(rows: list[tuple[int, int, int]], begin_s: int, long_s: int, count: int) -> None:
    """A window is counted from the trace's first request; its first `count` requests in order of time are taken."""
    requests = [Request(at_us * 1000, number, i, o) for number, (at_us, i, o) in enumerate(rows, start=1)]
    first_ns = min(each.at_ns for each in requests)
    inside = [each for each in requests if begin_s <= (each.at_ns - first_ns) / 1e9 < begin_s + long_s]
    inside.sort(key=lambda each: each.at_ns)
    assert selected(iter(requests), first_ns, Window(begin_s, begin_s + long_s), None) == inside
    assert selected(iter(requests), first_ns, Window(begin_s, begin_s + long_s), count) == inside[:count]
    late = [each for each in sorted(requests, key=lambda each: each.at_ns) if each.at_ns - first_ns >= begin_s * 10**9]
    assert selected(iter(requests), first_ns, Window(begin_s, None), None) == late


def test_a_huge_trace_isnt_held() -> None:
    """Of a million rows only those that are sent are kept, in any order of the file."""
    rows = (Request((number * 7919) % 1_000_003, number, 1, 1) for number in range(1_000_003))
    assert [each.at_ns for each in selected(rows, 0, None, 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("\ufeff\r\n \n", "is empty"),
        ("a,b\n1,2\n", "has columns a, b; known shapes: Azure's LLM inference trace (TIMESTAMP,ContextTokens,"),
        ("TIMESTAMP,ContextTokens\n1,2\n", "has columns TIMESTAMP, ContextTokens; known"),
        ("just a text\n", "has columns just a text; known"),
        ('{"prompt": "x"}\n', "has columns prompt; known shapes"),
        ("{}\n", "has columns without names; known shapes"),
        ("[1, 2]\n", "line 1 isn't an object"),
        ("{\n", "line 1 isn't JSON"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1}\n{"timesta', "line 2 isn't JSON"),
        (
            '{"timestamp": NaN, "input_length": 1, "output_length": 1}',
            "line 1: 'timestamp' is 'nan'; it must be a time",
        ),
        ('{"timestamp": true, "input_length": 1, "output_length": 1}', "'timestamp' is 'True'"),
        ('{"timestamp": 1, "input_length": 1.5, "output_length": 1}', "'input_length' is '1.5'; it must be a whole"),
        ('{"timestamp": 1, "input_length": null, "output_length": 1}', "'input_length' is missing"),
        ('{"timestamp": 1, "input_length": 1, "output_length": -1}', "'output_length' is '-1'"),
        (
            '{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 3}',
            "'hash_ids' is '3'; it must be a list",
        ),
        (AZURE + "yesterday,1,1\n", "line 2: 'TIMESTAMP' is 'yesterday'; it must be a time"),
        (AZURE + "2023-02-30 00:00:00,1,1\n", "line 2: 'TIMESTAMP' is '2023-02-30 00:00:00'"),
        (AZURE + "inf,1,1\n", "'TIMESTAMP' is 'inf'"),
        (AZURE + "1,nan,1\n", "'ContextTokens' is 'nan'; it must be a whole number of tokens"),
        (AZURE + "1,1,\n", "'GeneratedTokens' is ''"),
        (AZURE + "1,1,99999999999\n", "'GeneratedTokens' is '99999999999'"),
        (AZURE + "1,1\n", "line 2 has 2 cells, and the header 3"),
        (b"\x1f\x8b\x08rest", "is packed with gzip; unpack it first"),
        (b"PAR1 and no more", "isn't whole Parquet"),
        (b"TIMESTAMP,\xff\n1,2\n", "can't be read: 'utf-8' codec"),
    ],
)
def test_what_isnt_a_trace_is_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    """A file of another shape is refused in one line that says what was found, and a bad cell by line and column."""
    path = saved(tmp_path, content)
    with pytest.raises(WrongUseError) as error:
        read(path)
    assert says in str(error.value)
    assert str(error.value).startswith(f"--trace {path}: ")
    assert "\n" not in str(error.value)


def test_a_header_alone_has_no_requests(tmp_path: Path) -> None:
    """A known header without a row is a trace without requests; an unknown one is refused by its columns."""
    assert read(saved(tmp_path, AZURE)) == []
    with pytest.raises(WrongUseError, match="has columns when, how"):
        read(saved(tmp_path, "when,how\n"))


def test_a_path_that_isnt_there(tmp_path: Path) -> None:
    """A missing file, and a folder without span files, are refused."""
    with pytest.raises(WrongUseError, match="no such file or folder"):
        Trace(tmp_path / "none")
    with pytest.raises(WrongUseError, match="has no span files"):
        Trace(tmp_path)


def span(number: int, at_us: int, **columns: Any) -> dict[str, Any]:
    return {
        "v": 2,
        "seq": number,
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "started_at_us": at_us,
        "operation": "chat",
        "input_tokens": 100 + number,
        "output_tokens": 10 + number,
        "endpoint": "metis" if number % 2 else "sophia",
        "outcome": "ok",
        "attributes": {},
    } | columns


def journal(folder: Path, spans: Sequence[dict[str, Any]], end: str = "") -> None:
    saved(folder, "".join(json.dumps(each) + "\n" for each in spans) + end, "w-000000000001.jsonl")


def parquet(folder: Path, spans: Sequence[dict[str, Any]]) -> None:
    rows = [
        {name: value for name, value in each.items() if name not in ("started_at_us", "attributes")}
        | {"started_at": datetime.fromtimestamp(each["started_at_us"] / 1e6, UTC)}
        for each in spans
    ]
    pq.write_table(pyarrow.Table.from_pylist(rows), folder / "w-000000000001-000000000009.parquet")


def test_span_files(tmp_path: Path) -> None:
    """A proxy's journals and Parquet files are one trace: a row that both hold counts once, a torn line isn't one."""
    spans = [span(number, 1_700_000_000_000_000 - number * 1_000_000) for number in range(1, 7)]
    parquet(tmp_path, spans[:3])
    journal(tmp_path, spans[2:], '{"v":2,"seq":9,"trace_id"')
    saved(tmp_path, "{}\n", "seed-1.jsonl")
    trace = Trace(tmp_path)
    requests = selected(trace.requests(), 0, None, None)
    assert lengths(requests) == [(100 + number, 10 + number) for number in range(6, 0, -1)]
    assert due_s(requests, 1) == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert trace.endpoints == {"metis", "sophia"}
    assert lengths(read(tmp_path, endpoint="sophia")) == [(106, 16), (104, 14), (102, 12)]
    assert lengths(read(tmp_path / "w-000000000001.jsonl")) == lengths(requests)[:4]


def test_spans_that_arent_sent_again(tmp_path: Path) -> None:
    """Warm-ups, other operations and requests without counts are left out, and counted by why."""
    journal(
        tmp_path,
        [
            span(1, 1),
            span(2, 2, warmup=True),
            span(3, 3, operation="embeddings"),
            {name: value for name, value in span(4, 4).items() if name != "output_tokens"},
            span(5, 5, output_tokens=0),
            span(6, 6, operation="text_completion"),
        ],
    )
    trace = Trace(tmp_path)
    assert [each.number for each in trace.requests()] == [1, 6]
    assert dict(trace.left_out) == {
        "that were warm-ups": 1,
        "of other operations than chat": 1,
        "without token counts": 1,
        "without an answer": 1,
    }


def test_captured_prompts(tmp_path: Path) -> None:
    """A span's own message, or the prompt of the run that it belongs to, is sent again; other texts are made."""
    said = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Why?"}]}])
    several = json.dumps([{"role": "system", "parts": []}, {"role": "user", "parts": []}])
    journal(
        tmp_path,
        [
            span(1, 1, attributes={"gen_ai.input.messages": said}),
            span(2, 2, run_id="r1", prompt_id="p1"),
            span(3, 3, run_id="r1", prompt_id="p9"),
            span(4, 4, run_id="../r1", prompt_id="p1"),
            span(5, 5, attributes={"gen_ai.input.messages": several}),
            span(6, 6, attributes={"gen_ai.input.messages": "{"}),
        ],
    )
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    rows = [{"prompt_id": "p1", "prompt": "What of the run?"}]
    pq.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "runs" / "r1" / "prompts.parquet")
    assert [each.prompt for each in read(tmp_path)] == ["Why?", "What of the run?", None, None, None, None]


def test_a_trace_in_parquet(tmp_path: Path) -> None:
    """A known shape may also be Parquet; a shape that isn't is named by its columns."""
    rows = [{"TIMESTAMP": datetime(2024, 1, 1, tzinfo=UTC), "ContextTokens": 5, "GeneratedTokens": 6}]
    pq.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a")
    assert lengths(read(tmp_path / "a")) == [(5, 6)]
    pq.write_table(pyarrow.Table.from_pylist([{"x": math.nan}]), tmp_path / "b")
    with pytest.raises(WrongUseError, match="has columns x; known shapes"):
        read(tmp_path / "b")


def test_endpoints_are_of_span_files_alone(tmp_path: Path) -> None:
    """Other traces don't say where a request went."""
    with pytest.raises(WrongUseError, match="--trace-endpoint: Azure's LLM inference trace has no endpoints"):
        read(saved(tmp_path, AZURE + "1,1,1\n"), endpoint="metis")


@needs_shared
def test_real_traces() -> None:
    """Real rows of Azure's and Mooncake's traces are read whole, with their times and lengths."""
    azure = read(SHARED / "data" / "azure_llm_2023_conv_4000.csv")
    assert (len(azure), lengths(azure[:2])) == (4000, [(374, 44), (396, 109)])
    assert due_s(azure, 1)[1] == pytest.approx(4.314579, abs=1e-9)
    mooncake = read(SHARED / "data" / "mooncake_conversation_2000.jsonl")
    assert (len(mooncake), due_s(mooncake, 2)[-1]) == (2000, 334.5)
    assert all(-(-each.input_tokens // 512) == len(each.hash_ids) for each in mooncake)
