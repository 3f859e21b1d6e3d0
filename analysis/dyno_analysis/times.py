"""Points in time as a person writes them: RFC 3339, or how long ago. Pure: now is an argument."""

import re
from datetime import UTC, datetime, timedelta

from .errors import InputError

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def span_us(since: str | None, until: str | None, now: datetime) -> tuple[int | None, int | None]:
    """The values of --since and --until as `unix_us` gives them; None stays None.

    InputError, which names the flag, for what is no time, and for a span that nothing can be in.
    """
    since_us = None if since is None else unix_us(since, now, "--since")
    until_us = None if until is None else unix_us(until, now, "--until")
    if since_us is not None and until_us is not None and since_us >= until_us:
        raise InputError(f"--since '{since}' must be before --until '{until}'; no request can be in between")
    return since_us, until_us


def unix_us(text: str, now: datetime, flag: str) -> int:
    """Microseconds since 1970; a time without a zone is UTC. InputError, which names `flag`, if it is no time."""
    if ago := _AGO.fullmatch(text):
        try:
            moment = now - timedelta(**{_UNITS[ago.group(2)]: float(ago.group(1))})
        except OverflowError as error:
            raise InputError(f"{flag} '{text}' ago is before the year 1; leave it out for no limit") from error
    else:
        try:
            moment = parse(text)
        except ValueError as error:
            raise InputError(
                f"{flag} '{text}' must be a time, as 15m, 2h, 3d or 2026-11-23T21:59:00Z (without a zone: UTC)"
            ) from error
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def parse(text: str) -> datetime:
    """RFC 3339, or ISO 8601 without a zone, which is read as UTC; ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
