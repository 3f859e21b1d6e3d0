"""`make demo-real`: `dyno compare` over two real engines, nothing simulated."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from real.engines import missing, running_engines, write_config

# A small model rambles: enough tokens for a rate, few enough for two minutes in all.
MAX_TOKENS = 96


def main() -> int:
    package = missing()
    if package is not None:
        print(f"demo-real: the package '{package}' is missing; mend: make demo-real", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="dyno-demo-real-") as name:
        folder = Path(name)
        print("starting two llama.cpp servers with SmolLM2-135M …", flush=True)
        with running_engines(folder) as engines:
            for engine in engines:
                print(f"  {engine.name}: {engine.url}, {engine.model} on {engine.hardware}", flush=True)
            config = folder / "dyno.toml"
            write_config(config, engines)
            # Ctrl-C is the comparison's to handle (it prints what it has); a handler that does nothing, unlike
            # an ignored signal, isn't inherited by it.
            signal.signal(signal.SIGINT, lambda _number, _frame: None)
            command = [sys.executable, "-m", "dyno", "compare", "--config", str(config), "--prompts", "science"]
            return subprocess.run([*command, "--max-tokens", str(MAX_TOKENS)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
