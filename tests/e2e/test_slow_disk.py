"""The spans folder is on a file server that is slow, full, broken or away: requests don't notice, rows are counted."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dyno_analysis.spans import folder as span_folder
from rigs.collector_rig import message, post, running_collector
from rigs.dyno_command import dyno
from rigs.fake_upstream import fake_upstream
from rigs.imports import SAMPLES
from rigs.journal_rows import stored
from rigs.preloaded import failing, slow_to_sync
from rigs.proxy_process import ProxyProcess, proxy_process, total
from rigs.stored_spans import span, write
from rigs.until import AT_ONCE_S, until

_ANSWER: list[Any] = [{"json": {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}}]
_SYNC_S = 60.0  # far longer than the whole test may take
_FULL = "Disk quota exceeded"


async def ask(session: aiohttp.ClientSession, url: str, count: int) -> float:
    """Send requests one after another. Returns how long the slowest took, in seconds."""
    slowest_s = 0.0
    for _ in range(count):
        began_s = time.monotonic()
        async with session.post(f"{url}/chat/completions", json={"model": "m"}) as answer:
            await answer.read()
            assert answer.status == 200
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    return slowest_s


async def rows(proxy: ProxyProcess, count: int) -> None:
    """Wait until a reader finds so many rows."""
    await until(lambda: len(proxy.rows()) == count, f"{count} rows")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_sync_that_takes_a_minute(tmp_path: Path, workers: str) -> None:
    """Requests and readers don't wait for it, nor does the end: each row is there, and the exit code is 0."""
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(
            tmp_path, {"e": upstream.url}, "--workers", workers, **slow_to_sync(int(_SYNC_S * 1000))
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):
        for number in range(1, 6):
            assert await ask(session, proxy.base_url("e"), 20) < AT_ONCE_S
            await rows(proxy, 20 * number)
        began_s = time.monotonic()
        await ask(session, proxy.base_url("e"), 20)
        proxy.process.terminate()
        assert await proxy.exit_code() == 0
        assert time.monotonic() - began_s < _SYNC_S / 2
        assert len([line for line in proxy.lines if "to sync" in line]) == 1  # one connection reaches one worker
    assert len(stored(tmp_path / "spans")) == 120


async def test_what_is_synced_late_is_counted(tmp_path: Path) -> None:
    """Spans that a slow disk has synced at last are counted as written, also where no further request comes."""
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, **slow_to_sync(1500)) as proxy,
        aiohttp.ClientSession() as session,
    ):
        await ask(session, proxy.base_url("e"), 20)

        async def counted() -> bool:
            return await total(session, proxy.url, "dyno_spans_written_total") == 20

        await until(counted, "20 spans to be counted as written")
    assert len(stored(tmp_path / "spans")) == 20


@pytest.mark.parametrize("sync_s", [1.0, _SYNC_S])
async def test_a_collector_on_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync_s: float) -> None:
    """A sender is told that its span is safe once it is synced. The collector's end waits for no slow disk."""
    for name, value in slow_to_sync(int(sync_s * 1000)).items():
        monkeypatch.setenv(name, value)
    with running_collector(tmp_path) as collector:
        for name in slow_to_sync(0):
            monkeypatch.delenv(name)
        began_s = time.monotonic()
        async with aiohttp.ClientSession() as session:
            sending = asyncio.create_task(post(session, collector.url, message({})))
            if sync_s < _SYNC_S:
                assert (await sending)[0] == 200
                assert time.monotonic() - began_s > sync_s
            else:
                await until(collector.rows, "the span's row")
                sending.cancel()
        began_s = time.monotonic()
    assert time.monotonic() - began_s < _SYNC_S / 2
    assert len(stored(collector.spans / "collected")) == 1
    assert "Traceback" not in (tmp_path / "collector.log").read_text()


@pytest.mark.parametrize(
    ("error", "calls", "says"),
    [
        ("EDQUOT", "write", _FULL),
        ("EDQUOT", "sync", _FULL),
        ("EDQUOT", "make", _FULL),
        ("ENOSPC", "sync", "No space left on device"),
        ("ESTALE", "write sync", "Stale file handle"),
        ("EIO", "sync", "Input/output error"),
        ("EROFS", "make", "Read-only file system"),
    ],
)
async def test_a_disk_that_fails_for_a_while(tmp_path: Path, error: str, calls: str, says: str) -> None:
    """Each span is written or counted as dropped, the log says why once, and once it works again, spans are written."""
    fault = tmp_path / "fault"
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(
            tmp_path, {"e": upstream.url}, **failing(error, calls, tmp_path / "spans", while_there=fault)
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):

        async def settled(sent: int) -> None:
            async def are() -> bool:
                written = await total(session, proxy.url, "dyno_spans_written_total")
                return written + await total(session, proxy.url, "dyno_spans_dropped_total") == sent

            await until(are, f"{sent} spans to be written or dropped")

        if calls != "make":  # else there is no journal yet when it begins
            await ask(session, proxy.base_url("e"), 10)
            await settled(10)
        before = 0 if calls == "make" else 10
        fault.touch()
        for number in (1, 2):
            assert await ask(session, proxy.base_url("e"), 10) < AT_ONCE_S
            await settled(before + 10 * number)
        assert await total(session, proxy.url, "dyno_spans_dropped_total") == 20
        fault.unlink()
        await ask(session, proxy.base_url("e"), 10)
        await settled(before + 30)
        assert await total(session, proxy.url, "dyno_spans_written_total") == before + 10
        (line,) = [line for line in proxy.lines if "spans can't be written" in line]
        assert f": {says}. Traffic goes on" in line
        assert len([line for line in proxy.lines if "20 were lost meanwhile" in line]) == 1
        assert not [line for line in proxy.lines if "Traceback" in line]
    assert len(stored(tmp_path / "spans")) == before + 10


