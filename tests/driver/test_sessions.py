from pathlib import Path

from rigs.driven import drive
from rigs.fake_proxy import answering, fake_proxy
from rigs.fake_upstream import fake_upstream
from rigs.running_proxy import in_thread, running_proxy


async def test_each_request_is_a_session_of_its_own(tmp_path: Path) -> None:
    """Where /endpoints names a session header, every request has another id in it; other endpoints get none."""
    about = {"minerva": {"session_header": "X-ALCF-Session-ID"}}
    async with fake_proxy({"minerva": answering("42"), "metis": answering("42")}, about) as proxy:
        done = await drive(proxy, tmp_path, "-n", "4")
    assert done.code == 0, done.err
    told = {name: [each for each in proxy.received if each.endpoint == name] for name in ("minerva", "metis")}
    ids = [each.headers["X-ALCF-Session-ID"] for each in told["minerva"]]
    assert len(ids) == len(set(ids)) == 5
    assert all(each.isascii() and each.isprintable() and 0 < len(each) <= 128 for each in ids)
    assert not any("X-ALCF-Session-ID" in each.headers for each in told["metis"])


async def test_the_proxy_says_the_header_and_passes_it_on(tmp_path: Path) -> None:
    """`session_header` in dyno.toml is told by GET /endpoints, and the endpoint gets the session ids as they were."""
    config = 'session_header = "X-ALCF-Session-ID"\nmodel = "m"'
    async with (
        fake_upstream(time_scale=0.01) as upstream,
        in_thread(running_proxy(tmp_path, {"e": upstream.url}, config)) as proxy,
    ):
        driven = await drive(proxy, tmp_path / "spans", "-n", "2")
        assert driven.code == 0, driven.err
    told = [dict(request.headers) for request in upstream.requests]
    ids = [headers["X-ALCF-Session-ID"] for headers in told]
    assert len(ids) == len(set(ids)) == 3
    assert all(each in headers["traceparent"] for each, headers in zip(ids, told, strict=True))
