"""The front door: a table of subcommands, each imported only when it is called."""

import importlib
import os
import sys
from importlib import metadata

COMMANDS = {
    "compare": ("dyno_driver.commands.compare", "the whole job: proxy, paired prompts, comparison table, report"),
    "proxy": ("dyno_proxy.commands.proxy", "the measuring proxy alone"),
    "collect": ("dyno_proxy.commands.collect", "an OTLP receiver: spans of clients and engines beside the proxy's"),
    "drive": ("dyno_driver.commands.drive", "replay a prompt set through a running proxy"),
    "simulate": ("dyno_driver.commands.simulate", "simulated endpoints"),
    "report": ("dyno_analysis.commands.report", "tables and the report of stored runs"),
    "sql": ("dyno_analysis.commands.sql", "SQL over the stored spans"),
    "trace": ("dyno_analysis.commands.trace", "one request's spans, and where its time went"),
    "compact": ("dyno_analysis.commands.compact", "stored spans in fewer, smaller files; old ones go if you say so"),
    "import": ("dyno_analysis.commands.import_files", "spans, results and training logs of other tools"),
    "export": ("dyno_analysis.commands.export", "stored spans as lines to pass on, or to an OpenTelemetry collector"),
}
# Programs that others of ours start. They aren't for users, and `dyno --help` has them not.
INTERNAL = {"send-otlp": "dyno_proxy.commands.send_otlp"}

# A bare install carries the proxy; the other programs come as extras.
EXTRAS = {"dyno_driver": "driver", "dyno_analysis": "analysis"}
_ANALYSIS = ("duckdb", "numpy", "pytz", "rich")
# What a command imports in the end. It is looked for before anything runs: `compare` measures first and reports then.
NEEDED: dict[str, dict[str, tuple[str, ...]]] = {
    "compare": {"driver": ("datasets", "pyarrow", "rich"), "analysis": _ANALYSIS},
    "drive": {"driver": ("datasets", "pyarrow", "rich")},
    **{name: {"analysis": _ANALYSIS} for name in ("report", "sql", "trace", "compact", "import", "export")},
}


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns its exit code: 0 done, 1 ran and something failed, 2 wrong use."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        print(f"dyno {metadata.version('inference-dyno')}")
        return 0
    if name not in COMMANDS and name not in INTERNAL:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "; 'dyno --help' lists them"
        print(f"dyno: no command '{name}'{hint}", file=sys.stderr)
        return 2
    module_name = INTERNAL[name] if name in INTERNAL else COMMANDS[name][0]
    if not {"-h", "--help"} & {*rest} and (missing := _missing(name)):
        extras, package = missing
        print(f"dyno {name}: '{package}' is missing: pip install 'inference-dyno[{extras}]'", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(module_name.partition(".")[0])
        if extra is None or error.name is None or error.name.startswith("dyno_"):
            raise
        print(
            f"dyno {name}: the package '{error.name}' is missing: pip install 'inference-dyno[{extra}]'",
            file=sys.stderr,
        )
        return 2
    try:
        code: int = module.main(rest)
        sys.stdout.flush()
    except KeyboardInterrupt:
        # Before a command listens to signals itself, or after it.
        print(f"dyno {name}: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader left (`dyno … | head`). What is still buffered has nowhere to go; at exit it must not fail again.
        _forget_output()
        return 1
    except OSError as error:
        # The surroundings are at fault: a full disk behind standard output, a file server that is away.
        where = f"'{error.filename}': " if error.filename else ""
        print(f"dyno {name}: {where}{error.strerror or error}", file=sys.stderr)
        _forget_output()
        return 1
    return code


def _missing(command: str) -> tuple[str, str] | None:
    """The extras that the command needs and that aren't installed, and the first missing package; None if all are."""
    from importlib.util import find_spec

    missing = {
        extra: package
        for extra, packages in NEEDED.get(command, {}).items()
        for package in packages[::-1]
        if find_spec(package) is None
    }
    return (",".join(missing), next(iter(missing.values()))) if missing else None


def _forget_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: dyno COMMAND [OPTION…]",
            "",
            "A dynamometer for inference engines: the same load on OpenAI-compatible endpoints, side by side.",
            "",
            *lines,
            "",
            "dyno COMMAND --help explains one of them, with an example. Start with: dyno compare",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
