"""TLS to an endpoint: which authorities are trusted, which certificate is shown, and which files can't work."""

import asyncio
import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from dyno_proxy.config.schema import ConfigError
from rigs.both_loops import on_both_loops
from rigs.network import Authority, ask, endpoint, frank_upstream, outcome, upstream
from rigs.until import LIMIT_S

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@on_both_loops
async def test_an_authority_of_its_own(authority: Authority, tmp_path: Path) -> None:
    """With `ca_file` the endpoint of a private authority is reached. Its name is sent, and HTTP/1.1 is negotiated."""
    async with upstream(authority.server("localhost")) as seen:
        made = endpoint(f"https://localhost:{seen.port}/v1", ca_file=authority.file)
        answer, row = await ask(made, tmp_path, times=2)
    assert (answer.body, outcome(answer, row)) == (b"ok", (200, "ok", None))
    assert (seen.connections, row["connection_reused"]) == (1, True)
    assert (seen.alpn, seen.names) == (["http/1.1"], ["localhost"])


@on_both_loops
async def test_certificates_that_do_not_fit(authority: Authority, tmp_path: Path) -> None:
    """An unknown authority, another host's name and an expired certificate are refused, each with its own reason."""
    stranger = trustme.CA()
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    cases = [
        (authority.server(), None),
        (authority.server(), str(tmp_path / "stranger.pem")),
        (authority.server("other.test"), authority.file),
        (authority.server(not_before=LONG_AGO, not_after=LONG_AGO + datetime.timedelta(days=1)), authority.file),
    ]
    for number, (tls, ca_file) in enumerate(cases):
        async with upstream(tls) as seen:
            made = endpoint(f"https://127.0.0.1:{seen.port}/v1", ca_file=ca_file)
            answer, row = await ask(made, tmp_path / str(number))
        assert outcome(answer, row) == (502, "upstream_unreachable", "tls_certificate"), number
        assert not seen.heads, number


@on_both_loops
async def test_an_authority_replaces_the_systems(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's authorities are trusted without `ca_file`, but not beside it."""
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)  # OpenSSL's own variable for the system's store
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for ca_file, error_type in ((None, None), (str(tmp_path / "other.pem"), "tls_certificate")):
        async with upstream(authority.server()) as seen:
            made = endpoint(f"https://127.0.0.1:{seen.port}/v1", ca_file=ca_file)
            _, row = await ask(made, tmp_path / str(error_type))
        assert row.get("error_type") == error_type


@on_both_loops
async def test_client_certificates(authority: Authority, tmp_path: Path) -> None:
    """A server that requires a certificate gets it, from one file or two.

    Without it, or with another's, the server refuses.
    """
    mine, strangers = authority.ca.issue_cert("client.test"), trustme.CA().issue_cert("client.test")
    whole = authority.write("whole.pem", mine.private_key_and_cert_chain_pem)
    certificate = authority.write("certificate.pem", *mine.cert_chain_pems)
    key = authority.write("key.pem", mine.private_key_pem)
    other = authority.write("other.pem", strangers.private_key_and_cert_chain_pem)
    cases: list[tuple[dict[str, Any], int]] = [
        ({"client_cert_file": whole}, 200),
        ({"client_cert_file": certificate, "client_key_file": key}, 200),
        ({"client_cert_file": other}, 502),
        ({}, 502),
    ]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for number, (files, status) in enumerate(cases):
            tls = authority.server(wants_client=True)
            tls.minimum_version = tls.maximum_version = version
            with frank_upstream(tls) as port:
                made = endpoint(f"https://127.0.0.1:{port}/v1", ca_file=authority.file, **files)
                answer, row = await ask(made, tmp_path / f"{version.name}{number}")
            expected = (200, "ok", None) if status == 200 else (502, "upstream_unreachable", "tls")
            assert outcome(answer, row) == expected, (version, files)


@on_both_loops
async def test_what_speaks_no_tls(tmp_path: Path) -> None:
    """An https URL of a plain HTTP server is a TLS fault.

    A server that never answers the handshake ends at the limit.
    """

    async def say_http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()
        writer.close()

    for name, serve, expected in (
        ("plain", say_http, (502, "upstream_unreachable", "tls")),
        ("silent", say_nothing, (504, "upstream_timeout", "connect_timeout")),
    ):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        made = endpoint(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", connect_s=0.5)
        answer, row = await ask(made, tmp_path / name)
        assert outcome(answer, row) == expected
        server.close()
    await asyncio.wait_for(left.wait(), LIMIT_S)  # the connection that timed out is closed


def test_tls_files_that_cannot_work(authority: Authority) -> None:
    """Each mistake is one line at the start that names the key, the file and the fault. No password is asked for."""
    mine, other = authority.ca.issue_cert("a.test"), authority.ca.issue_cert("b.test")
    certificate = authority.write("certificate.pem", *mine.cert_chain_pems)
    key = authority.write("key.pem", mine.private_key_pem)
    foreign_key = authority.write("foreign-key.pem", other.private_key_pem)
    text = authority.write("text.pem", b"not a certificate\n")
    damaged = authority.write(
        "damaged.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", mine.private_key_pem
    )
    loaded = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    encrypted = authority.write(
        "encrypted.pem",
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        ),
    )
    folder = str(authority.folder)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"ca_file": "/nowhere.pem"}, "ca_file: /nowhere.pem", "no such file"),
        ({"ca_file": folder}, f"ca_file: {folder}", "is a directory"),
        ({"ca_file": text}, f"ca_file: {text}", "holds no certificate"),
        ({"ca_file": damaged}, f"ca_file: {damaged}", "is invalid"),
        ({"client_cert_file": "/nowhere.pem"}, "client_cert_file: /nowhere.pem", "no such file"),
        ({"client_cert_file": text}, f"client_cert_file: {text}", "holds no certificate"),
        ({"client_cert_file": certificate}, f"client_cert_file: {certificate}", "name the key's file"),
        ({"client_cert_file": damaged}, f"client_cert_file: {damaged}", "invalid"),
        ({"client_cert_file": certificate, "client_key_file": "/nowhere.pem"}, "client_key_file: /nowhere", "no such"),
        ({"client_cert_file": certificate, "client_key_file": certificate}, "client_key_file", "holds no private key"),
        ({"client_cert_file": certificate, "client_key_file": foreign_key}, "client_key_file", "doesn't belong"),
        ({"client_cert_file": certificate, "client_key_file": encrypted}, "client_key_file", "is encrypted"),
    ]
    for files, where, why in cases:
        with pytest.raises(ConfigError) as caught:
            endpoint("https://h.test/v1", **files)
        said = str(caught.value)
        assert said.startswith(f"endpoints.e.{where}"), said
        assert why in said, said
        assert "\n" not in said
    endpoint("https://h.test/v1", client_cert_file=certificate, client_key_file=key)
