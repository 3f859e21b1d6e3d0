"""`make coverage`: how often the report's verdicts are false, by simulated runs.

    python -m verdict_coverage                            prints the tables: some two minutes
    python -m verdict_coverage --seeds 2000               with fewer runs
    python -m verdict_coverage --write docs/statistics.md writes them between the file's two marks

docs/statistics.md says what is simulated.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from . import measure

SEEDS: Final = 20_000
BEGIN: Final = "<!-- measured: written by `make coverage` -->\n"
END: Final = "<!-- end of what was measured -->\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m verdict_coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="runs of each cell (default: 20000)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the file's two marks")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    text = "" if arguments.write is None else arguments.write.read_text(encoding="utf-8")
    if arguments.write is not None and (text.count(BEGIN), text.count(END)) != (1, 1):
        parser.error(f"'{arguments.write}' must have the lines {BEGIN.strip()} and {END.strip()}, each once")
    tables = measure.tables(arguments.seeds)
    print(tables)
    if arguments.write is not None:
        before, _, rest = text.partition(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n{tables}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
