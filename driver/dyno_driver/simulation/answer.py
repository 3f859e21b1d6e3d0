"""The text of a simulated answer: plainly simulated, of a given number of tokens. Pure.

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

# English text has about this many tokens a word.
_TOKENS_PER_WORD: Final = 1.3


def count_prompt_tokens(prompt: str, template_tokens: int) -> int:
    """A prompt's tokens by rule of thumb, and what the chat template adds."""
    return round(len(prompt.split()) * _TOKENS_PER_WORD) + template_tokens


def split_tokens(text: str) -> list[str]:
    """Cut into word pieces of at most six characters, each with the space before it; joined they are the text."""
    return _PIECE.findall(text)


def write_answer(prompt: str, tokens: int) -> tuple[str, ...]:
    sentence = best_sentence(prompt)
    return _fill(f"(simulated) {sentence}" if sentence else "(simulated)", _ANSWER_FILLER, tokens)


def write_reasoning(tokens: int) -> tuple[str, ...]:
    return _fill(_REASONING, _REASONING_FILLER, tokens)


def best_sentence(prompt: str) -> str | None:
    """The sentence of the prompt's context nearest to its question; None without a context."""
    passage = _PASSAGE.search(prompt)
    if passage is None:
        return None
    asked = _words(passage["question"])
    sentences = _SENTENCE_END.split(passage["context"].strip())
    return max(sentences, key=lambda sentence: len(asked & _words(sentence))) or None


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def _fill(text: str, filler: str, tokens: int) -> tuple[str, ...]:
    """Exactly `tokens` pieces: the text, then the filler over and over."""
    pieces = split_tokens(text)
    return tuple(islice([*pieces, *islice(cycle(split_tokens(filler)), max(0, tokens - len(pieces)))], tokens))
