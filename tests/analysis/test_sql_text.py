"""SQL out of the package's files: a part that isn't there, or a text that isn't, is an error and never silence."""

import pytest

from dyno_analysis.spans.sql_text import replaced, sql_part, sql_text


def test_parts_make_up_the_file() -> None:
    """The named parts, one after the other, are the file less its first comment and the lines that name them."""
    names = ("view", "counting", "journal", "parquet", "stored", "derived")
    parts = [f"-- part: {name}\n{sql_part('spans', name)}" for name in names]
    assert sql_text("spans").endswith("".join(parts))


def test_a_part_that_is_not_there() -> None:
    """The error names the file and the part."""
    with pytest.raises(LookupError, match=r"sql/spans\.sql has 0 parts named 'nothing'"):
        sql_part("spans", "nothing")


@pytest.mark.parametrize(("text", "times"), [("a b a", 1), ("b", 1), ("a", 2)])
def test_replaced_demands_its_matches(text: str, times: int) -> None:
    """Fewer or more matches than asked for are refused."""
    with pytest.raises(LookupError, match=f"not {times}"):
        replaced(text, "a", "c", times)


def test_replaced() -> None:
    """Every match is replaced where their number is as asked."""
    assert replaced("a b", "a", "c") == "c b"
    assert replaced("a b a", "a", "c", 2) == "c b c"
