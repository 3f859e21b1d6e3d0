"""A spans folder that is archived or removed under a running proxy: rows are where a reader looks for them."""

import shutil
import signal
import tarfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rigs.fake_upstream import fake_upstream
from rigs.journal_rows import rows_so_far
from rigs.proxy_process import ProxyProcess, proxy_process
from rigs.until import until

_ANSWER: list[Any] = [{"json": {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}}]


async def ask(proxy: ProxyProcess, count: int) -> None:
    """Requests on a connection each, so that every worker gets some; then their rows are in the folder."""
    for _ in range(count):
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{proxy.base_url('e')}/chat/completions", json={"model": "m"}) as answer,
        ):
            assert answer.status == 200
    await until(lambda: len(proxy.rows()) == count, f"{count} rows")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_mv_tar_rm(tmp_path: Path, workers: str) -> None:
    """Each row is in the archive or in the folder, whose files are its user's alone, and the end is in order."""
    spans, away = tmp_path / "spans", tmp_path / "away"
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", workers) as proxy,
    ):
        await ask(proxy, 10)
        spans.rename(away)
        with tarfile.open(tmp_path / "away.tar", "w") as archive:
            archive.add(away)
        archived = len(rows_so_far(away))
        shutil.rmtree(away)
        await ask(proxy, 10)
        assert archived == 10
        await proxy.said("'spans' is gone: it was renamed or removed")
        shutil.rmtree(spans)
        await ask(proxy, 10)
        assert spans.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in spans.iterdir())
        assert len(list(spans.glob("seed-*"))) == 2
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 0
        assert await proxy.said("30 spans written, 0 lost")
    assert not list(spans.glob(".*"))
