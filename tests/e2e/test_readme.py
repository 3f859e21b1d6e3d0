"""The README is run: all its blocks, in their order, in one folder, with simulated endpoints.

Some things differ from a reader's machine. The endpoints are simulated (fifty times as fast), the proxy's port is any
free one, a stand-in replaces Globus' token script, and `make` only prints its commands, because CI runs those targets.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from rigs.programs import running
from rigs.shared_data import PUBLISHED

REPOSITORY: Final = Path(__file__).parents[2]
README: Final = REPOSITORY / "README.md"
ENDPOINTS: Final = ("metis", "sophia")
TOKEN: Final = "a-token-of-the-readme-test"  # noqa: S105 - opens nothing

# What a program that goes on running prints when it's ready.
READY: Final = {"dyno": "dyno proxy: listening on ", "prometheus": 'msg="Server is ready to receive web requests."'}


@dataclass(frozen=True, slots=True)
class Block:
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.info}"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The reader's folder: a clone's `.venv` and `deploy`, and the files that the blocks so far have made."""

    folder: Path
    address: str
    urls: dict[str, str]
    environment: dict[str, str]
    programs: ExitStack
    said: list[str] = field(default_factory=list)

    def run(self, command: list[str | Path], stdin: str | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=stdin or "",
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.said.append(done.stdout)
        return done.stdout


def blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    found = re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [Block(text[: match.start()].count("\n") + 1, match[1], match[2]) for match in found]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    (folder / "inference_auth_token.py").write_text(f"print({TOKEN!r})\n", encoding="utf-8")
    tools = folder / "tools"
    tools.mkdir()
    make = shutil.which("make")
    assert make is not None
    (tools / "make").write_text(f'#!/bin/sh\nexec {make} --dry-run --directory {REPOSITORY} "$@"\n', encoding="utf-8")
    (tools / "make").chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DYNO_", "OTEL_", "MAKE"))}
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), kept["PATH"]])
    with ExitStack() as programs:
        profiles = [argument for name in ENDPOINTS for argument in ("--profile", name)]
        command = [sys.executable, "-m", "dyno", "simulate", "--time-scale", "0.02", *profiles]
        simulated = programs.enter_context(
            running(command, r"^dyno simulate: (\w+) on (\S+)$", folder / "simulate.log", lines=len(ENDPOINTS))
        )
        urls = {match[1]: match[2] for match in simulated}
        yield Workshop(folder, address, urls, {**kept, "PATH": path}, programs)


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_block_works_as_shown(block: Block, workshop: Workshop) -> None:
    """A reader who pastes the blocks one after the other gets no error."""
    RUN[block.info](workshop, block.text.replace("127.0.0.1:8080", workshop.address))


def run_shell(workshop: Workshop, text: str) -> None:
    if PUBLISHED.name in text:
        if not PUBLISHED.exists():
            pytest.skip(f"no shared data: {PUBLISHED} is missing (set DYNO_SHARED)")
        shutil.copy(PUBLISHED, workshop.folder / PUBLISHED.name)
    workshop.run(["bash", "-euo", "pipefail", "-c", text])


def run_beside(workshop: Workshop, text: str) -> None:
    """A program that runs until the last block is done."""
    command = shlex.split(text)
    if shutil.which(command[0], path=workshop.environment["PATH"]) is None:
        pytest.skip(f"{command[0]} isn't installed")
    if command[0] == "prometheus":  # a service may have the usual port
        command.append("--web.listen-address=127.0.0.1:0")
    # `running` has no working folder: env has.
    command = ["env", f"--chdir={workshop.folder}", *command]
    ready, log = re.escape(READY[command[2]]), workshop.folder / f"{command[2]}.log"
    workshop.programs.enter_context(running(command, ready, log, workshop.environment))


def run_python(workshop: Workshop, text: str) -> None:
    said = workshop.run([sys.executable, "-W", "error", "-c", text])
    assert said.strip()


def run_sql(workshop: Workshop, text: str) -> None:
    """Both endpoints have a row, because earlier blocks have sent them requests."""
    said = workshop.run(["dyno", "sql", "--format", "csv"], stdin=text)
    header, *rows = said.splitlines()
    assert header.startswith("endpoint,")
    assert [row.partition(",")[0] for row in rows] == list(ENDPOINTS)


def write_config(workshop: Workshop, text: str) -> None:
    """The block as `dyno.toml`, with the simulated endpoints' addresses."""
    endpoints = tomllib.loads(text)["endpoints"]
    assert tuple(endpoints) == ENDPOINTS
    for name, endpoint in endpoints.items():
        text = text.replace(endpoint["url"], workshop.urls[name])
    (workshop.folder / "dyno.toml").write_text(text, encoding="utf-8")


def show(_workshop: Workshop, text: str) -> None:
    """A picture or printed output: nothing to run. `test_the_tables_shown_are_the_tables_printed` has the latter."""
    assert text.strip()


RUN: Final[dict[str, Callable[[Workshop, str], None]]] = {
    "sh": run_shell,
    "sh background": run_beside,
    "python": run_python,
    "sql": run_sql,
    "toml": write_config,
    "text": show,
}


def test_the_tables_shown_are_the_tables_printed(workshop: Workshop) -> None:
    """The rows of the README's sample tables are those that `dyno compare` printed just now."""
    printed = "\n".join(workshop.said)
    for title, rows in (("Verdicts", 4), ("Comparison", 9)):
        (shown,) = [block.text for block in blocks() if block.info == "text" and block.text.startswith(title)]
        labels = [re.split(r" {2,}", line)[0] for line in shown.splitlines()[3:]]
        assert len(labels) == rows
        for label in labels:
            assert re.search(rf"^{re.escape(label)} ", printed, re.MULTILINE), f"no row '{label}'"


def test_the_configurations_token_is_kept_out_of_every_file(workshop: Workshop) -> None:
    """No file that the blocks left behind contains the token that the configuration's command printed."""
    written = [
        path
        for path in workshop.folder.rglob("*")
        if path.is_file() and path.suffix in (".jsonl", ".json", ".md", ".log")
    ]
    assert written
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_links_lead_somewhere() -> None:
    """Each relative link of the README and of deploy's README names a file that exists."""
    for document in (README, REPOSITORY / "deploy" / "README.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document}: {target}"
