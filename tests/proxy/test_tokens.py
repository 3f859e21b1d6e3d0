"""An endpoint's token, from each source: it is fetched once for all who wait, and replaced in time and after a 401."""

import asyncio
import time
from pathlib import Path

import pytest

from dyno_proxy.config.schema import ConfigError, EndpointConfig, TokenConfig
from dyno_proxy.upstream.endpoint import Endpoint
from dyno_proxy.upstream.token import Token
from rigs.both_loops import on_both_loops
from rigs.network import endpoint, upstream
from rigs.proxy_in_process import proxy_in_process
from rigs.raw_http import exchange, request_bytes
from rigs.token_command import Command, jwt, logged, until_it_is
from rigs.until import until

SECRET = "s3cret-of-the-test"  # noqa: S105 - opens nothing


def file_token(file: Path) -> Token:
    return Token("e", env=None, file=str(file), command=None, refresh_s=3600.0)


# One run for all


@on_both_loops
async def test_one_run_for_all_who_wait(tmp_path: Path) -> None:
    """A hundred requests at once run the command once, outside the event loop, which goes on meanwhile."""
    command = Command(tmp_path, before="sleep 0.5")
    token = command.token()
    waiting = [asyncio.create_task(token.authorization()) for _ in range(100)]
    turns = 0
    while not waiting[0].done():
        await asyncio.sleep(0.005)
        turns += 1
    assert set(await asyncio.gather(*waiting)) == {b"Bearer one"}
    assert await token.authorization() == b"Bearer one"
    assert command.runs == 1
    assert turns > 10  # a loop that waits for the command has one


@on_both_loops
async def test_one_who_leaves(tmp_path: Path) -> None:
    """If the first request ends, the command goes on for the others that wait. It also goes on if all of them end."""
    command = Command(tmp_path, before="sleep 0.3")
    token = command.token()
    waiting = [asyncio.create_task(token.authorization()) for _ in range(3)]
    await asyncio.sleep(0.05)
    for leaving in waiting[:2]:
        leaving.cancel()
    assert await waiting[2] == b"Bearer one"

    command.says("two")
    token.expire(b"Bearer one")
    last = asyncio.create_task(token.authorization())
    await asyncio.sleep(0.05)
    last.cancel()
    await until(lambda: command.runs == 2, "run 2 of the command")
    await until_it_is(token, b"Bearer two")
    assert command.runs == 2


@on_both_loops
async def test_it_can_be_there_before_the_first_request(tmp_path: Path) -> None:
    """`prefetch` runs the command for later requests."""
    command = Command(tmp_path)
    token = command.token()
    token.prefetch()
    await until(lambda: command.runs == 1, "run 1 of the command")
    assert await token.authorization() == b"Bearer one"
    assert command.runs == 1


# How long it lasts


@on_both_loops
async def test_it_is_replaced_before_its_time_is_over(tmp_path: Path) -> None:
    """In the last quarter of its lifetime, requests still use the token without a wait, while the next is fetched
    once."""
    command = Command(tmp_path)
    token = command.token(refresh_s=4.0)
    assert await token.authorization() == b"Bearer one"
    fetched_s = time.monotonic()
    command.waits()
    command.says("two")
    await asyncio.sleep(0.5)
    assert (await token.authorization(), command.runs) == (b"Bearer one", 1)
    await asyncio.sleep(fetched_s + 3.2 - time.monotonic())
    for _ in range(20):
        assert await token.authorization() == b"Bearer one"
    command.goes_on()
    await until_it_is(token, b"Bearer two")
    assert command.runs == 2


@on_both_loops
async def test_one_that_is_too_old_is_waited_for(tmp_path: Path) -> None:
    """After a pause in traffic, no request is sent with a token whose lifetime is over."""
    command = Command(tmp_path)
    token = command.token(refresh_s=0.3)
    assert await token.authorization() == b"Bearer one"
    command.says("two")
    await asyncio.sleep(0.4)
    assert await token.authorization() == b"Bearer two"


@on_both_loops
async def test_a_jwt_says_itself_how_long_it_lasts(tmp_path: Path) -> None:
    """`exp` overrides refresh_s, whether it is earlier or later. A token that only looks like a JWT has refresh_s."""
    command = Command(tmp_path)
    command.says(lasting := jwt(exp=time.time() + 3600))
    token = command.token(refresh_s=0.1)
    assert await token.authorization() == f"Bearer {lasting}".encode()
    await asyncio.sleep(0.3)
    await token.authorization()
    assert command.runs == 1

    command.says(ending := jwt(exp=time.time() + 1.0))
    token = command.token(refresh_s=3600)
    assert await token.authorization() == f"Bearer {ending}".encode()
    command.says("next")
    await asyncio.sleep(1.1)
    assert await token.authorization() == b"Bearer next"

    for odd in (
        "a.b.c",
        "..",
        jwt(),
        jwt(exp="soon"),
        jwt(exp=None),
        jwt(exp=True),
        f"x.{'W' * 20_000}.y",
        "x.MWU5OTk.y",
    ):
        command.says(odd)
        token = command.token(refresh_s=3600)
        runs = command.runs
        assert await token.authorization() == f"Bearer {odd}".encode()
        await token.authorization()
        assert command.runs == runs + 1, odd


@on_both_loops
async def test_a_jwt_that_is_already_over(tmp_path: Path) -> None:
    """A token that was just fetched is used even if it seems expired: this machine's clock may be wrong.

    The command isn't run for each request.
    """
    command = Command(tmp_path)
    command.says(over := jwt(exp=time.time() - 60))
    token = command.token(rest_s=5.0)
    for _ in range(10):
        assert await token.authorization() == f"Bearer {over}".encode()
    assert command.runs == 1


