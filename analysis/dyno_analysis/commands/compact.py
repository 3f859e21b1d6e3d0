"""`dyno compact`: journals become Parquet, many small files few, and spans that are too old go."""

import argparse
import sys

from dyno_analysis.arguments import ArgumentParser, spans_argument
from dyno_analysis.errors import InputError

EPILOG = """\
examples:
  dyno compact
  dyno compact --keep 30d --dry-run      what would go, and what would become of the rest

Proxies may write and anybody may read meanwhile; none waits for it. A proxy starts this command by itself when a
journal is full. Collected spans (DIR/collected) are compacted too, and --keep holds for both folders: a size is
that of all files. What counts no longer is emptied after ten minutes and removed after a day, by a later run.

exit codes: 0 done, 1 something couldn't be (it says what; everything else is), 2 wrong use
"""


def main(argv: list[str]) -> int:
    """Compact a folder; returns 0, 1 where a file couldn't be, or 2 with one line on stderr."""
    parser = ArgumentParser(
        prog="dyno compact",
        description="Stored spans in fewer, smaller files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    spans_argument(parser)
    parser.add_argument("--keep", metavar="AGE|SIZE", help="12h, 30d, 500MB, 10GB: older spans go (default: all stay)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--background", action="store_true", help="with the lowest priority, and only problems are said"
    )
    arguments = parser.parse_args(argv)
    try:
        return _compact(arguments)
    except InputError as error:
        print(f"dyno compact: {error}", file=sys.stderr)
        return 2


def _compact(arguments: argparse.Namespace) -> int:
    import os
    from contextlib import ExitStack
    from datetime import UTC, datetime
    from pathlib import Path

    from dyno_analysis.compaction.compaction import Compaction, alone, expire_all
    from dyno_analysis.compaction.retention import parse_keep
    from dyno_analysis.spans.folder import collected_folder

    keep = parse_keep(arguments.keep) if arguments.keep else None
    folder = Path(arguments.spans).absolute()
    now = datetime.now(UTC)
    if arguments.background:
        os.nice(19)

    def say(text: str) -> None:
        if not arguments.background:
            print(text)

    def complain(text: str) -> None:
        print(f"dyno compact: {text}", file=sys.stderr)

    def say_of_collected(text: str) -> None:
        say(f"collected: {text}")

    collected = collected_folder(folder)
    with ExitStack() as locks:
        compactions = []
        for each, sayer in ((folder, say), (collected, say_of_collected)):
            if each == collected and not each.is_dir():
                continue
            if locks.enter_context(alone(each)):
                compactions.append(Compaction(each, now, sayer, complain, dry=arguments.dry_run))
            else:
                sayer("another 'dyno compact' or 'dyno import' is at work in this folder; nothing done")
        for compaction in compactions:
            compaction.convert()
            compaction.merge()
        if keep is not None:
            expire_all(compactions, keep, now)
        for compaction in compactions:
            compaction.clean()
    return 1 if any(compaction.problems for compaction in compactions) else 0
