"""Client keys: which files are valid, which headers carry a key, and that a key goes no further than the proxy."""

from pathlib import Path

import pytest

from dyno_proxy.errors import RefusedError
from dyno_proxy.server.keys import ClientKeys
from rigs.network import endpoint, upstream
from rigs.proxy_in_process import proxy_in_process
from rigs.raw_http import exchange, request_bytes


def keys_of(folder: Path, content: bytes) -> ClientKeys:
    (folder / "keys").write_bytes(content)
    return ClientKeys(folder / "keys")


SHOWN: list[tuple[str | None, str | None, bool]] = [
    # (Authorization, X-Api-Key, whether that opens)
    ("Bearer key-one", None, True),
    ("bearer key-two", None, True),
    ("Bearer   key-two ", None, True),
    (None, "key-one", True),
    ("Bearer wrong", "key-two", True),
    ("Bearer key-one", "wrong", True),
    (None, None, False),
    ("", "", False),
    ("Bearer", None, False),
    ("Bearer ", " ", False),
    ("key-one", None, False),
    ("Basic key-one", None, False),
    ("Bearer key-on", None, False),
    ("Bearer key-one1", None, False),
    ("Bearer KEY-ONE", None, False),
    ("Bearer key-one key-two", None, False),
    ("Bearer # two clients", None, False),
    ("Bearer kéy-one", "\udcff", False),
    (None, "Bearer key-one", False),
    (None, "key-one,key-two", False),
]


@pytest.mark.parametrize(("authorization", "api_key", "opens"), SHOWN)
def test_what_opens(tmp_path: Path, authorization: str | None, api_key: str | None, opens: bool) -> None:
    """A key of the file is accepted as a bearer token or in Anthropic's header. A similar key isn't."""
    keys = keys_of(tmp_path, b"# two clients\n\nkey-one\n  key-two\r\n")
    if opens:
        keys.check(authorization, api_key)
        return
    with pytest.raises(RefusedError) as caught:
        keys.check(authorization, api_key)
    assert (caught.value.status, caught.value.code) == (401, "invalid_client_key")
    assert "key-one" not in str(caught.value)


BAD: list[tuple[bytes, str]] = [
    (b"", "holds no key"),
    (b"# one\n\n  \n", "holds no key"),
    (b"good\nkey with blanks\n", "line 2"),
    ("größe key\n".encode(), "line 1"),
    (b"good # whose it is\n", "line 1"),
    (b"good\n\nk\x00y\n", "line 3"),
    ("schlüssel\n".encode(), "line 1"),
    (b"\xff\xfek\x00e\x00y\x00\n\x00", "line 1"),
]


@pytest.mark.parametrize(("content", "why"), BAD)
def test_files_that_cannot_work(tmp_path: Path, content: bytes, why: str) -> None:
    """A file without a key, or with a line that no client could send, is refused.

    The message doesn't repeat its content.
    """
    with pytest.raises(ValueError, match=why) as caught:
        keys_of(tmp_path, content)
    assert not [word for word in ("good", "blanks", "whose", "schl") if word in str(caught.value)]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The system's own error is raised. It says why the file can't be read."""
    with pytest.raises(FileNotFoundError):
        ClientKeys(tmp_path / "nowhere")


def test_keys_are_not_kept(tmp_path: Path) -> None:
    """The text that a crash report might show contains no key."""
    keys = keys_of(tmp_path, b"key-one\nkey-two\n")
    assert "key-" not in repr(vars(keys))


async def test_no_key_is_forwarded(tmp_path: Path) -> None:
    """Whichever header a key came in, neither goes on to the endpoint, nor into the row."""
    keys = keys_of(tmp_path, b"key-one\nkey-two\n")
    async with (
        upstream() as seen,
        proxy_in_process(endpoint(f"http://127.0.0.1:{seen.port}/v1"), tmp_path / "spans", keys) as proxy,
    ):
        shown = [
            [("Authorization", "Bearer key-one")],
            [("X-Api-Key", "key-two")],
            [("x-api-key", "key-two"), ("authorization", "Bearer key-one"), ("X-Own", "1")],
            [("X-Api-Key", "wrong")],
        ]
        answers = [await exchange(proxy.url, request_bytes("GET", "/e/v1/models", *headers)) for headers in shown]
        rows = [await proxy.row(number) for number in range(1, 5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 401]
    assert ("WWW-Authenticate", "Bearer") in answers[3].headers
    assert len(seen.heads) == 3
    assert b"X-Own: 1" in seen.heads[2]
    assert not [head for head in seen.heads if b"key" in head.lower() or b"authorization" in head.lower()]
    assert (rows[3]["outcome"], rows[3]["error_type"]) == ("rejected", "invalid_client_key")
    assert "key-" not in repr(rows)
