"""SQuAD's exact match and F1. Pure.

This follows the official script of SQuAD v1.1, `evaluate-v1.1.py` by Rajpurkar et al.
(https://rajpurkar.github.io/SQuAD-explorer/). Answers are lower-cased; then ASCII punctuation, the articles a, an, the,
and extra white space are removed, in this order. A prediction's score is its best over the references.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals a normalised reference, else 0.0. `references` must not be empty."""
    normalised = normalise(prediction)
    return float(any(normalised == normalise(reference) for reference in references))


def f1(prediction: str, references: Sequence[str]) -> float:
    """The harmonic mean of word precision and recall for the best reference, 0 to 1. `references` must not be empty."""
    return max(_f1(normalise(prediction).split(), normalise(reference).split()) for reference in references)


def normalise(text: str) -> str:
    """The text as answers are compared: see the module's docstring."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(prediction: list[str], reference: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(reference)).values())
    if same == 0:
        return 0.0
    precision = same / len(prediction)
    recall = same / len(reference)
    return 2 * precision * recall / (precision + recall)
