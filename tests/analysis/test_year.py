"""Some days of a spans folder's life; `make year` is a whole year of them."""

from pathlib import Path

from soak.year import year


def test_four_days(tmp_path: Path) -> None:
    """Ten proxies, skewed clocks, an older Dyno on some days, copies, retention: every day each row is there once."""
    passed = year(tmp_path / "spans", days=4, keep_days=2, seed=1)
    assert passed.wrong == []
    assert len(passed.written) > 100
