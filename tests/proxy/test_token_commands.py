"""Token commands that fail, hang, print too much or leave children behind. All of them are real programs."""

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dyno_proxy.errors import RefusedError
from dyno_proxy.upstream.token import Token
from rigs.both_loops import on_both_loops
from rigs.token_command import Command, jwt, logged, until_it_is
from rigs.until import until

SECRET = "s3cret-of-the-test"  # noqa: S105 - opens nothing


@on_both_loops
async def test_a_failing_command_with_a_token_still_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old token stays in use. One log line says why, and another line says that there is a new token."""
    command = Command(tmp_path)
    token = command.token(refresh_s=0.05)
    await token.authorization()
    command.does(after="exit 3")
    for _ in range(5):
        await asyncio.sleep(0.06)
        assert await token.authorization() == b"Bearer one"
    assert command.runs > 2
    assert logged(caplog) == [
        "endpoint 'e': the token command ended with exit code 3; run it by hand to see why",
    ]
    command.does()
    command.says("two")
    await until_it_is(token, b"Bearer two")
    assert logged(caplog)[1:] == ["endpoint 'e': there is a token again"]


@on_both_loops
async def test_a_command_that_fails_slowly(tmp_path: Path) -> None:
    """The first request after the token's lifetime waits for the command. Later requests don't wait while it fails."""
    command = Command(tmp_path)
    token = command.token(refresh_s=0.05)
    await token.authorization()
    command.waits(after="exit 3")
    await asyncio.sleep(0.06)
    finds_it_over = asyncio.create_task(token.authorization())
    await until(lambda: command.runs == 2, "run 2 of the command")
    assert not finds_it_over.done()
    command.goes_on()
    assert await finds_it_over == b"Bearer one"
    command.waits(after="exit 3")
    for _ in range(20):
        assert await token.authorization() == b"Bearer one"
    assert command.runs in (2, 3)
    command.goes_on()


@on_both_loops
async def test_a_failing_command_without_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Requests are refused at once with the reason. The command isn't run for each, but again after a while."""
    command = Command(tmp_path, after="exit 3")
    token = command.token(rest_s=1.0)
    for _ in range(20):
        with pytest.raises(RefusedError, match="exit code 3") as caught:
            await token.authorization()
        assert (caught.value.status, caught.value.code) == (502, "token_unavailable")
    assert (command.runs, len(logged(caplog))) == (1, 1)
    command.does()
    await asyncio.sleep(1.1)
    assert await token.authorization() == b"Bearer one"


@on_both_loops
async def test_a_failing_command_with_a_token_that_is_over(tmp_path: Path) -> None:
    """A token past its `exp` isn't sent."""
    command = Command(tmp_path)
    command.says(jwt(exp=time.time() + 1))
    token = command.token()
    await token.authorization()
    command.does(after="exit 3")
    await asyncio.sleep(1.1)
    with pytest.raises(RefusedError, match="exit code 3"):
        await token.authorization()


BAD: list[tuple[str, str, str]] = [
    # (what, the script, what is said)
    ("exit code", f"echo {SECRET}; echo {SECRET} >&2; exit 1", "ended with exit code 1"),
    ("nothing", f"echo {SECRET} >&2", "output is empty"),
    ("two lines", f"echo {SECRET}; echo {SECRET}", "must be a bare token"),
    ("with its scheme", f"echo Bearer {SECRET}", "must be a bare token"),
    ("control characters", f"printf '{SECRET}\\001x'", "must be a bare token"),
    ("not ASCII", f"printf '{SECRET}\\351'", "must be a bare token"),
    ("too long", f"yes {SECRET}", "printed more than 32768 bytes"),
    ("killed", f"echo {SECRET}; kill -9 $$", "ended with exit code -9"),
]


@pytest.mark.parametrize(("script", "why"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
@on_both_loops
async def test_what_is_no_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, script: str, why: str, capfd: Any
) -> None:
    """The request is refused with a reason. What the command wrote to either stream appears nowhere."""
    caplog.set_level(logging.DEBUG)
    command = Command(tmp_path)
    command.does(before=f"{script}; exit $?")
    with pytest.raises(RefusedError, match=why) as caught:
        await command.token().authorization()
    out, err = capfd.readouterr()
    assert SECRET not in f"{caught.value} {caplog.text} {out} {err}"


@on_both_loops
async def test_blanks_around_it(tmp_path: Path) -> None:
    """Line ends of any kind and blanks around a token aren't part of it."""
    command = Command(tmp_path)
    command.says(" \t a-token~+/=\r\n\n")
    assert await command.token().authorization() == b"Bearer a-token~+/="


@on_both_loops
async def test_a_child_that_lives_on(tmp_path: Path) -> None:
    """If the command leaves a child behind that keeps its output open, no request waits for it."""
    command = Command(tmp_path, before="sleep 10 &")
    begun_s = time.monotonic()
    assert await command.token().authorization() == b"Bearer one"
    assert time.monotonic() - begun_s < 8


@on_both_loops
async def test_a_command_that_hangs(tmp_path: Path) -> None:
    """A command that hangs is ended at its limit, with the programs that it started."""
    command = Command(tmp_path, before=f"sleep 60 & echo $! > '{tmp_path / 'child'}'; sleep 60")
    begun_s = time.monotonic()
    with pytest.raises(RefusedError, match=r"took more than 0\.7 s"):
        await command.token(timeout_s=0.7).authorization()
    assert time.monotonic() - begun_s < 10
    child = int((tmp_path / "child").read_text())

    def gone() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 0)
            state = Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2]
            return state.startswith("Z")  # dead, and not yet waited for by whoever inherited it
        return True

    await until(gone, "the child to end")


def test_the_end_of_the_loop_ends_the_command(tmp_path: Path) -> None:
    """A proxy that stops leaves no command behind."""
    command = Command(tmp_path, before=f"echo $$ > '{tmp_path / 'pid'}'; exec sleep 60")

    async def leave() -> None:
        command.token().prefetch()
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "", "its pid")

    begun_s = time.monotonic()
    asyncio.run(leave())
    assert time.monotonic() - begun_s < 50  # of the 60 s that it sleeps
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_program_that_vanished(tmp_path: Path) -> None:
    """A command that is missing at the start is refused there.

    If it goes missing later, requests fail with the reason.
    """
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho token\n")
    program.chmod(0o755)
    token = Token("e", env=None, file=None, command=str(program), refresh_s=1.0)
    program.unlink()
    with pytest.raises(RefusedError, match="can't be run: No such file"):
        await token.authorization()
    with pytest.raises(ValueError, match="isn't found"):
        Token("e", env=None, file=None, command=str(program), refresh_s=1.0)
