"""What a terminal is written: no control character of a model's name, an id or a message reaches it raw."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.controls import visible
from dyno_analysis.errors import InputError
from rigs.stored_spans import prompts, write
from rigs.terminal import read_all

# Sets the window's title; clears the screen, by an 8-bit CSI; reverses the direction of the text.
EVIL = "m\x1b]0;owned\x07\x9b2J\u202egpt"
SHOWN = "m\\u001b]0;owned\\u0007\\u009b2J\\u202egpt"


def on_a_terminal(*arguments: str | Path) -> str:
    """What the command writes to a terminal, both streams together."""
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "dyno", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    with subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=environment) as process:
        os.close(secondary)
        written = read_all(primary)
        process.wait(60)
    os.close(primary)
    return written


COMMANDS = [
    ("sql", "SELECT model, response_id FROM spans LIMIT 1"),
    *(("sql", "SELECT model FROM spans LIMIT 1", "--format", form) for form in ("csv", "json", "markdown")),
    ("report",),
    ("report", "--endpoints", f"{EVIL},other"),
    ("report", EVIL),
    ("trace", "TRACE"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments).replace(EVIL, "evil"))
def test_nothing_reaches_it_raw(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Tables, other formats, a trace, and errors that name what was stored or asked for."""
    rows = [row | {"model": EVIL, "response_id": EVIL, "endpoint": EVIL, "name": f"chat {EVIL}"} for row in prompts(2)]
    write(tmp_path, rows)
    words = [str(rows[0]["trace_id"]) if word == "TRACE" else word for word in arguments]
    written = on_a_terminal(*words, "--spans", tmp_path)
    for raw in ("\x1b]0;", "\x07", "\x9b", "\u202e"):
        assert raw not in written, written
    assert "\\u001b]0;owned" in written.lower()


@given(st.text())
def test_visible_text_has_no_controls(text: str) -> None:
    """Every other character stays as it is."""
    seen = visible(text)
    assert not any((each < " " and each not in "\t\n") or "\x7f" <= each <= "\x9f" for each in seen)
    assert len(seen) >= len(text)
    assert (seen == text) == (not any(visible(each) != each for each in text))


def test_messages_are_visible_everywhere() -> None:
    """An error's message is, whoever prints it."""
    assert str(InputError(f"no endpoint '{EVIL}'")) == f"no endpoint '{SHOWN}'"
