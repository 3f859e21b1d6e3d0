"""The collector's answers: when spans are stored, and how requests are refused. docs/collect.md must say the same."""

import asyncio
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client.parser import text_string_to_metric_families

from dyno_proxy.collect import intake
from dyno_proxy.collect import server as collect_server
from dyno_proxy.collect.otlp import JSON, PROTOBUF
from dyno_proxy.server.keys import ClientKeys
from rigs.collector_rig import message, own_collector, post
from rigs.journal_rows import stored
from rigs.otlp_files import json_line, protobuf, readable
from rigs.records import record

TEXT: Final = (Path(__file__).parents[2] / "docs" / "collect.md").read_text(encoding="utf-8")


async def test_200_means_on_disk(tmp_path: Path) -> None:
    """When the answer comes, the rows are in the journals: a proxy's requests in one folder, other spans in another."""
    spans = [readable(record(trace_id=77, span_id=1)), readable(record(trace_id=77, span_id=2))]
    async with own_collector(tmp_path) as running, aiohttp.ClientSession() as session:
        status, body, headers = await post(session, running.url, protobuf(spans))
        assert (status, body, headers["Content-Type"]) == (200, b"", PROTOBUF)
        assert [row["span_id"] for row in stored(tmp_path)] == [f"{1:016x}", f"{2:016x}"]
        assert running.rows() == []
        status, body, headers = await post(
            session, running.url, gzip.compress(message({}), mtime=0), Content_Encoding="gzip"
        )
        assert status == 200
        assert [row["name"] for row in running.rows()] == ["a span"]
        assert len(stored(tmp_path)) == 2


async def test_what_is_sent_again_is_stored_once(tmp_path: Path) -> None:
    """A sender that got its answer late sends the same batch again, at once or later: each span is stored once."""
    spans = [readable(record(trace_id=77, span_id=number)) for number in range(1, 4)]
    async with own_collector(tmp_path) as running, aiohttp.ClientSession() as session:
        twice = [post(session, running.url, protobuf(spans)) for _ in range(2)]
        assert [status for status, *_ in await asyncio.gather(*twice)] == [200, 200]
        status, body, _ = await post(session, running.url, json_line(spans), JSON)
        assert (status, json.loads(body)) == (200, {})
        assert len(stored(tmp_path)) == 3
        assert 'dyno_collector_spans_total{result="repeated"} 6.0' in await metrics(session, running.url)


async def test_rejected_spans_are_a_partial_success(tmp_path: Path) -> None:
    """The other spans are on disk. The answer says how many spans were rejected, and why."""
    body = message({}, {"trace_id": b"\1"}, {"span_id": b""})
    async with own_collector(tmp_path) as running, aiohttp.ClientSession() as session:
        status, answered, _ = await post(session, running.url, body)
        assert status == 200
        partial = ExportTraceServiceResponse.FromString(answered).partial_success
        why = "trace_id must be 16 bytes, not all zero; this one has 1 bytes"
        assert (partial.rejected_spans, partial.error_message) == (2, why)
        assert len(running.rows()) == 1


@pytest.mark.parametrize(
    ("status", "body", "content_type", "headers", "said"),
    [
        (400, b"\xff", PROTOBUF, {}, "not an ExportTraceServiceRequest"),
        (400, b"{", JSON, {}, "not an ExportTraceServiceRequest"),
        (400, b"no gzip", JSON, {"Content_Encoding": "gzip"}, "isn't gzip"),
        (400, gzip.compress(message({}), mtime=0)[:-1], PROTOBUF, {"Content_Encoding": "gzip"}, "cut off"),
        (413, bytes(collect_server.MAX_BODY_BYTES + 1), PROTOBUF, {}, "send smaller batches"),
        (
            413,
            gzip.compress(bytes(intake.PLAIN_BYTES + 1), mtime=0),
            PROTOBUF,
            {"Content_Encoding": "gzip"},
            "decompressed",
        ),
        (415, b"x", "text/plain", {}, "Content-Type 'text/plain'"),
        (415, b"x", PROTOBUF, {"Content_Encoding": "zstd"}, "Content-Encoding 'zstd'"),
    ],
    ids=["protobuf", "json", "no gzip", "gzip broken off", "long", "bomb", "type", "encoding"],
)
async def test_refusals(
    tmp_path: Path, status: int, body: bytes, content_type: str, headers: dict[str, str], said: str
) -> None:
    """Each refusal holds a google.rpc.Status in the request's encoding, and the next request is served."""
    async with own_collector(tmp_path) as running, aiohttp.ClientSession() as session:
        got, answered, answer_headers = await post(session, running.url, body, content_type, **headers)
        assert got == status, answered
        if content_type == PROTOBUF:
            assert answer_headers["Content-Type"] == PROTOBUF
            assert said in Status.FromString(answered).message
        else:
            assert said in json.loads(answered)["message"]
        assert (await post(session, running.url, message({})))[0] == 200
        assert len(running.rows()) == 1


async def test_paths_and_methods(tmp_path: Path) -> None:
    async with own_collector(tmp_path) as running, aiohttp.ClientSession() as session:
        for path, method, status, said in (
            ("/v1/metrics", "POST", 404, "takes only traces"),
            ("/v1/logs", "POST", 404, "takes only traces"),
            ("/else", "GET", 404, "no such path"),
            ("/v1/traces", "GET", 405, "Method Not Allowed"),
        ):
            async with session.request(method, running.url + path) as response:
                assert response.status == status
                assert said in (await response.json())["message"]
        for path in ("/healthz", "/readyz"):
            async with session.get(running.url + path) as response:
                assert response.status == 200


