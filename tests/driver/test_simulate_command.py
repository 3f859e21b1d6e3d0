"""`dyno simulate` as a process: its ready lines, its flags, its ends, its errors in one line."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rigs.until import LIMIT_S

COMMAND = [sys.executable, "-m", "dyno", "simulate"]


@contextmanager
def simulate(*flags: str, endpoints: int = 1) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The running process and its ready lines."""
    with subprocess.Popen([*COMMAND, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, [process.stdout.readline() for _ in range(endpoints)]
        finally:
            process.kill()


def ask(url: str, **fields: Any) -> tuple[dict[str, Any], float]:
    """The answer to one unstreamed prompt, and the seconds it took."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()
    started = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(url + "/chat/completions", body), timeout=30) as response:
        assert response.headers["Server"] == "dyno-simulate"
        answer: dict[str, Any] = json.load(response)
    return answer, time.monotonic() - started


def url_of(line: str) -> str:
    return line.split()[-1]


def test_one_line_and_port_for_each_profile() -> None:
    """Each profile is ready on a free port of its own, and says so in the agreed line."""
    with simulate("--profile", "metis", "--profile", "sophia", "--time-scale", "0", endpoints=2) as (_, lines):
        for line, profile in zip(lines, ("metis", "sophia"), strict=True):
            assert re.fullmatch(rf"dyno simulate: {profile} on http://127\.0\.0\.1:\d+/v1\n", line)
        assert ask(url_of(lines[0]))[0]["system_fingerprint"] == "fastcoe"
        assert "response_time" in ask(url_of(lines[1]))[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with 0 at once, also while an answer is under way, and without a word."""
    with simulate("--profile", "metis") as (process, lines):
        address = url_of(lines[0]).removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
        with socket.create_connection((address[0], int(address[1]))) as client:
            body = b'{"stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            client.sendall(head + body)
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
            process.send_signal(number)
            assert process.wait(LIMIT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_constants_change_times() -> None:
    """Fixed part, per-token time and length are flags, for one profile or for all."""
    flags = ("--fixed-s", "0.1", "--fixed-s", "sophia=0.3", "--per-token-s", "0.01", "--spread-s", "0")
    profiles = ("--profile", "metis", "--profile", "sophia")
    with simulate(*profiles, *flags, "--output-tokens", "10", endpoints=2) as (_, lines):
        for line, expected_s in zip(lines, (0.2, 0.4), strict=True):
            answers, took_s = zip(*(ask(url_of(line)) for _ in range(3)), strict=True)
            assert {answer["usage"]["completion_tokens"] for answer in answers} == {10}
            # The machine may be busy, so the quickest answer counts.
            assert expected_s <= min(took_s) < expected_s + 0.5


def test_the_same_seed_gives_the_same_answers() -> None:
    """Two processes with one seed agree on text, length and times; another seed differs."""

    def answers(seed: str) -> list[Any]:
        with simulate("--profile", "metis", "--seed", seed, "--time-scale", "0.0001") as (_, lines):
            replies = [ask(url_of(lines[0]))[0] for _ in range(3)]
        return [(reply["choices"], reply["usage"]["total_latency"], reply["id"]) for reply in replies]

    assert answers("7") == answers("7")
    assert answers("7") != answers("8")


def test_a_script_file_answers_everything(tmp_path: Path) -> None:
    """With --script, every request on any path is answered by the script."""
    script = tmp_path / "script.json"
    script.write_text('[{"status": 503, "headers": {"Retry-After": "9"}}, {"error": "warming up"}]')
    with simulate("--profile", "sophia", "--script", str(script)) as (_, lines):
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            ask(url_of(lines[0]))
        refused.value.close()
    assert refused.value.headers["Retry-After"] == "9"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--profile"),
        (["--profile", "venus"], "invalid choice: 'venus'"),
        (["--profile", "metis", "--listen", "8080"], "--listen 8080: must be HOST:PORT"),
        (["--profile", "metis", "--listen", "127.0.0.1:99999"], "must be HOST:PORT"),
        (["--profile", "metis", "--fixed-s", "-1"], "--fixed-s: '-1' must be a number, 0 or more"),
        (["--profile", "metis", "--fixed-s", "nan"], "--fixed-s: 'nan'"),
        (["--profile", "metis", "--fixed-s", "sophia=1"], "add --profile sophia"),
        (["--profile", "metis", "--output-tokens", "0"], "--output-tokens: '0'"),
        (["--profile", "metis", "--time-scale", "x"], "--time-scale: 'x'"),
        (["--profile", "metis", "--script", "nowhere.json"], "--script nowhere.json: No such file"),
        (["--profile", "metis", "--script", "{tmp}/bad.json"], "bad.json: step 1: needs exactly one action"),
        (["--profile", "metis", "--listen", "127.0.0.1:{used}"], "in use"),
    ],
)
def test_wrong_use_is_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    """Each mistake is one line that names the flag, and exit code 2."""
    (tmp_path / "bad.json").write_text('[{"tokn": "a"}]')
    with socket.create_server(("127.0.0.1", 0)) as used:
        filled = [flag.format(tmp=tmp_path, used=used.getsockname()[1]) for flag in flags]
        ended = subprocess.run([*COMMAND, *filled], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("dyno simulate: ")
    assert message in ended.stderr


def test_help_shows_constants_and_an_example() -> None:
    """--help states the assumed constants and an example."""
    ended = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert "metis     fixed   4.8 s   per token 0.0027 s" in ended.stdout
    assert "example:" in ended.stdout