# Refused by the endpoint


@on_both_loops
async def test_a_refused_token_is_fetched_again(tmp_path: Path) -> None:
    """After a 401 the command runs once for all requests that got it, but not for a token that was replaced
    meanwhile."""
    command = Command(tmp_path)
    token = command.token()
    one = await token.authorization()
    command.says("two")
    for _ in range(20):
        token.expire(one)
    assert set(await asyncio.gather(*(token.authorization() for _ in range(20)))) == {b"Bearer two"}
    assert command.runs == 2
    token.expire(one)
    assert await token.authorization() == b"Bearer two"
    assert command.runs == 2


@on_both_loops
async def test_a_token_that_stays_refused(tmp_path: Path) -> None:
    """A refused token doesn't run the command at each request: requests use the token until a while has passed."""
    command = Command(tmp_path)
    token = command.token(rest_s=1.0)
    for _ in range(20):
        token.expire(await token.authorization())
    assert command.runs == 1
    await asyncio.sleep(1.1)
    command.says("two")
    assert await token.authorization() == b"Bearer two"
    assert command.runs == 2


async def test_through_the_proxy(tmp_path: Path) -> None:
    """A 401 passes to its client, and the next request carries a new token."""
    command = Command(tmp_path)
    async with upstream(accepts=b"Bearer two") as seen:
        made = endpoint(f"http://127.0.0.1:{seen.port}/v1")
        made.token = command.token()
        ask = request_bytes("GET", "/e/v1/models", ("Authorization", "Bearer the-clients-own"))
        async with proxy_in_process(made, tmp_path / "spans") as proxy:
            assert (await exchange(proxy.url, ask)).status == 401
            command.says("two")
            assert (await exchange(proxy.url, ask)).status == 200
            assert (await exchange(proxy.url, ask)).status == 200
            assert [(await proxy.row(number))["outcome"] for number in (1, 2, 3)] == ["auth", "ok", "ok"]
    assert command.runs == 2
    sent = [line for head in seen.heads for line in head.split(b"\r\n") if line.lower().startswith(b"authorization")]
    assert sent == [b"Authorization: Bearer one", b"Authorization: Bearer two", b"Authorization: Bearer two"]


# Files and the environment


async def test_a_file_that_is_rotated(tmp_path: Path) -> None:
    """The file's new token is soon in use, whether the file was overwritten or replaced, and even without traffic."""
    file = tmp_path / "token"
    file.write_text("one\n")
    token = file_token(file)
    assert await token.authorization() == b"Bearer one"
    file.write_text("two\n")
    await until_it_is(token, b"Bearer two")
    (tmp_path / "next").write_text("three")
    (tmp_path / "next").rename(file)
    await until_it_is(token, b"Bearer three")
    file.write_text("four\n")
    await asyncio.sleep(5.2)
    assert await token.authorization() == b"Bearer four"


@on_both_loops
async def test_a_file_whose_token_was_refused(tmp_path: Path) -> None:
    """After a 401 the file is read again for the next request, and not only after its usual time."""
    file = tmp_path / "token"
    file.write_text("one\n")
    token = file_token(file)
    used = await token.authorization()
    file.write_text("two\n")
    token.expire(used)
    assert await token.authorization() == b"Bearer two"


@on_both_loops
async def test_a_file_that_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the file is empty between two writes, or is gone, the old token stays in use, and one line says so."""
    file = tmp_path / "token"
    file.write_text("one\n")
    token = file_token(file)
    for content in ("", None):
        file.unlink() if content is None else file.write_text(content)
        token.expire(b"Bearer one")
        assert await token.authorization() == b"Bearer one"
    assert logged(caplog) == ["endpoint 'e': the token file is empty"]


def test_sources_that_cannot_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such sources are refused at the start. The message names the key, and doesn't contain what they hold."""
    (tmp_path / "empty").touch()
    (tmp_path / "two").write_text(f"{SECRET}\n{SECRET}\n")
    monkeypatch.setenv("BAD_TOKEN", f"Bearer {SECRET}")
    monkeypatch.setenv("EMPTY_TOKEN", "")
    cases = [
        (TokenConfig(env="NO_TOKEN"), "NO_TOKEN is not set"),
        (TokenConfig(env="EMPTY_TOKEN"), "EMPTY_TOKEN is not set"),
        (TokenConfig(env="BAD_TOKEN"), "BAD_TOKEN must be a bare token"),
        (TokenConfig(file="nowhere"), "token file nowhere can't be read: No such file"),
        (TokenConfig(file=str(tmp_path / "empty")), "is empty"),
        (TokenConfig(file=str(tmp_path / "two")), "must be a bare token"),
        (TokenConfig(command=""), "isn't found"),
        (TokenConfig(command="no-such-program --now"), "'no-such-program' isn't found"),
        (TokenConfig(command="sh 'open"), "No closing quotation"),
        (TokenConfig(command="true", refresh_s=0.0), "refresh_s must be more than 0"),
    ]
    for source, why in cases:
        with pytest.raises(ConfigError) as caught:
            Endpoint("e", EndpointConfig(url="http://h.test/v1", token=source))
        assert str(caught.value).startswith("endpoints.e.token: ")
        assert why in str(caught.value)
        assert SECRET not in str(caught.value)


async def test_the_environments_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token from a variable stays as it was at the start, because a process's environment doesn't change."""
    monkeypatch.setenv("THE_TOKEN", f" {jwt(exp=1)}\n")
    token = Token("e", env="THE_TOKEN", file=None, command=None, refresh_s=0.01)
    value = await token.authorization()
    assert value == f"Bearer {jwt(exp=1)}".encode()
    token.expire(value)
    assert await token.authorization() == value
