"""SQuAD's exact match and F1, by hand."""

import pytest

from dyno_analysis.stats.squad import exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Denver Broncos!", "denver broncos"),
        ("an  apple\ta\nday", "apple day"),
        ("Levi's Stadium", "levis stadium"),
        ("the-end", "theend"),  # punctuation goes before the articles
        ("Theatre and", "theatre and"),
        ("“Broncos”", "“broncos”"),  # ASCII punctuation alone, as the official script has it
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    """Lower case, no ASCII punctuation, no articles, single blanks, in the official order."""
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("prediction", "references", "match", "score"),
    [
        ("Denver Broncos", ["Denver Broncos"], 1.0, 1.0),
        ("the denver broncos.", ["Carolina", "Denver Broncos"], 1.0, 1.0),
        # 2 common words of 6 predicted and 2 expected: P 1/3, R 1, F1 1/2
        ("It was by the Denver Broncos won", ["Denver Broncos"], 0.0, 0.5),
        ("Panthers", ["Denver Broncos"], 0.0, 0.0),
        ("", ["Denver"], 0.0, 0.0),
        # A word counts as often as both hold it: common 1, P 1/3, R 1/2
        ("gold gold gold", ["gold rush"], 0.0, 0.4),
        # The best reference counts: P 1/2, R 1 against the second.
        ("Santa Clara", ["Levi's Stadium in Santa Clara, California", "Clara"], 0.0, 2 / 3),
        # 2 of 2, of 6
        ("Santa Clara", ["Levi's Stadium in Santa Clara, California"], 0.0, 0.5),
    ],
)
def test_scores(prediction: str, references: list[str], match: float, score: float) -> None:
    """Scores of a prediction against its references, worked out by hand."""
    assert exact_match(prediction, references) == match
    assert f1(prediction, references) == pytest.approx(score)