async def test_a_full_disk_at_the_start(tmp_path: Path) -> None:
    """A proxy whose folder can't be written to doesn't start: one line that says why, and exit code 2."""
    (tmp_path / "dyno.toml").write_text('[endpoints.e]\nurl = "http://127.0.0.1:9/v1"\n')
    environment = failing("EDQUOT", "make", tmp_path / "spans", while_there=tmp_path)
    done = dyno("proxy", "--config", "dyno.toml", "--listen", "127.0.0.1:0", cwd=tmp_path, environment=environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"spans folder 'spans' can't be written: {_FULL}" in done.stderr


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        ("EDQUOT", "make"),
        ("EDQUOT", "write"),
        ("ENOSPC", "sync"),
        ("EIO", "sync"),
        ("ESTALE", "write"),
        ("EROFS", "make"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("compact",),
        ("compact", "--keep", "1h"),
        ("import", SAMPLES / "guidellm_0.8.1.json"),
        ("report", "--since", "2000-01-01T00:00:00Z", "--out", "spans/out"),
        ("sql", "FROM spans", "--output", "spans/rows.csv"),
        ("sql", "FROM spans", "--format", "parquet", "--output", "spans/rows.parquet"),
        ("sql", "COPY (FROM spans) TO 'spans/rows.csv'", "--allow-writes"),
    ],
    ids=lambda command: "_".join(map(str, command[:2])).rpartition("/")[2][:24],
)
def test_commands_on_such_a_disk(tmp_path: Path, command: tuple[str | Path, ...], error: str, calls: str) -> None:
    """One line says why, without a traceback; no row is lost, and what was begun is removed."""
    spans = tmp_path / "spans"
    for first in (1, 3):
        path = write(tmp_path / str(first), [span(span_id=f"{n:016x}", seq=n) for n in (first, first + 1)])
        spans.mkdir(exist_ok=True)
        path.rename(spans / f"import_00ff-{first:012d}.jsonl")
    done = dyno(*command, cwd=tmp_path, environment=failing(error, calls, spans, while_there=tmp_path))
    assert "Traceback" not in done.stderr
    if (calls, command[0], command[-1]) == ("sync", "sql", "--allow-writes"):
        return  # DuckDB's COPY doesn't sync
    assert done.returncode in (1, 2)
    assert done.stderr
    assert all(line.startswith(f"dyno {command[0]}: ") for line in done.stderr.splitlines())
    with span_folder.connect(spans) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT span_id) FROM spans").fetchall()
    assert found == [(4, 4)]
    assert [path.name for path in spans.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("error", "calls"),
    [("EIO", "read"), ("ESTALE", "open"), ("ESTALE", "list"), ("ESTALE", "open read list make write")],
)
@pytest.mark.parametrize(
    "command",
    [
        ("compact", "--keep", "1h"),
        ("import", SAMPLES / "guidellm_0.8.1.json"),
        ("report",),
        ("sql", "FROM spans"),
        ("sql", "FROM runs"),
        ("trace", "0af7"),
    ],
    ids=lambda command: "_".join(map(str, command[:2])).rpartition("/")[2][:24],
)
def test_commands_on_a_disk_that_cannot_be_read(
    tmp_path: Path, command: tuple[str | Path, ...], error: str, calls: str
) -> None:
    """Lines of their own say why, without a traceback. Afterwards each row is there."""
    spans = tmp_path / "spans"
    dyno("import", SAMPLES / "vllm_0.29_llm_request.json", SAMPLES / "guidellm_0.5.3.json", cwd=tmp_path)
    dyno("compact", cwd=tmp_path)
    with span_folder.connect(spans) as connection:
        before = connection.execute("SELECT count(*) FROM spans").fetchall()
    done = dyno(*command, cwd=tmp_path, environment=failing(error, calls, spans, while_there=tmp_path))
    assert "Traceback" not in done.stderr
    assert done.stderr
    assert all(line.startswith("dyno") for line in done.stderr.splitlines())
    if command[0] != "import":
        with span_folder.connect(spans) as connection:
            assert connection.execute("SELECT count(*) FROM spans").fetchall() == before


def test_standard_output_on_a_full_disk(tmp_path: Path) -> None:
    """A shell's `>` on a full disk: one line, and an exit code that isn't 0."""
    write(tmp_path / "spans", [span(span_id=f"{n:016x}", seq=n) for n in range(1, 100)])
    with Path("/dev/full").open("w") as full:
        for form in ("csv", "table", "parquet"):
            done = subprocess.run(
                [sys.executable, "-m", "dyno", "sql", "FROM spans", "--format", form],
                cwd=tmp_path,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            assert done.stderr == "dyno sql: No space left on device\n"
