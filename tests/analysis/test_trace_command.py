"""`dyno trace`: how a trace is named, how it is printed, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rigs.collected_rows import TRACE, collected, engine, request, sid, store
from rigs.dyno_command import dyno, refusal
from rigs.stored_spans import STARTED_AT_US

DOCUMENTED = Path(__file__).parents[2] / "docs" / "trace.md"


@pytest.fixture
def spans(tmp_path: Path) -> Path:
    """A client, its HTTP library, the proxy, vLLM and what vLLM called; and another request."""

    def at(ms: int) -> dict[str, Any]:
        return {"started_at_us": STARTED_AT_US + ms * 1000}

    requests = [
        request(
            *("p", "c"),
            duration_us=1_000_000,
            streamed=True,
            first_token_us=400_000,
            first_answer_us=600_000,
            last_token_us=950_000,
            chunk_offsets_us=[400_000, 600_000, 950_000],
            output_tokens=3,
            response_id="chatcmpl-7",
            **at(100),
        ),
        request("other", None, trace_id="ab" * 16, simulated=True, **at(200)),
    ]
    others = [
        collected("app", "CLIENT", None, 1.2, attributes={"resource.service.name": "app"}, **at(0)),
        collected("c", "CLIENT", "app", 1.1, **at(50)),
        engine("s", "c", **at(150)),
        engine("s", "c", **at(150)),  # sent again
        collected("gpu", "INTERNAL", "s", 0.5, **at(140)),
    ]
    return store(tmp_path, requests, others)


@pytest.mark.parametrize("name", [TRACE, "aaa", "AAA", sid("gpu"), sid("p")[:6], "chatcmpl-7"])
def test_the_documented_picture(spans: Path, name: str) -> None:
    """A trace, by any of its names, is printed exactly as docs/trace.md shows it."""
    shown = re.search(r"```text\n(.*?)```", DOCUMENTED.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    done = dyno("trace", name, "--spans", spans)
    assert done.stdout == shown[1]
    assert (done.returncode, done.stderr) == (0, "")


def test_json(spans: Path) -> None:
    """Each span once, with its figures."""
    done = dyno("trace", TRACE, "--spans", spans, "--format", "json")
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(found) == ["app", "c", "chat m", "gpu", "s"]
    assert found["s"]["queue_s"] == 0.1
    assert found["chat m"]["first_token_us"] == 400_000


def test_simulated_says_so(spans: Path) -> None:
    assert "simulated, ok" in dyno("trace", "ab", "--spans", spans).stdout


def test_without_collected_spans(tmp_path: Path) -> None:
    """The proxy's own span and its phases."""
    store(tmp_path, [request("p")], [])
    (tmp_path / "collected").rename(tmp_path / "elsewhere")
    lines = dyno("trace", "aaaa", "--spans", tmp_path).stdout.splitlines()
    assert lines[0] == f"trace {TRACE}"
    assert lines[1].startswith("dyno: chat m @metis")


def test_what_is_refused(spans: Path, tmp_path: Path) -> None:
    """Each error is one line that says how to correct it."""
    assert refusal("trace", "cc", "--spans", spans) == (
        f"dyno trace: no span of '{spans}' has the id 'cc'; find one, as with dyno sql 'FROM spans LIMIT 10'"
    )
    assert "has the id 'x y' (it isn't hexadecimal)" in refusal("trace", "x y", "--spans", spans)
    line = refusal("trace", "a", "--spans", spans)
    assert "'a' fits 2 traces; write more of the id of one of them: " in line
    assert f"{'ab' * 16} (metis chat m)" in line
    assert "doesn't exist; name one with --spans DIR" in refusal("trace", "a", "--spans", tmp_path / "nowhere")


def test_spans_without_traceparent_are_joined_by_the_response(tmp_path: Path) -> None:
    """A client that sends no `traceparent` has a trace of its own. The response's id shows both, by either trace's id
    and by its own; a response of the same id elsewhere, or at another time, isn't drawn in."""

    def at(ms: int) -> dict[str, Any]:
        return {"started_at_us": STARTED_AT_US + ms * 1000}

    own, client = "ab" * 16, "cd" * 16
    named = {"response_id": "chatcmpl-9"}
    requests = [
        request("p", None, trace_id=own, endpoint="metis", duration_us=1_000_000, **named, **at(100)),
        request("late", None, trace_id="12" * 16, endpoint="metis", duration_us=1_000_000, **named, **at(60_000)),
        request("else", None, trace_id="34" * 16, endpoint="sophia", duration_us=1_000_000, **named, **at(100)),
    ]
    others = [
        collected("agent", "INTERNAL", None, 1.5, trace_id=client, **at(0)),
        collected("c", "CLIENT", "agent", 1.2, trace_id=client, attributes={
            "url.full": "http://127.0.0.1:8080/metis/v1/chat/completions"}, **named, **at(50)),
    ]  # fmt: skip
    spans = store(tmp_path, requests, others)
    for name in (own, client):
        found = json.loads(dyno("trace", name, "--format", "json", "--spans", spans).stdout)
        assert [(span["span_id"], span["parent_span_id"]) for span in found] == [
            (sid("agent"), None),
            (sid("c"), sid("agent")),
            (sid("p"), sid("c")),
        ]
    shown = dyno("trace", "chatcmpl-9", "--format", "json", "--spans", store(tmp_path / "two", requests[:1], others))
    assert [span["span_id"] for span in json.loads(shown.stdout)] == [sid("agent"), sid("c"), sid("p")]
    statement = "SELECT endpoint, client_s, client_span_id FROM request_phases WHERE client_s IS NOT NULL"
    done = dyno("sql", statement, "--spans", spans, "--format", "json")
    assert [(row["endpoint"], round(row["client_s"], 6), row["client_span_id"]) for row in json.loads(done.stdout)] == [
        ("metis", 0.2, sid("c"))
    ]
