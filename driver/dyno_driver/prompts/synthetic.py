"""Texts of a given number of tokens, and the distributions that their lengths are drawn from. Pure: the same seed gives
the same texts.

Every word has three letters. With its space it has four characters, which is what a token of English has on average,
and the tokenizers that are in use have a token for each of these words. So a text of N tokens has N words.
"""

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from dyno_driver.errors import WrongUseError

NAME: Final = "synthetic"
FORM: Final = "synthetic:in=LENGTHS[,out=LENGTHS][,prefix=N][,prefixes=N][,seed=N]"
BLOCK_TOKENS: Final = 512  # of a hash id in Mooncake's traces
LONGEST_TOKENS: Final = 10_000_000  # a typing error must not fill the memory

_WORDS: Final = (
    "act add age ago aid aim air all and any are arm art ask ate bad bag bar bed big bit boy bus but buy can cap "
    "car cat cup cut day did dog dry due ear eat egg end eye far few fit fix fly for fun gas get got guy had has "
    "hat her him his hit hot how ice its job key kid law lay led leg let lie log lot low man map may men met mix "
    "net new nor not now off oil old one our out own par pay per pop put ran raw red rid run sat saw say sea see "
    "set she sir sit six sky son sum sun tax tea ten the tie tip too top try two use van war was way web who why "
    "win won yes yet you"
)
WORDS: Final = tuple(_WORDS.split())

_FITTINGS: Final = 16  # how often a text is changed until a tokenizer counts what was asked for

CountTokens = Callable[[str], int]


class Lengths(NamedTuple):
    """A distribution of lengths in tokens. `first` and `second` are its parameters: of `fixed` the length; of `uniform`
    the bounds, which belong to it; of `normal` mean and standard deviation; of `lognormal` the median, and the standard
    deviation of the logarithm.
    """

    kind: Literal["fixed", "uniform", "normal", "lognormal"]
    first: float
    second: float = 0.0

    def draw(self, random_: random.Random) -> int:
        """A length, 1 or more."""
        if self.kind == "uniform":
            return random_.randint(int(self.first), int(self.second))
        drawn = self.first
        if self.kind == "normal":
            drawn = random_.gauss(self.first, self.second)
        elif self.kind == "lognormal":
            # A heavy tail's rarest draws would be no prompt any more, nor would they fit into a float.
            drawn = self.first * math.exp(min(random_.gauss(0.0, self.second), 50.0))
        return max(1, min(round(drawn), LONGEST_TOKENS))


class Synthetic(NamedTuple):
    """What `--prompts synthetic:…` asks for. `prefix` tokens at the beginning of each prompt are shared: there are
    `prefixes` of them, in turn. `outputs` None: --max-tokens says how long an answer may be. `seed` None: not told.
    """

    inputs: Lengths
    outputs: Lengths | None = None
    prefix: int = 0
    prefixes: int = 1
    seed: int | None = None


class SyntheticPrompt(NamedTuple):
    """A text, and how many tokens its answer may have; None: as --max-tokens says."""

    text: str
    max_tokens: int | None


def is_synthetic(spec: str) -> bool:
    """Whether `--prompts` asks for synthetic ones."""
    return spec.partition(":")[0].strip() == NAME


def read_synthetic(spec: str) -> Synthetic:
    """`synthetic:in=lognormal(1024,0.5),out=256,prefix=512`. Raises WrongUseError for anything else."""
    found: dict[str, str] = {}
    for part in re.findall(r"(?:[^,(]|\([^)]*\)?)+", spec.partition(":")[2]):
        key, equals, value = (each.strip() for each in part.partition("="))
        if key not in Synthetic._fields and key not in ("in", "out"):
            raise _wrong(spec, f"unknown key '{key}'")
        if not equals or not value:
            raise _wrong(spec, f"'{key}' has no value")
        if key in found:
            raise _wrong(spec, f"'{key}' is there twice")
        found[key] = value
    if "inputs" in found or "outputs" in found or "in" not in found:
        raise _wrong(spec, "'in' is missing")
    return Synthetic(
        read_lengths(spec, "in", found["in"]),
        read_lengths(spec, "out", found["out"]) if "out" in found else None,
        _whole(spec, "prefix", found.get("prefix", "0"), 0),
        _whole(spec, "prefixes", found.get("prefixes", "1"), 1),
        _whole(spec, "seed", found["seed"], 0) if "seed" in found else None,
    )


_DRAWN: Final = re.compile(r"(?P<kind>uniform|normal|lognormal)\s*\((?P<first>[^,]+),(?P<second>[^,]+)\)")


