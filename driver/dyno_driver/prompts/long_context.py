"""Long prompts of known length: passages of a set, with one sentence among them that answers the question at the end.

    Reading 83f1c0:                                   what no other prompt begins with, so that no cache answers
    passage … passage                                 `depth` of the length
    The access code of the archive Kelmora is 4817263.
    passage … passage
    Question: What is the access code …?  Answer:     scored by exact match and F1 against 4817263

Under `--shared-prefix` the prompts of one length have one document, which answers all their questions.
"""

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dyno_driver.errors import WrongUseError
from dyno_driver.options.asked import DEFAULT_COUNT
from dyno_driver.options.prompting import Prompting

from .prompt import Prompt, published_prompt
from .prompt_set import SCIENCE, SQUAD, PromptSet, read_set
from .records import Form
from .tokens import ESTIMATE, Tokenizer

WITHIN: Final = 0.01  # of the wished length
_ENOUGH_RECORDS: Final = 1_000_000
_BEGINNINGS: Final = ("Kel", "Mar", "Tor", "Vel", "Bran", "Sol", "Ner", "Quin", "Hal", "Dor", "Lin", "Ash")
_ENDINGS: Final = ("mora", "dane", "wick", "fell", "gard", "stead", "ria", "thorn", "vale", "burn", "ost", "ley")


@dataclass(frozen=True, slots=True)
class Needle:
    """A sentence that stands nowhere else, with its question and answer."""

    name: str
    code: str

    @property
    def sentence(self) -> str:
        """What is hidden among the passages."""
        return f"The access code of the archive {self.name} is {self.code}."

    @property
    def question(self) -> str:
        """What is asked at the end."""
        return f"What is the access code of the archive {self.name}? Give the number alone."


def long_prompts(
    spec: str, count: int | None, how: Prompting, seed: int | None, tokenizer: Tokenizer | None
) -> PromptSet:
    """`count` prompts, their lengths in turn, then their depths. Without a seed one is drawn and said.

    Raises WrongUseError if the set has no passages.
    """
    seed = secrets.randbits(32) if seed is None else seed
    passages_of, fell_back = _passages(spec, how)
    passages = tuple(dict.fromkeys(prompt.context for prompt in passages_of.prompts if prompt.context))
    if not passages:
        raise WrongUseError(
            f"--context-tokens: --prompts {spec} has no passages; use squad, science, or a set with a column 'context'"
        )
    number = count if count is not None else max(DEFAULT_COUNT, len(how.context_tokens) * len(how.depths))
    counter = tokenizer or ESTIMATE
    prompts = tuple(build(passages, number, how, seed, counter))
    lengths = ", ".join(map(short_tokens, how.context_tokens))
    begins = "one document for each length" if how.shared_prefix else "each begins anew"
    return PromptSet(
        name=f"long-context of {passages_of.name}",
        source=f"{passages_of.source}; made with seed {seed}",
        license=passages_of.license,
        description=f"passages with an answer hidden at a known depth; {lengths} tokens by {counter.name}, {begins}",
        prompts=prompts,
        said=f"Prompts: {number} of {lengths} tokens by {counter.name}, of the passages of {passages_of.name}"
        f"{fell_back}, seed {seed}; {begins}.",
        revision=passages_of.revision,
        tokenizer=tokenizer,
    )


def _passages(spec: str, how: Prompting) -> tuple[PromptSet, str]:
    """The set whose passages are used, and why it isn't the wished one."""
    try:
        return read_set(spec, _ENOUGH_RECORDS, Form(), how), ""
    except WrongUseError:
        # A machine without a network can measure long prompts all the same.
        if spec != SQUAD or how.revision is not None:
            raise
    return read_set(SCIENCE, _ENOUGH_RECORDS, Form(), Prompting()), " (squad can't be had)"


def short_tokens(tokens: int) -> str:
    """`4k` for 4000, `1500` for 1500."""
    return f"{tokens // 1000}k" if tokens % 1000 == 0 else str(tokens)