async def test_a_body_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is 408 and the connection ends, because nobody knows where the next request would begin."""
    monkeypatch.setattr(collect_server, "BODY_LIMIT_S", 0.2)
    async with own_collector(tmp_path) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        async with asyncio.timeout(20):
            answered = await reader.read()
        assert answered.startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_full_queue_is_a_503_that_says_when_to_come_again(tmp_path: Path) -> None:
    """If many requests come at once, some find the queue full. Only those that got 200 are stored."""
    bodies = [message({"trace_id": n.to_bytes(16), "name": "x" * 1000}) for n in range(1, 101)]
    async with own_collector(tmp_path, queue_bytes=2000) as running, aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*(post(session, running.url, body) for body in bodies))
        stored = {int(row["trace_id"], 16) for row in running.rows()}
        assert stored == {n for n, (status, *_) in enumerate(answers, start=1) if status == 200}
        refused = [headers for status, _, headers in answers if status != 200]
        assert refused
        assert {headers["Retry-After"] for headers in refused} == {"1"}
        assert {status for status, *_ in answers} == {200, 503}
        assert (await post(session, running.url, bodies[-1]))[0] == 200


async def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """Spans that aren't written get no 200. When the disk works again, the same batch is stored once."""
    async with own_collector(tmp_path) as running, aiohttp.ClientSession() as session:
        collected = tmp_path / "collected"
        shutil.rmtree(collected)
        collected.write_text("in the way")
        body = protobuf([readable(record(trace_id=77, span_id=1))])
        assert (await post(session, running.url, body))[0] == 200  # requests have a folder of their own
        status, answered, headers = await post(session, running.url, message({}, {}))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "can't be written" in Status.FromString(answered).message
        assert 'dyno_spans_dropped_total{reason="disk"} 2.0' in await metrics(session, running.url)
        collected.unlink()
        assert (await post(session, running.url, message({}, {})))[0] == 200
        assert len(running.rows()) == 2


async def test_many_senders_at_once(tmp_path: Path) -> None:
    """Twenty senders with fifty batches each: every span is stored once, and no lines are mixed."""

    async def send(number: int) -> None:
        async with aiohttp.ClientSession() as session:
            for batch in range(50):
                ids = (number * 50 + batch + 1).to_bytes(16)
                spans = [{"trace_id": ids, "span_id": n.to_bytes(8), "name": "x" * (n * 100)} for n in range(1, 6)]
                assert (await post(session, running.url, message(*spans)))[0] == 200

    async with own_collector(tmp_path) as running:
        await asyncio.gather(*map(send, range(20)))
        rows = running.rows()
        assert len(rows) == 20 * 50 * 5
        assert len({(row["trace_id"], row["span_id"]) for row in rows}) == len(rows)
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))


async def test_keys(tmp_path: Path) -> None:
    """The collector requires keys as the proxy does. Health checks need no key."""
    (tmp_path / "keys").write_text("secret-key\n")
    keys = ClientKeys(tmp_path / "keys")
    async with own_collector(tmp_path / "spans", keys) as running, aiohttp.ClientSession() as session:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer other"}, 401),
            ({"Authorization": "Bearer secret-key"}, 200),
        ):
            got, body, _ = await post(session, running.url, message({}), **headers)
            assert got == status
            assert b"secret-key" not in body
        for path, status in (("/metrics", 401), ("/healthz", 200), ("/readyz", 200)):
            async with session.get(running.url + path) as response:
                assert response.status == status


async def test_the_documented_figures_are_these(tmp_path: Path) -> None:
    """docs/collect.md names the limits, answers and metrics of the code."""
    assert f"longer than {collect_server.MAX_BODY_BYTES:,} bytes, or than {intake.PLAIN_BYTES:,}" in TEXT
    assert f"the queue ({intake.QUEUE_BYTES:,} bytes)" in TEXT
    assert f"Of the last {intake.REMEMBERED:,} spans" in TEXT
    assert f"within {collect_server.BODY_LIMIT_S:g} s" in TEXT
    statuses = [int(status) for status in re.findall(r"^\| (\d{3}) \|", TEXT, re.MULTILINE)]
    assert statuses == [200, 400, 401, 404, 405, 408, 413, 415, 500, 503]
    documented = {
        (name, kind): set(re.findall(r"`([^`]+)`", labels))
        for name, kind, labels in re.findall(r"^\| `(dyno_\w+)` \| (\w+) \| ([^|]+) \|", TEXT, re.MULTILINE)
    }
    async with own_collector(tmp_path) as running, aiohttp.ClientSession() as session:
        shutil.rmtree(tmp_path / "collected")
        (tmp_path / "collected").write_text("in the way")
        await post(session, running.url, message({}))
        text = await metrics(session, running.url)
    served = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type): {
            label for sample in family.samples for label in sample.labels
        }
        for family in text_string_to_metric_families(text)
    }
    assert served == documented


async def metrics(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/metrics") as response:
        return await response.text()


async def test_a_folder_that_is_archived(tmp_path: Path) -> None:
    """200 means on disk in the folder of that name: it is there again after `mv`, with both places and their seeds."""
    spans = tmp_path / "spans"
    async with own_collector(spans) as running, aiohttp.ClientSession() as session:
        assert (await post(session, running.url, message({})))[0] == 200
        spans.rename(tmp_path / "away")
        assert (await post(session, running.url, message({"trace_id": b"x" * 16})))[0] == 200
        assert [len(stored(each / "collected")) for each in (tmp_path / "away", spans)] == [1, 1]
        for folder in (spans, spans / "collected"):
            assert len(list(folder.glob("seed-*"))) == 2
        shutil.rmtree(spans / "collected")
        assert (await post(session, running.url, message({"trace_id": b"y" * 16})))[0] == 200
        assert len(stored(spans / "collected")) == 1
