"""Targets that aren't a path, in a real `dyno proxy`: they may contain a user and a password, which must not be
stored."""

import re
from pathlib import Path

from rigs.fake_upstream import fake_upstream
from rigs.raw_http import exchange
from rigs.running_proxy import in_thread, running_proxy

USER, PASSWORD, QUERY = "u5er-of-the-test", "pa55word-of-the-test", "qu3ry-of-the-test"
TARGETS = [
    ("GET", f"http://{USER}:{PASSWORD}@elsewhere/e/v1/models?key={QUERY}"),
    ("POST", f"https://{USER}:{PASSWORD}@127.0.0.1:8080/e/v1/chat/completions"),
    ("GET", f"http://{USER}:{PASSWORD}@127.0.0.1/metrics"),
    ("GET", f"HTTP://{USER}:{PASSWORD}@[::1]:1/"),
    ("GET", f"http://{USER}:{PASSWORD}@[::1/"),
    ("GET", f"ftp://{USER}:{PASSWORD}@elsewhere"),
    ("CONNECT", f"{USER}:{PASSWORD}@elsewhere:443"),
    ("CONNECT", "elsewhere:443"),
    ("GET", f"{USER}:{PASSWORD}@elsewhere:443"),
    ("OPTIONS", "*"),
    ("OPTIONS", f"*?{QUERY}"),
]


async def test_no_part_of_them_stays(tmp_path: Path) -> None:
    """Each is refused and reaches no endpoint. User, password and query are in no answer, row, log line or metric."""
    async with fake_upstream() as upstream, in_thread(running_proxy(tmp_path, {"e": upstream.url})) as proxy:
        seen = b""
        for method, target in TARGETS:
            request = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            answer = await exchange(proxy.url, request)
            assert answer.status in (400, 404), (method, target)
            seen += b"".join(data for _, data in answer.reads)
        rows = await proxy.rows(len(TARGETS))
        assert len(rows) == len(TARGETS)
        assert {(row["outcome"], row.get("path", "")) for row in rows} == {("rejected", "")}
        assert upstream.requests == []
        seen += proxy.metrics().encode() + proxy.log.read_bytes()
        seen += b"".join(path.read_bytes() for path in proxy.spans.iterdir())
    for secret in (USER, PASSWORD, QUERY):
        assert not re.search(secret.encode(), seen, re.IGNORECASE)