def read_lengths(spec: str, key: str, text: str) -> Lengths:
    """`1024`, `512..2048`, `uniform(512,2048)`, `normal(1024,256)` or `lognormal(1024,0.5)`."""
    drawn = _DRAWN.fullmatch(text)
    low, dots, high = text.partition("..")
    if dots or (drawn is not None and drawn["kind"] == "uniform"):
        least, most = (low, high) if drawn is None else (drawn["first"], drawn["second"])
        bounds = _whole(spec, key, least, 1), _whole(spec, key, most, 1)
        if bounds[0] > bounds[1]:
            raise _wrong(spec, f"'{key}': {bounds[0]} is more than {bounds[1]}")
        return Lengths("uniform", *bounds)
    if drawn is None:
        return Lengths("fixed", _whole(spec, key, text, 1))
    kind: Literal["normal", "lognormal"] = "normal" if drawn["kind"] == "normal" else "lognormal"
    first, second = _number(spec, key, drawn["first"]), _number(spec, key, drawn["second"])
    if not 1 <= first <= LONGEST_TOKENS:
        raise _wrong(spec, f"'{key}': {first:g} must be between 1 and {LONGEST_TOKENS}")
    if second < 0:
        raise _wrong(spec, f"'{key}': {second:g} must be 0 or more")
    return Lengths(kind, first, second)


def prompts(asked: Synthetic, count: int, seed: int, tokens_of: CountTokens | None = None) -> Iterator[SyntheticPrompt]:
    """`count` prompts. A prompt that is drawn shorter than its prefix is the beginning of the prefix alone.

    With `tokens_of` their lengths are exact by that tokenizer, as far as it lets a text have each length.
    """
    draw = random.Random(f"{seed} lengths")  # noqa: S311 - reproducible, nothing secret
    for number in range(count):
        length = asked.inputs.draw(draw)
        max_tokens = asked.outputs.draw(draw) if asked.outputs is not None else None
        shared = min(asked.prefix, length)
        parts = [
            text(shared, f"{seed} prefix {number % asked.prefixes}"),
            text(length - shared, f"{seed} prompt {number}"),
        ]
        yield SyntheticPrompt(fitted(_joined(parts), length, f"{seed} fill {number}", tokens_of), max_tokens)


def text(tokens: int, seed: str) -> str:
    """So many words. A shorter text of the same seed is the beginning of a longer one."""
    draw = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    return " ".join(draw.choices(WORDS, k=tokens))


def text_of_blocks(
    hash_ids: Sequence[int | str],
    tokens: int,
    seed: str,
    rest: str,
    blocks: dict[int | str, str] | None = None,
    block_tokens: int = BLOCK_TOKENS,
) -> str:
    """A text whose blocks are known by ids: the same id gives the same block, so what was shared is shared.

    The last block is cut where the text has its tokens. Tokens beyond the blocks come from the seed `rest`. `blocks`
    keeps what was made, for the next text.
    """
    kept = {} if blocks is None else blocks
    parts: list[str] = []
    left = tokens
    for hash_id in hash_ids:
        if left <= 0:
            break
        if hash_id not in kept:
            kept[hash_id] = text(block_tokens, f"{seed} block {hash_id}")
        block = kept[hash_id]
        parts.append(block if left >= block_tokens else block[: 4 * left - 1])
        left -= block_tokens
    return _joined([*parts, text(max(0, left), rest)])


def fitted(made: str, tokens: int, seed: str, tokens_of: CountTokens | None) -> str:
    """The text with words added or taken off at its end until the tokenizer counts `tokens`, or as near as it gets."""
    if tokens_of is None:
        return made
    words, more = made.split(" "), random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    best, best_off = made, abs(tokens_of(made) - tokens)
    for _ in range(_FITTINGS):
        if not best_off:
            break
        counted = tokens_of(" ".join(words))
        change = round(len(words) * (tokens - counted) / max(1, counted)) or (1 if counted < tokens else -1)
        words = [*words, *more.choices(WORDS, k=change)] if change > 0 else words[: max(1, len(words) + change)]
        now = " ".join(words)
        if (off := abs(tokens_of(now) - tokens)) < best_off:
            best, best_off = now, off
    return best


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)


def _whole(spec: str, key: str, text_: str, least: int) -> int:
    number = int(text_) if re.fullmatch(r"\s*\d{1,12}\s*", text_, re.ASCII) else -1
    if not least <= number <= max(LONGEST_TOKENS, 2**32 if key == "seed" else 0):
        raise _wrong(spec, f"'{key}': '{text_.strip()}' must be a whole number, {least} or more")
    return number


def _number(spec: str, key: str, text_: str) -> float:
    try:
        number = float(text_)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(spec, f"'{key}': '{text_.strip()}' must be a number")
    return number


def _wrong(spec: str, why: str) -> WrongUseError:
    return WrongUseError(
        f"--prompts {spec}: {why}; write {FORM}, where LENGTHS is 1024, 512..2048, normal(MEAN,SD) or "
        "lognormal(MEDIAN,SIGMA)"
    )
