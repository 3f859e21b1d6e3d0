"""The load generators that are compared, each a program of its own; one process sends, where that can be said."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.installed import MissingError, installed
from bench.messages import MODEL

GUIDELLM: Final = "0.8.1"
AIPERF: Final = "0.13.0"
PROMPTS: Final = 4000
_CARGO: Final = Path.home() / ".cargo" / "bin"


@dataclass(frozen=True)
class Load:
    """What a tool is to send: at a constant rate, or so many at once."""

    requests: int
    rate_per_s: float | None = None
    concurrency: int | None = None
    streamed: bool = False
    lasts_s: float = 5.0  # for tools that count seconds instead of requests


@dataclass(frozen=True)
class Command:
    words: Sequence[str | Path]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Tool:
    """`command`: of the load, a folder for what it writes, the upstream's port. Raises MissingError, CannotError."""

    title: str
    python: bool
    command: Callable[[Load, Path, int], Command]
    version: str


class CannotError(Exception):
    """The tool has no such load; the message says what it lacks."""


def write_inputs(folder: Path) -> None:
    """The same prompts for all, in each tool's own form, and a tokenizer that nobody has to download."""
    texts = [
        f"Question {number}: which team represented the AFC at Super Bowl 50? Answer:" for number in range(PROMPTS)
    ]
    for name, key in (("prompts", "prompt"), ("turns", "text")):
        lines = [json.dumps({key: text}) + "\n" for text in texts]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    words = ["[UNK]", *sorted({word for text in texts[:10] for word in text.split()})]
    unknown = {"id": 0, "content": "[UNK]", "special": True}
    unknown |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [unknown],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(words)}, "unk_token": "[UNK]"},
    } | dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "eos_token": "[UNK]"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")
    body = {"model": MODEL, "messages": [{"role": "user", "content": texts[0]}], "max_tokens": 64}
    for streamed in (False, True):
        text = json.dumps(body | {"stream": streamed})
        (folder / f"body-{streamed}.json").write_text(text, encoding="utf-8")
        lua = f"wrk.method = 'POST'\nwrk.body = [==[{text}]==]\nwrk.headers['Content-Type'] = 'application/json'\n"
        (folder / f"body-{streamed}.lua").write_text(lua, encoding="utf-8")


def _dyno(load: Load, folder: Path, port: int) -> Command:
    # It sends a tenth more before those that count, and fills the load until the last of them has ended.
    flags: list[str | Path] = ["--proxy", f"http://127.0.0.1:{port}", "--spans", folder / "spans", "--warmup", "0"]
    flags += ["--prompts", folder / "prompts.jsonl", "--column", "prompt", "-n", str(min(load.requests, PROMPTS))]
    flags += ["--repeat", str(-(-load.requests // PROMPTS)), "--max-tokens", "64"]
    flags += [] if load.streamed else ["--no-stream"]
    if load.rate_per_s is not None:
        flags += ["--rate", f"{load.rate_per_s:g}", "--arrivals", "constant"]
    else:
        flags += ["--concurrency", str(load.concurrency)]
    return Command([sys.executable, "-m", "dyno", "drive", *flags], {})


def _guidellm(load: Load, folder: Path, port: int) -> Command:
    program = installed("guidellm", GUIDELLM, "guidellm")
    stream = "true" if load.streamed else "false"
    profile = (
        f"concurrent,streams={load.concurrency}" if load.rate_per_s is None else f"constant,rate={load.rate_per_s:g}"
    )
    words: list[str | Path] = [program, "run", "--disable-console"]
    words += ["--backend", f"kind=openai_http,target=http://127.0.0.1:{port},model={MODEL},stream={stream}"]
    words += ["--profile", f"kind={profile}", "--constraint", f"kind=max_requests,count={load.requests}"]
    words += ["--data", f"kind=json_file,path={folder / 'prompts.jsonl'}"]
    words += ["--output", f"kind=json,path={folder / 'guidellm.json'}"]
    return Command(words, {"GUIDELLM__MAX_WORKER_PROCESSES": "1", "HF_HUB_OFFLINE": "1"})


def _aiperf(load: Load, folder: Path, port: int) -> Command:
    program = installed("aiperf", AIPERF, "aiperf")
    words: list[str | Path] = [program, "profile", "-m", MODEL, "--url", f"http://127.0.0.1:{port}"]
    words += ["--endpoint-type", "chat", "--tokenizer", folder / "tokenizer", "--use-server-token-count"]
    words += ["--input-file", folder / "turns.jsonl", "--custom-dataset-type", "single_turn", "--workers-max", "1"]
    words += ["--ui", "none", "--artifact-dir", folder / "aiperf", "--request-count", str(load.requests)]
    words += ["--streaming"] if load.streamed else []
    if load.rate_per_s is None:
        words += ["--concurrency", str(load.concurrency)]
    else:
        words += ["--request-rate", f"{load.rate_per_s:g}", "--request-rate-mode", "constant"]
    return Command(words, {})


def _wrk(load: Load, folder: Path, port: int) -> Command:
    program = shutil.which("wrk")
    if program is None:
        raise MissingError("wrk isn't installed (apt-get install wrk)")
    if load.rate_per_s is not None:
        raise CannotError("it has no rates")
    words: list[str | Path] = [program, "-t1", f"-c{load.concurrency}", f"-d{load.lasts_s:g}s", "--timeout", "60s"]
    return Command([*words, "-s", folder / f"body-{load.streamed}.lua", _chat(port)], {})


def _oha(load: Load, folder: Path, port: int) -> Command:
    program = shutil.which("oha") or shutil.which("oha", path=str(_CARGO))
    if program is None:
        raise MissingError("oha isn't installed (cargo install oha)")
    words: list[str | Path] = [program, "--no-tui", "-n", str(load.requests), "-m", "POST", "-T", "application/json"]
    words += ["-D", folder / f"body-{load.streamed}.json", "-c", str(load.concurrency or 64)]
    words += [] if load.rate_per_s is None else ["-q", f"{load.rate_per_s:g}"]
    return Command([*words, _chat(port)], {"TOKIO_WORKER_THREADS": "1"})


def _chat(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/chat/completions"


TOOLS: Final = {
    "dyno": Tool("**dyno drive**", True, _dyno, f"dyno {metadata.version('inference-dyno')}"),
    "guidellm": Tool("GuideLLM", True, _guidellm, f"guidellm {GUIDELLM}"),
    "aiperf": Tool("AIPerf", True, _aiperf, f"aiperf {AIPERF}"),
    "wrk": Tool("wrk (C)", False, _wrk, "wrk"),
    "oha": Tool("oha (Rust)", False, _oha, "oha"),
}


def started(tool: Tool, load: Load, folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """Raises MissingError, CannotError."""
    command = tool.command(load, folder, port)
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("DYNO_", "OTEL_", "HF_", "GUIDELLM"))
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**kept, **command.environment},
            start_new_session=True,
        )
