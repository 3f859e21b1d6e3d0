"""`dyno compact`: turns journals into Parquet, joins small files, and deletes spans that are too old."""

import argparse
import sys

from dyno_analysis.arguments import ArgumentParser, spans_argument
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import private_from_now_on
from dyno_analysis.interrupts import ending, works_in

EPILOG = """\
examples:
  dyno compact
  dyno compact --keep 30d --dry-run      what would be deleted, and what would be done with the rest

Meanwhile proxies may write and anybody may read; nobody waits for it. A proxy starts this command by itself, at its
start, daily, and when journals are finished. Ctrl-C or SIGTERM may end it at any moment; what is done stays done.
Collected spans (DIR/collected) are compacted too. --keep holds for both folders: an age for each request, by the time
at which it started; a size for all files together, of which the newest stays. A file that no longer counts is emptied
after ten minutes and removed after a day, by a later run.

exit codes: 0 all was done, 1 something couldn't be done (it is named; the rest was done), 2 wrong use
"""


def main(argv: list[str]) -> int:
    """Compact a folder; returns 0, 1 if a file couldn't be compacted, or 2 with one line on stderr."""
    parser = ArgumentParser(
        prog="dyno compact",
        description="Puts stored spans into fewer and smaller files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    spans_argument(parser)
    parser.add_argument(
        "--keep", metavar="AGE|SIZE", help="12h, 30d, 500MB, 10GB: older spans are deleted (default: none)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--background", action="store_true", help="run with the lowest priority, and print only problems"
    )
    arguments = parser.parse_args(argv)
    private_from_now_on()
    try:
        with ending("dyno compact"):
            return _compact(arguments)
    except InputError as error:
        print(f"dyno compact: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # The disk itself: it is away (ESTALE), broken (EIO), closed.
        where = error.filename or arguments.spans
        print(f"dyno compact: '{where}': {error.strerror or error}; the rest wasn't done", file=sys.stderr)
        return 1


def _compact(arguments: argparse.Namespace) -> int:
    import os
    from contextlib import ExitStack
    from datetime import UTC, datetime
    from pathlib import Path

    from dyno_analysis.compaction import leftovers
    from dyno_analysis.compaction.compaction import Compaction, alone, expire_all
    from dyno_analysis.compaction.retention import parse_keep
    from dyno_analysis.file_modes import access_in
    from dyno_analysis.render.terminal import print_text
    from dyno_analysis.spans.entries import folder_problem
    from dyno_analysis.spans.folder import collected_folder
    from dyno_analysis.spans.kept import note

    keep = None if arguments.keep is None else parse_keep(arguments.keep)
    folder = Path(arguments.spans).absolute()
    access_in(folder)  # a wrong group is said at once, and not for each file
    now = datetime.now(UTC)
    if arguments.background:
        os.nice(19)

    def say(text: str) -> None:
        if not arguments.background:
            print_text(text, "  ", whole=True)

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
            if each == collected and (why := folder_problem(each, folder)) is not None:
                complain(f"'{each}' is left alone: it {why}")
                continue
            if locks.enter_context(alone(each, dry=arguments.dry_run)):
                works_in(each)
                if not arguments.dry_run:
                    leftovers.clear(each)
                compactions.append(Compaction(each, now, sayer, complain, dry=arguments.dry_run))
            else:
                sayer("another 'dyno compact' or 'dyno import' is working in this folder; nothing was done")
        for compaction in compactions:
            compaction.convert()
        if keep is not None:  # before files are joined, so that old spans don't go into new files
            expire_all(compactions, keep, now)
            if compactions and not arguments.dry_run:
                note(folder, arguments.keep)
        for compaction in compactions:
            compaction.merge(keep)
            compaction.clean()
    return 1 if any(compaction.problems for compaction in compactions) else 0
