"""A few seconds of `make soak`, so that it can't rot: the same traffic, the same checks but memory's slope."""

from pathlib import Path

from soak.run import soak


async def test_twenty_seconds_of_soak(tmp_path: Path) -> None:
    """Every kind of request ends in its own outcome and leaves one row; nothing stays open, nothing is dropped."""
    lines, wrong = await soak(tmp_path, duration_s=20.0, rate=25.0)
    assert not wrong, "\n".join(wrong)
    assert not [line for line in lines if not line.holds]
