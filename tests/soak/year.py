"""A spans folder's year: proxies on hosts with skewed clocks, restarts, upgrades and downgrades, retention, and copies.

    python -m soak.year                      365 days
    python -m soak.year --days 30 --keep 5   a try

Every day each proxy writes, `dyno compact --keep` runs (on some days that of an older Dyno), and the folder is copied
over a second one, which is compacted too. Exit code 1 where, on any day, in either folder, the rows found aren't the
rows written less those older than what is kept.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from dyno_analysis.compaction.compaction import Compaction
from dyno_analysis.compaction.retention import Keep
from dyno_analysis.spans import folder as span_folder
from rigs import first_format
from rigs.stored_spans import line, span

DAY_S: Final = 86_400
_PROXIES: Final = 10
_HOSTS: Final = 5
# By how much the hosts' clocks are wrong. The rows' own times count, whatever the time really is.
_SKEWS_S: Final = (0, 40, -7200, 1800, 3 * DAY_S)
_ROWS_A_DAY: Final = (1, 12)
_BEGAN: Final = datetime(2027, 1, 1, 12, tzinfo=UTC)


@dataclass
class Proxy:
    """One proxy: it writes to a journal, begins another now and then, and is another process after a restart."""

    number: int
    writer: str = ""
    seq: int = 0
    journal: Path | None = None

    @property
    def skew_s(self) -> int:
        return _SKEWS_S[self.number % _HOSTS]

    def write(self, folder: Path, now: datetime, chance: random.Random, row: int) -> list[tuple[int, int]]:
        """Write some rows from the number `row` on; returns the number and the start (Unix µs) of each."""
        if not self.writer or chance.random() < 0.05:
            self.writer = f"host{self.number % _HOSTS}_{self.number}_{now:%Y%m%dT%H%M%S}{self.number:06d}Z"
            self.seq, self.journal = 0, None
        if chance.random() < 0.1:
            self.seq += chance.randint(1, 5)  # rows that a full disk has cost
        self.journal = None  # it has rested since yesterday
        began_us = int((now.timestamp() + self.skew_s) * 1e6)
        rows = []
        for number in range(row, row + chance.randint(*_ROWS_A_DAY)):
            self.seq += 1
            started_at_us = began_us - chance.randint(0, DAY_S * 1_000_000)
            content = line(span(seq=self.seq, span_id=f"{number:016x}", started_at_us=started_at_us))
            if self.journal is None or chance.random() < 0.1 or not os.access(self.journal, os.W_OK):
                self.journal = folder / f"{self.writer}-{self.seq:012d}.jsonl"
            with self.journal.open("ab") as file:
                file.write(content)
            os.utime(self.journal, (now.timestamp(), now.timestamp()))
            rows.append((number, started_at_us))
        return rows


@dataclass
class Year:
    """The year so far; `wrong` are the days on which rows were missing, or were there that should have gone."""

    folder: Path
    keep: timedelta
    chance: random.Random
    written: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    compact_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.proxies = [Proxy(number) for number in range(_PROXIES)]
        self.copy = self.folder.with_name("copy")
        for folder in (self.folder, self.copy):
            folder.mkdir(parents=True)

    def day(self, number: int) -> None:
        now = _BEGAN + timedelta(days=number)
        for proxy in self.proxies:
            self.written |= dict(proxy.write(self.folder, now, self.chance, len(self.written) + 1))
        before_compaction = self.chance.random() < 0.5
        if before_compaction:
            self._copy()
        self._compact(self.folder, now, older=self.chance.random() < 0.3)
        if not before_compaction:
            self._copy()
        self._compact(self.copy, now, older=self.chance.random() < 0.1)
        # An older Dyno deletes whole files. So that what is kept is known to the row, this one has the last word.
        for folder in (self.folder, self.copy):
            self._compact(folder, now, older=False)
            self._check(folder, number, now)

    def _copy(self) -> None:
        """As `rsync -a`: what is new or has changed, and nothing is removed."""
        for path in self.folder.iterdir():
            target = self.copy / path.name
            if path.name.startswith(".") or (target.exists() and target.stat().st_mtime >= path.stat().st_mtime):
                continue
            target.unlink(missing_ok=True)
            shutil.copy2(path, target)

    def _compact(self, folder: Path, now: datetime, *, older: bool) -> None:
        begun_s = time.monotonic()
        if older:
            keep_from_us = int((now - self.keep).timestamp() * 1e6)
            first_format.compact(folder, self._is_finished, now.timestamp(), keep_from_us)
        else:
            compaction = Compaction(folder, now, lambda _: None, self.wrong.append, dry=False)
            compaction.convert()
            compaction.expire(Keep(age=self.keep))
            compaction.merge(Keep(age=self.keep))
            compaction.clean()
            self.compact_s.append(time.monotonic() - begun_s)
        for path in folder.iterdir():  # what was written just now was written on that day
            if abs(path.lstat().st_mtime - time.time()) < DAY_S:
                os.utime(path, (now.timestamp(), now.timestamp()))

    def _is_finished(self, journal: Path) -> bool:
        return journal.name not in {proxy.journal.name for proxy in self.proxies if proxy.journal is not None}

    def _check(self, folder: Path, number: int, now: datetime) -> None:
        from_us = int((now - self.keep).timestamp() * 1e6)
        # A journal that its writer may still have open isn't looked at for old rows.
        wanted = {row for row, started_at_us in self.written.items() if started_at_us >= from_us}
        with span_folder.connect(folder) as connection:
            query = "SELECT ('0x' || span_id)::BIGINT, epoch_us(started_at) FROM spans"
            rows = connection.execute(query).fetchall()
        found = {row for row, _ in rows}
        for what, which in (
            ("missing", wanted - found),
            ("not deleted", {row for row, us in rows if us < from_us}),
            ("there twice", {row for row in found if len(rows) != len(found)}),
        ):
            if which:
                self.wrong.append(f"day {number}, {folder.name}: {len(which)} rows {what}, {sorted(which)[:5]}")


def year(folder: Path, days: int, keep_days: int, seed: int = 0) -> Year:
    """Let so many days pass in `folder`, which doesn't exist yet."""
    passed = Year(folder, timedelta(days=keep_days), random.Random(seed))  # noqa: S311  # a simulation
    for number in range(days):
        passed.day(number)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak.year", description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--keep", type=int, default=30, metavar="DAYS")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dyno-year-") as temporary:
        passed = year(Path(temporary) / "spans", arguments.days, arguments.keep, arguments.seed)
        files = len(span_folder.span_files(passed.folder))
    for wrong in passed.wrong:
        print(wrong)
    slowest_s = max(passed.compact_s)
    print(
        f"{arguments.days} days (simulated): {len(passed.written):,} rows written; {files} files at last; a compaction "
        f"took {sum(passed.compact_s) / len(passed.compact_s):.2f} s, at most {slowest_s:.2f} s; "
        f"{len(passed.wrong)} faults"
    )
    return 1 if passed.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
