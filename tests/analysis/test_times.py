"""times.py: the times of --since and --until, and that each wrong one is refused in a line that names the flag."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.errors import InputError
from dyno_analysis.times import span_us, unix_us
from rigs.dyno_command import refusal

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOW_US = 1_795_780_800_000_000
HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1h", NOW_US - HOUR_US),
        ("1.5 h", NOW_US - HOUR_US * 3 // 2),
        ("0s", NOW_US),
        ("36500d", NOW_US - 36500 * 24 * HOUR_US),
        ("2026-11-27T12:00:00Z", NOW_US),
        ("2026-11-27T12:00:00", NOW_US),
        ("2026-11-27 12:00", NOW_US),
        ("2026-11-27", NOW_US - 12 * HOUR_US),
        ("2026-11-27T12:00:00+01:00", NOW_US - HOUR_US),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800_000_000 - 14 * HOUR_US),
        ("9999-12-31T23:00:00-14:00", 253_402_297_200_000_000 + 14 * HOUR_US),
    ],
)
def test_a_time(text: str, us: int) -> None:
    """A time without a zone is UTC, whatever the machine's own zone is."""
    assert unix_us(text, NOW, "--since") == us


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "h", "-1h", "+1h", "1e999h", "nan", "NaN", "inf", "infh", "1w", "1h ", "yesterday", "1795780800"),
        *("9999999d", "9" * 400 + "s", "9" * 400 + "d", "0000-01-01", "10000-01-01", "-0001-01-01", "2026-13-01"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    """The line says which flag, and how it is mended."""
    with pytest.raises(InputError, match=f"^--until '{re.escape(text)}' "):
        unix_us(text, NOW, "--until")


@given(st.text(alphabet="0123456789.smhd-:TZ+e ", max_size=30))
def test_any_text(text: str) -> None:
    """It is a time, or refused: never anything else."""
    try:
        found: object = unix_us(text, NOW, "--since")
    except InputError as error:
        found = str(error)
    assert isinstance(found, int) or (isinstance(found, str) and found.startswith("--since '"))


def test_a_span() -> None:
    """Each end may be missing. A span that nothing can be in is refused."""
    assert span_us(None, None, NOW) == (None, None)
    assert span_us("2h", None, NOW) == (NOW_US - 2 * HOUR_US, None)
    assert span_us("2h", "1h", NOW) == (NOW_US - 2 * HOUR_US, NOW_US - HOUR_US)
    for since, until in (("1h", "2h"), ("1h", "1h"), ("2026-11-28", "2026-11-27")):
        with pytest.raises(InputError, match=f"--since '{since}' must be before --until '{until}'"):
            span_us(since, until, NOW)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("sql", "FROM spans", "--since", "9999999d"), "dyno sql: --since '9999999d' ago is before the year 1"),
        (("sql", "FROM spans", "--since", ""), "dyno sql: --since '' must be a time"),
        (("sql", "FROM spans", "--since", "1h", "--until", "2h"), "dyno sql: --since '1h' must be before --until '2h'"),
        (("report", "--until", ""), "dyno report: --until '' must be a time"),
        (("report", "--since", "1h", "--until", "2h"), "dyno report: --since '1h' must be before --until '2h'"),
        (("report", "--endpoints", ""), "dyno report: --endpoints '' names none"),
        (("report", "--store", "clickhouse://h/d", "--since", ""), "dyno report: --since '' must be a time"),
        (("compact", "--keep", "9999999d"), "dyno compact: --keep: '9999999d' must be an age or a size"),
        (("compact", "--keep", ""), "dyno compact: --keep: '' must be an age or a size"),
    ],
)
def test_the_commands(words: tuple[str, ...], says: str) -> None:
    """What isn't a limit isn't taken for none."""
    assert refusal(*words).startswith(says)
