"""`make bench-analysis`: the analysis over 1, 10 and 100 million generated (simulated) spans, on this machine.

    python -m bench_analysis                        as far as the disk allows: some twelve minutes on two cores
    python -m bench_analysis --max 10000000         up to this size: some four
    python -m bench_analysis --write docs/scale.md  into the file's measured part as well
    python -m bench_analysis --folder DIR           the span files go there (10 GB for 100 million), and away at the end

docs/scale.md says what is generated and how each figure is measured.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from . import measure

_BEGIN: Final = "<!-- measured: written by `make bench-analysis` -->\n"
_END: Final = "<!-- end of what was measured -->\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench_analysis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--max", type=int, default=measure.SIZES[-1], metavar="SPANS", help="the largest size")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to generate (default: the temporary folder)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the result between the file's two marks")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("bench_analysis: it reads /proc, which Linux alone has", file=sys.stderr)
        return 2
    if arguments.write is not None and _BEGIN not in arguments.write.read_text(encoding="utf-8"):
        print(f"bench_analysis: {arguments.write} has no line {_BEGIN.strip()}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="dyno-bench-analysis-", dir=arguments.folder))
    try:
        report = measure.measure(folder, arguments.max)
    finally:
        shutil.rmtree(folder)
    if arguments.write is not None:
        before, _, rest = arguments.write.read_text(encoding="utf-8").partition(_BEGIN)
        arguments.write.write_text(f"{before}{_BEGIN}\n{report}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
