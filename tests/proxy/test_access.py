"""Who may use a listener on loopback that asks for no key: this machine's programs, but no web pages and no others."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from multidict import CIMultiDict

from dyno_proxy.config.schema import Config, ConfigError, EndpointConfig, MirrorConfig, ProxyConfig, TokenConfig
from dyno_proxy.errors import RefusedError
from dyno_proxy.process.proxy import Proxy, _check_users
from dyno_proxy.server.access import Access, guarded
from dyno_proxy.server.peer_user import can_tell, peer_uid
from dyno_proxy.server.web_pages import WebPages
from dyno_proxy.upstream.endpoint import Endpoint
from rigs.network import upstream
from rigs.proxy_process import ProxyProcess, proxy_process
from rigs.raw_http import exchange
from rigs.until import until

GOOD_HOSTS = [
    *("localhost", "LOCALHOST:8080", "a.localhost", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.8.9.1", "[::1]"),
    *("[::1]:8080", "dyno.example", "Dyno.Example:80", "named:8080"),
]
BAD_HOSTS = [
    *("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8080", "10.0.0.1"),
    *(
        "notlocalhost",
        "[::2]",
        "8.8.8.8",
        "a b",
        "localhost,evil.example",
        "localhost@evil.example",
        "named",
        "xlocalhost",
    ),
    *("dyno.example.evil.example", "localhost/evil.example", "2130706433"),
]


def refusal(pages: WebPages, /, *, may_navigate: bool = False, **headers: str) -> str | None:
    """The code that such headers are refused with; `_` in a name stands for `-`."""
    shown = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    try:
        pages.check(shown, may_navigate=may_navigate)
    except RefusedError as error:
        return error.code
    return None


def test_hosts() -> None:
    """Only names that always mean this machine, and configured ones, may stand in Host. DNS rebinding brings others."""
    pages = WebPages(("dyno.example", "named:8080"), ())
    assert [host for host in GOOD_HOSTS if refusal(pages, Host=host)] == []
    assert [host for host in BAD_HOSTS if refusal(pages, Host=host) != "foreign_host"] == []
    assert refusal(pages) is None  # a browser always sends one


OTHERS: list[tuple[dict[str, str], str | None]] = [
    ({}, None),
    ({"Origin": "http://localhost:8080"}, None),  # a page that came from an endpoint through the proxy
    ({"Origin": "https://app.example"}, None),
    ({"Origin": "https://app.example", "Sec_Fetch_Site": "cross-site"}, None),
    ({"Sec_Fetch_Site": "none"}, None),
    ({"Sec_Fetch_Site": "same-origin"}, None),
    ({"Origin": "https://evil.example"}, "foreign_page"),
    ({"Origin": "http://localhost:3000"}, "foreign_page"),
    ({"Origin": "https://app.example.evil.example"}, "foreign_page"),
    ({"Origin": "http://app.example"}, "foreign_page"),
    ({"Origin": "null"}, "foreign_page"),
    ({"Origin": ""}, "foreign_page"),
    ({"Sec_Fetch_Site": "cross-site"}, "foreign_page"),
    ({"Sec_Fetch_Site": "same-site"}, "foreign_page"),
    ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, "foreign_page"),
    ({"Sec_Fetch_Site": "something new"}, "foreign_page"),
]


@pytest.mark.parametrize(("headers", "code"), OTHERS)
def test_pages_of_other_origins(headers: dict[str, str], code: str | None) -> None:
    """A page may ask only if its origin is configured or is the proxy itself."""
    headers = {"Host": "localhost:8080", **headers}
    assert refusal(WebPages((), ("https://app.example",)), may_navigate=False, **headers) == code


def test_a_link_may_lead_to_the_proxys_own_pages() -> None:
    """Who follows a link reads the page; the page with the link can't."""
    pages = WebPages((), ())
    navigation = {"Host": "localhost", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert refusal(pages, may_navigate=True, **navigation) is None
    assert refusal(pages, may_navigate=True, **navigation | {"Host": "evil.example"}) == "foreign_host"
    assert refusal(pages, may_navigate=True, **navigation | {"Sec_Fetch_Mode": "no-cors"}) == "foreign_page"


def test_which_listeners_are_open() -> None:
    """With keys, or beyond loopback, keys alone decide: a page doesn't know them."""
    for listen, others in (("127.0.0.1:0", False), ("[::1]:0", False), ("localhost:0", False)):
        open_one = Access.of(ProxyConfig(listen=listen), listen, None)
        assert open_one.own_user_alone is not others
        with pytest.raises(RefusedError):
            open_one.check(CIMultiDict({"Host": "evil.example"}))  # type: ignore[arg-type]
    assert not Access.of(ProxyConfig(allow_other_users=True), "127.0.0.1:0", None).own_user_alone
    beyond = Access.of(ProxyConfig(), "0.0.0.0:0", None)
    assert not beyond.own_user_alone
    assert beyond.check(CIMultiDict({"Host": "evil.example"})) is None  # type: ignore[arg-type]


def test_which_endpoints_are_guarded() -> None:
    """Those that are shown a credential of the proxy's, and those whose mirror is."""
    token = TokenConfig(command="true")
    endpoints = {
        "open": EndpointConfig(url="http://h/v1"),
        "token": EndpointConfig(url="http://h/v1", token=token, model="m"),
        "proxy": EndpointConfig(url="http://h/v1", proxy="http://u:p@h:1"),
        "plain proxy": EndpointConfig(url="http://h/v1", proxy="http://h:1"),
        "mirrored": EndpointConfig(url="http://h/v1", mirror=MirrorConfig(to="token", share=0.1)),
    }
    made = {name: Endpoint(name, config) for name, config in endpoints.items()}
    assert guarded(made) == {"token", "proxy", "mirrored"}


def test_a_system_that_tells_nothing_demands_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody tells whose program a client is (macOS, some containers), the proxy doesn't start without keys."""
    made = {"e": Endpoint("e", EndpointConfig(url="http://h/v1", token=TokenConfig(command="true")))}
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert not can_tell()
    with pytest.raises(ConfigError, match=r"proxy\.keys_file is missing.*allow_other_users"):
        _check_users(Access(own_user_alone=True), made)
    _check_users(Access(own_user_alone=False), made)
    _check_users(Access(own_user_alone=True), {})


async def test_a_refused_proxy_takes_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed proxy has left in the spans folder waits for one that serves."""
    left = tmp_path / "spans" / ".open-h_1_20260101T000000000000Z"
    left.parent.mkdir()
    left.write_bytes(b"")
    endpoint = EndpointConfig(url="http://h/v1", token=TokenConfig(command="true"))
    monkeypatch.delattr(socket, "AF_NETLINK")
    with pytest.raises(ConfigError, match="keys_file is missing"):
        Proxy(Config(proxy=ProxyConfig(spans=str(left.parent)), endpoints={"e": endpoint}))
    assert list(left.parent.iterdir()) == [left]


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a peer's user")


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_tells_whose_socket_it_is(host: str) -> None:
    """The user of the connection's other end is ours, until its program closes it: then nobody knows."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
        with accepted:
            assert peer_uid(accepted.getsockname(), accepted.getpeername()) == os.geteuid()
            client.close()
            # The kernel says 0 of a socket without a program. Taken for root, it would open the proxy to everybody.
            assert peer_uid(accepted.getsockname(), accepted.getpeername()) is None


def test_what_is_no_connection_has_no_user() -> None:
    """Not even where something listens at the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert peer_uid(("127.0.0.1", 9), server.getsockname()) is None


root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be other users")

AS_OTHER = """
import encodings.idna, os, socket, sys
os.setgroups([]); os.setgid(65533); os.setuid({uid})
client = socket.create_connection(("127.0.0.1", {port}))
client.sendall(b"GET /e/v1/models HTTP/1.1\\r\\nHost: localhost\\r\\n{header}Connection: close\\r\\n\\r\\n")
{then}
while data := client.recv(65536):
    sys.stdout.buffer.write(data)
"""


async def ask_as(uid: int, proxy: ProxyProcess, header: str = "", then: str = "") -> bytes:
    """The answer to a request by a process of this user."""
    port = int(proxy.url.rpartition(":")[2])
    code = AS_OTHER.format(uid=uid, port=port, header=header, then=then)
    asking = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    return (await asking.communicate())[0]


@linux
@root
async def test_other_users_of_the_machine(tmp_path: Path) -> None:
    """Another user doesn't spend the proxy's token, even one who is gone before anybody looks. Root does."""
    async with upstream() as seen:
        endpoints = {"e": f"http://127.0.0.1:{seen.port}/v1"}
        environment = {"DYNO_ENDPOINTS_E_TOKEN_ENV": "SECRET", "SECRET": "hidden"}
        async with proxy_process(tmp_path, endpoints, **environment) as proxy:
            answer = await ask_as(65533, proxy)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"WWW-Authenticate: Bearer" in answer
            assert b"allow_other_users" in answer
            await ask_as(65533, proxy, then="client.close(); raise SystemExit")
            assert b" 200 " in await ask_as(0, proxy)
            await until(lambda: len(proxy.rows()) >= 3, "three rows")
            assert [row.get("error_type") for row in proxy.rows()] == ["other_user", "other_user", None]
            assert len(seen.heads) == 1
        environment["DYNO_PROXY_ALLOW_OTHER_USERS"] = "true"
        async with proxy_process(tmp_path, endpoints, **environment) as proxy:
            assert b" 200 " in await ask_as(65533, proxy)
        keys = tmp_path / "keys"
        keys.write_text("alice key-of-alice\n")
        environment = {**environment, "DYNO_PROXY_ALLOW_OTHER_USERS": "false", "DYNO_PROXY_KEYS_FILE": str(keys)}
        async with proxy_process(tmp_path, endpoints, **environment) as proxy:
            assert b" 200 " in await ask_as(65533, proxy, header="Authorization: Bearer key-of-alice\\r\\n")
            assert b" 401 " in await ask_as(65533, proxy)

            def named() -> list[str]:
                return [row["client"] for row in proxy.rows() if "client" in row]

            await until(named, "a row with a client's name")
            assert named() == ["alice"]


@linux
@root
async def test_without_a_credential_everybody_may_ask(tmp_path: Path) -> None:
    """The proxy then gives nothing that the other user couldn't have directly."""
    async with (
        upstream() as seen,
        proxy_process(tmp_path, {"e": f"http://127.0.0.1:{seen.port}/v1"}) as proxy,
    ):
        assert b" 200 " in await ask_as(65533, proxy)


def get(path: str, *lines: str, method: str = "GET", host: str = "localhost") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "Connection: close", "", ""]).encode()


