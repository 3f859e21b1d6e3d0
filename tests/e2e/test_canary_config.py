"""A configuration that can't be used holds secrets: the line that refuses it doesn't repeat them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rigs.canaries import Canaries


@pytest.mark.parametrize(
    "config",
    [
        'url = "https://user:{}@host/v1"',
        'url = "ftp://user:{}@host/v1"',
        'url = "user:{}@host/v1"',
        'url = "https://user:{}@höst/v1"',
        'url = "https://user:{}@host:port/v1"',
        'url = "https://user:{}@[host/v1"',
        'url = "https://host/v1?api_key={}"',
        'url = "https://host/v1#{}"',
        'url = "http://user:{}@host/v1"\nca_file = "x"',
        'url = "http://h/v1"\nproxy = "http://user:{}@host/v1"',
        'url = "http://h/v1"\nproxy = "user:{}@host:1"',
        'url = "http://h/v1"\nproxy = "http://user:{}@host:port"',
        'url = "http://h/v1"\nproxy = "http://user:{}@[host:1"',
        'url = "http://h/v1"\nproxy = ["http://user:{}@host:1"]',
        'url = "http://h/v1"\ntoken = "{}"',
        'url = "http://h/v1"\ntoken = ["{}"]',
        'url = "http://h/v1"\napi_key = "{}"',
        'url = "http://h/v1"\ntoken.value = "{}"',
        'url = "http://h/v1"\ntoken.env = "{}',
        'url = "http://h/v1"\ntoken.command = "cat \'{}"',
        'url = "http://h/v1"\ntoken.command = "no-such-program --key {}"',
        'url = "http://h/v1"\ntoken.file = "two_lines"',
        'url = "http://h/v1"\ntoken.env = "CANARY_TWO_LINES"',
        'url = "http://h/v1"\n[proxy]\nkeys_file = "three_words"',
        'url = "http://h/v1"\npower_w = "{}"',
        'url = "http://h/v1"\nretries = "{}"',
    ],
)
def test_a_refused_configuration_is_not_repeated(tmp_path: Path, config: str) -> None:
    """A configuration that can't be used is refused in one line, which contains none of its secrets."""
    secret = Canaries().plant("the configuration")
    (tmp_path / "dyno.toml").write_text(f"[endpoints.e]\n{config.replace('{}', secret)}\n", encoding="utf-8")
    (tmp_path / "two_lines").write_text(f"{secret}\n{secret}\n", encoding="utf-8")
    (tmp_path / "three_words").write_text(f"{secret} {secret} {secret}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "dyno", "proxy", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env={**os.environ, "CANARY_TWO_LINES": f"{secret}\n{secret}"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert len(said.splitlines()) == 1
    assert secret.encode() not in said
