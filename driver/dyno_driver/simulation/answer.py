"""The text of a simulated answer. It has a given number of tokens, and says that it is simulated. Pure.

A prompt of the form `Context: … Question: …` is answered with the context's sentence that shares most words with the
question, so that scores against a reference are not all zero.
"""

import re
from itertools import cycle, islice
from typing import Final

_PIECE: Final = re.compile(r"\s*\S{1,6}")
_WORD: Final = re.compile(r"\w{3,}")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")
_PASSAGE: Final = re.compile(r"Context:(?P<context>.*?)Question:(?P<question>.*?)(?:Answer:|\Z)", re.DOTALL)

_ANSWER_FILLER: Final = " This text comes from a simulated endpoint; no model wrote it."
_REASONING: Final = "(simulated reasoning) The question is read, and the passage searched for its words."
_REASONING_FILLER: Final = " The simulator goes on until its reasoning has the length that was drawn."

# English text has about this many tokens per word.
_TOKENS_PER_WORD: Final = 1.3


def count_prompt_tokens(prompt: str, template_tokens: int) -> int:
    """A prompt's tokens by rule of thumb, plus those that the chat template adds."""
    return round(len(prompt.split()) * _TOKENS_PER_WORD) + template_tokens


def split_tokens(text: str) -> list[str]:
    """The text cut into pieces of words, at most six characters each, with the space before them.

    Joined, they are the text without white space at its end.
    """
    return _PIECE.findall(text)


def write_answer(prompt: str, tokens: int) -> tuple[str, ...]:
    """The answer's `tokens` tokens: the best sentence of the prompt's context, then a filler."""
    sentence = best_sentence(prompt)
    return _fill(f"(simulated) {sentence}" if sentence else "(simulated)", _ANSWER_FILLER, tokens)


def write_reasoning(tokens: int) -> tuple[str, ...]:
    """The reasoning's `tokens` tokens."""
    return _fill(_REASONING, _REASONING_FILLER, tokens)


def best_sentence(prompt: str) -> str | None:
    """The sentence of the prompt's context that shares most words with its question; None without a context."""
    passage = _PASSAGE.search(prompt)
    if passage is None:
        return None
    asked = _words(passage["question"])
    sentences = _SENTENCE_END.split(passage["context"].strip())
    return max(sentences, key=lambda sentence: len(asked & _words(sentence))) or None


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def _fill(text: str, filler: str, tokens: int) -> tuple[str, ...]:
    """Exactly `tokens` pieces: first the text's, then the filler's again and again."""
    pieces = split_tokens(text)
    return tuple(islice([*pieces, *islice(cycle(split_tokens(filler)), max(0, tokens - len(pieces)))], tokens))
