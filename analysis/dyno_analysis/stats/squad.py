"""SQuAD's exact match and F1. Pure.

After the official script of SQuAD v1.1, `evaluate-v1.1.py` by Rajpurkar et al.
(https://rajpurkar.github.io/SQuAD-explorer/): answers are lower-cased, stripped of ASCII punctuation, of the articles
a, an, the, and of extra white space, in this order; a prediction's score is its best over the references.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the prediction is one of the references after normalisation, else 0.0; references must not be empty."""
    normalised = normalise(prediction)
    return float(any(normalised == normalise(reference) for reference in references))


def f1(prediction: str, references: Sequence[str]) -> float:
    """The harmonic mean of word precision and recall against the best reference, 0 to 1."""
    return max(_f1(normalise(prediction).split(), normalise(reference).split()) for reference in references)


def normalise(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(prediction: list[str], reference: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(reference)).values())
    if same == 0:
        return 0.0
    precision = same / len(prediction)
    recall = same / len(reference)
    return 2 * precision * recall / (precision + recall)
