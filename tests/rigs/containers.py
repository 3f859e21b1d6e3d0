"""A program with process numbers of its own, as in a container, on the same files and with the same host name."""

import os
import shutil
import subprocess

import pytest


def container(*command: str, before: int = 0) -> list[str]:
    """The command with process numbers of its own, after so many processes. Skips where the kernel has no such."""
    if shutil.which("unshare") is None:
        pytest.skip("process numbers of its own want the program `unshare` (Linux)")
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.getuid():
        words[1:1] = ["--user", "--map-root-user"]
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"process numbers of its own aren't allowed here: {tried.stderr.strip()}")
    return [*words, "sh", "-c", "/bin/true; " * before + '"$@"; exit $?', "sh", *command]
