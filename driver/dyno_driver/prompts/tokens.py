"""How many tokens a text has: by a tokenizer's own file, or estimated.

tokenizer.json of Hugging Face ─▶ `tokenizers` ─┐
tiktoken's ranks (base64 rank)  ─▶ `tiktoken` ──┴─▶ Tokenizer.count
no file                         ─▶ estimated: four characters are a token
"""

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError, one_line

# English text has about so many characters in a token. A model's tokenizer would count otherwise.
CHARACTERS_PER_TOKEN: Final = 4.0

# A file of ranks doesn't say how text is split before it is encoded. Its size tells the family: OpenAI's o200k
# (gpt-oss, GPT-4o) has 199,998 ranks, cl100k (GPT-4) and Llama 3 have 100,256 and 128,000 and split alike.
_RANKS_OF_O200K: Final = 150_000
_CONTRACTION: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CL100K: Final = "|".join(
    (
        _CONTRACTION,
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_O200K: Final = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _CONTRACTION + "?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _CONTRACTION + "?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts a text's tokens, without those that a chat template adds. `name` says by what, for a person."""

    name: str
    count: Callable[[str], int]


def estimated_tokens(text: str) -> int:
    """The tokens of a text by its length, at CHARACTERS_PER_TOKEN; at least 1 unless it is empty."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


ESTIMATE: Final = Tokenizer("an estimate of four characters a token", estimated_tokens)


def count_tokens(text: str, tokenizer: Tokenizer | None = None) -> int:
    """The text's tokens, by the tokenizer; estimated where none is given."""
    return (tokenizer or ESTIMATE).count(text)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of `--tokenizer FILE`: a tokenizer.json, or tiktoken's file of ranks. Its content says which.

    Raises WrongUseError if the file can't be read, is neither, or needs a library that isn't installed.
    """
    if path.is_dir():
        path = path / "tokenizer.json"  # a model's folder
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WrongUseError(
            f"--tokenizer {path}: {error.strerror or error}; give a tokenizer.json or a tiktoken file"
        ) from error
    if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return _hugging_face(path, content)
    return _tiktoken(path, content)


def _hugging_face(path: Path, content: bytes) -> Tokenizer:
    try:
        import tokenizers
    except ImportError as error:
        raise _missing(path, "tokenizers") from error
    try:
        loaded: Any = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:
        raise WrongUseError(f"--tokenizer {path}: not a tokenizer.json: {one_line(str(error))}") from error
    # A file may ask for texts to be cut or padded, for training. Their whole length is wanted.
    loaded.no_truncation()
    loaded.no_padding()
    return Tokenizer(
        f"the tokenizer {path.name}", lambda text: len(loaded.encode(_storable(text), add_special_tokens=False).ids)
    )


def _tiktoken(path: Path, content: bytes) -> Tokenizer:
    ranks: dict[bytes, int] = {}
    try:
        for line in content.splitlines():
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (ValueError, binascii.Error) as error:
        raise WrongUseError(
            f"--tokenizer {path}: neither a tokenizer.json nor a tiktoken file (a line is 'base64 rank')"
        ) from error
    if len(ranks) < 256:  # every byte is a token
        raise WrongUseError(f"--tokenizer {path}: has {len(ranks)} tokens; a tiktoken file has at least 256")
    try:
        import tiktoken
    except ImportError as error:
        raise _missing(path, "tiktoken") from error
    pattern = _O200K if len(ranks) > _RANKS_OF_O200K else _CL100K
    try:
        encoding: Any = tiktoken.Encoding(path.name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    except (ValueError, KeyError, AssertionError) as error:
        raise WrongUseError(f"--tokenizer {path}: not a tiktoken file: {one_line(repr(error))}") from error
    return Tokenizer(f"the tokenizer {path.name}", lambda text: len(encoding.encode_ordinary(_storable(text))))


def _missing(path: Path, library: str) -> WrongUseError:
    return WrongUseError(
        f"--tokenizer {path}: needs the package '{library}', which isn't installed; "
        "pip install 'inference-dyno[tokenizer]'"
    )


def _storable(text: str) -> str:
    """The text without lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