def build(
    passages: Sequence[str], count: int, how: Prompting, seed: int, tokenizer: Tokenizer = ESTIMATE
) -> Iterator[Prompt]:
    """The prompts: the same passages, options and seed give the same texts. Lengths are within WITHIN."""
    sizes = [tokenizer.count(passage + "\n\n") for passage in passages]
    lengths = how.context_tokens
    of_length = [[n for n in range(count) if n % len(lengths) == place] for place in range(len(lengths))]
    shared: dict[int, tuple[str, ...]] = {}
    needles = _needles(count, seed)
    for number in range(count):
        tokens, nth = lengths[number % len(lengths)], number // len(lengths)
        depth = how.depths[nth % len(how.depths)]
        needle = needles[number]
        draw = random.Random(f"{seed} {tokens} {'' if how.shared_prefix else number}")  # noqa: S311 - nothing secret
        if how.shared_prefix:
            members = of_length[number % len(lengths)]
            hidden = [(how.depths[place % len(how.depths)], needles[n]) for place, n in enumerate(members)]
        else:
            hidden = [(depth, needle)]
        key = number % len(lengths)
        parts = shared.get(key) or _document(passages, sizes, tokens, hidden, needle, draw, tokenizer)
        if how.shared_prefix:
            shared[key] = parts
        context = "\n\n".join(parts)
        name = f"{short_tokens(tokens)} tokens, depth {depth:.0%}"
        yield Prompt(
            prompt_id=f"{short_tokens(tokens)}-{depth * 100:g}-{nth + 1}",
            prompt=published_prompt(needle.question, context),
            question=needle.question,
            title=f"{'shared' if how.shared_prefix else 'fresh'} prefix",
            domain=name,
            reference_answers=(needle.code,),
        )


def _needles(count: int, seed: int) -> list[Needle]:
    draw = random.Random(f"{seed} needles")  # noqa: S311 - nothing secret
    names = [begin + end for begin in _BEGINNINGS for end in _ENDINGS]
    draw.shuffle(names)
    numbered = [names[n % len(names)] + (f" {n // len(names) + 1}" if n >= len(names) else "") for n in range(count)]
    codes = draw.sample(range(1_000_000, 10_000_000), count)
    return [Needle(name, str(code)) for name, code in zip(numbered, codes, strict=True)]


def _document(
    passages: Sequence[str],
    sizes: Sequence[int],
    tokens: int,
    hidden: Sequence[tuple[float, Needle]],
    asked: Needle,
    draw: random.Random,
    tokenizer: Tokenizer,
) -> tuple[str, ...]:
    """The paragraphs of a document that makes a prompt of so many tokens, with the needles at their depths."""
    first = f"Reading {draw.getrandbits(48):012x}:"
    around = published_prompt(asked.question, "\n\n".join((first, *(needle.sentence for _, needle in hidden))))
    room = tokens - tokenizer.count(around)
    if room <= 0:
        raise WrongUseError(f"--context-tokens: {tokens} tokens have no room for a passage; ask for more")
    filling = _filling(passages, sizes, room, draw)
    # Tokens of parts don't add up to those of the whole, so the last passage is cut until the whole fits.
    for _ in range(8):
        parts = (first, *_hidden(filling, hidden))
        off = tokenizer.count(published_prompt(asked.question, "\n\n".join(parts))) - tokens
        if off <= 0 and -off <= max(2, WITHIN * tokens / 2):
            break
        filling = _longer(filling, -off, passages, draw) if off < 0 else _shorter(filling, off)
    return parts


def _filling(passages: Sequence[str], sizes: Sequence[int], room: int, draw: random.Random) -> list[str]:
    """Passages in a drawn order, the last one cut, of about so many tokens. Few passages come again and again."""
    found: list[str] = []
    order = list(range(len(passages)))
    while room > 0:
        draw.shuffle(order)
        for place in order:
            if sizes[place] >= room:
                found.append(_cut(passages[place], room / sizes[place]))
                return found
            found.append(passages[place])
            room -= sizes[place]
    return found


def _cut(text: str, share: float) -> str:
    """The beginning of a text, of whole words."""
    words = text.split(" ")
    return " ".join(words[: max(1, round(len(words) * share))])


def _shorter(filling: list[str], tokens: int) -> list[str]:
    """The same without its last words. A word has more than a token on average, so too few go first."""
    kept = list(filling)
    words = max(1, tokens * 2 // 3)
    while words > 0 and kept:
        last = kept[-1].split(" ")
        if len(last) <= words and len(kept) > 1:
            words -= len(last)
            kept.pop()
            continue
        kept[-1] = " ".join(last[: max(1, len(last) - words)])
        break
    return kept


def _longer(filling: list[str], tokens: int, passages: Sequence[str], draw: random.Random) -> list[str]:
    """The same with some further words."""
    words: list[str] = []
    wanted = max(1, tokens * 2 // 3)
    while len(words) < wanted:
        words += draw.choice(passages).split(" ")
    return [*filling, " ".join(words[:wanted])]


def _hidden(filling: Sequence[str], hidden: Sequence[tuple[float, Needle]]) -> Iterator[str]:
    """The passages, with each needle where its share of the characters has passed."""
    whole = sum(map(len, filling))
    waiting = sorted(hidden, key=lambda each: each[0])
    passed = 0
    for passage in filling:
        # A needle stands between two passages: at the boundary that is nearest to its depth.
        while waiting and waiting[0][0] * whole <= passed + len(passage) / 2:
            yield waiting.pop(0)[1].sentence
        yield passage
        passed += len(passage)
    yield from (needle.sentence for _, needle in waiting)