async def test_pages_and_rebinding_end_to_end(tmp_path: Path) -> None:
    """Neither endpoints nor the proxy's own pages answer a foreign page. Each refused request has its row."""
    async with (
        upstream() as seen,
        proxy_process(tmp_path, {"e": f"http://127.0.0.1:{seen.port}/v1"}, proxy='hosts = ["dyno.example"]') as proxy,
    ):
        for path in ("/e/v1/models", "/metrics", "/endpoints", "/healthz"):
            assert (await exchange(proxy.url, get(path, host="evil.example"))).status == 403
            assert (await exchange(proxy.url, get(path, "Origin: https://evil.example"))).status == 403
            assert (await exchange(proxy.url, get(path, "Sec-Fetch-Site: cross-site"))).status == 403
            assert (await exchange(proxy.url, get(path, host="dyno.example"))).status == 200
        await until(lambda: len(proxy.rows()) >= 4, "four rows")
        types = [(row.get("error_type"), row["endpoint"]) for row in proxy.rows()]
        assert types == [("foreign_host", "e"), ("foreign_page", "e"), ("foreign_page", "e"), (None, "e")]


async def test_metrics_have_their_listener(tmp_path: Path) -> None:
    """With metrics_listen, /metrics isn't on the clients' address, on loopback neither."""
    async with (
        upstream() as seen,
        proxy_process(
            tmp_path, {"e": f"http://127.0.0.1:{seen.port}/v1"}, proxy='metrics_listen = "127.0.0.1:0"'
        ) as proxy,
    ):
        assert (await exchange(proxy.url, get("/metrics"))).status == 404
        assert (await exchange(proxy.url, get("/healthz"))).status == 200


PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")


@pytest.mark.parametrize("with_keys", [False, True])
async def test_a_page_that_may_ask(tmp_path: Path, with_keys: bool) -> None:
    """Its preflight needs no key, and it can read every answer: an endpoint's, a refusal, a page of the proxy's."""
    (tmp_path / "keys").write_text("key\n")
    config = 'cors_origins = ["https://app.example"]\n' + ('keys_file = "keys"\n' if with_keys else "")
    origin = "Origin: https://app.example"
    async with (
        upstream() as seen,
        proxy_process(tmp_path, {"e": f"http://127.0.0.1:{seen.port}/v1"}, proxy=config) as proxy,
    ):
        preflight = get("/e/v1/chat/completions", origin, *PREFLIGHT, method="OPTIONS")
        answer = await exchange(proxy.url, preflight)
        assert answer.status == 204
        assert dict(answer.headers)["Access-Control-Allow-Methods"] == "POST"
        assert dict(answer.headers)["Access-Control-Allow-Headers"] == "authorization,content-type"
        assert seen.heads == []
        foreign = get("/e/v1/x", "Origin: https://evil.example", *PREFLIGHT, method="OPTIONS")
        assert (await exchange(proxy.url, foreign)).status == (401 if with_keys else 403)

        key = ("Authorization: Bearer key",)
        for path, status in (("/e/v1/models", 200), ("/nobody/v1/models", 404), ("/healthz", 200)):
            answer = await exchange(proxy.url, get(path, origin, *key))
            assert (answer.status, answer.content) == (status, answer.content)
            assert [value for name, value in answer.headers if name == "Access-Control-Allow-Origin"] == [origin[8:]]
        plain = await exchange(proxy.url, get("/e/v1/models", *key))
        assert b"Access-Control" not in plain.head
        await until(lambda: len(proxy.rows()) >= 4, "four rows")
        assert len(proxy.rows()) == 4  # a preflight has none
