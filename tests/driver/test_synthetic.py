import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.errors import WrongUseError
from dyno_driver.prompts.synthetic import (
    BLOCK_TOKENS,
    WORDS,
    CountTokens,
    Lengths,
    Synthetic,
    is_synthetic,
    prompts,
    read_synthetic,
    text,
    text_of_blocks,
)


def words(made: str) -> int:
    return len(made.split(" ")) if made else 0


def test_words_are_as_long_as_a_token() -> None:
    """Each word has three letters and is there once, so that a word with its space has four characters."""
    assert {len(word) for word in WORDS} == {3}
    assert len(set(WORDS)) == len(WORDS) > 128


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_a_text_has_its_tokens(tokens: int, seed: int) -> None:
    """A text has so many words, four characters each; the same seed gives the same, and a longer one goes on."""
    made = text(tokens, str(seed))
    assert words(made) == tokens
    assert len(made) == 4 * tokens - 1
    assert text(tokens, str(seed)) == made
    assert text(tokens + 7, str(seed)).startswith(made + " ")


def test_texts_of_different_seeds_share_no_prefix() -> None:
    """A cache of blocks of 16 tokens, as engines have them, finds nothing of one prompt in another."""
    made = [each.text for each in prompts(Synthetic(Lengths("fixed", 64)), 500, 1)]
    assert len({" ".join(each.split(" ")[:16]) for each in made}) == 500


@given(
    st.lists(st.integers(0, 20), max_size=8),
    st.lists(st.integers(0, 20), max_size=8),
    st.integers(0, 9 * BLOCK_TOKENS),
    st.integers(0, 9 * BLOCK_TOKENS),
)
def test_shared_blocks_are_shared(first: list[int], second: list[int], first_tokens: int, second_tokens: int) -> None:
    """Two texts have the same words exactly where they have the same blocks, whether or not blocks are kept."""
    kept: dict[int | str, str] = {}
    one = text_of_blocks(first, first_tokens, "s", "one", kept).split(" ")
    two = text_of_blocks(second, second_tokens, "s", "two", kept).split(" ")
    assert text_of_blocks(second, second_tokens, "s", "two").split(" ") == two
    assert len([word for word in one if word]) == first_tokens
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    common = min(shared * BLOCK_TOKENS, first_tokens, second_tokens)
    assert one[:common] == two[:common]
    rest = slice(common, min(len(one), len(two), common + 64))
    if rest.stop - rest.start >= 32:
        assert one[rest] != two[rest]


@pytest.mark.parametrize(
    ("count", "off"),
    [(lambda made: words(made) + 5, 0), (lambda made: len(made) // 3, 1), (lambda made: len(made.split("a")), 1)],
)
def test_lengths_are_fitted_to_a_tokenizer(count: CountTokens, off: int) -> None:
    """Where a tokenizer counts otherwise than words, texts are fitted to it, as exactly as whole words allow."""
    plain = prompts(Synthetic(Lengths("uniform", 50, 900)), 20, 3)
    for made, before in zip(prompts(Synthetic(Lengths("uniform", 50, 900)), 20, 3, count), plain, strict=True):
        assert abs(count(made.text) - words(before.text)) <= off


@pytest.mark.parametrize(
    ("lengths", "mean", "deviation"),
    [
        (Lengths("fixed", 100), 100, 0),
        (Lengths("uniform", 50, 150), 100, 29.15),
        (Lengths("normal", 1000, 100), 1000, 100),
        # Its mean is median · exp(σ²/2), its variance (exp(σ²) - 1) · mean².
        (Lengths("lognormal", 1000, 0.5), 1133.15, 603.9),
    ],
)
def test_drawn_lengths_have_their_distribution(lengths: Lengths, mean: float, deviation: float) -> None:
    """Mean and standard deviation are those of the distribution that was asked for."""
    random = Random(5)  # noqa: S311 - reproducible, nothing secret
    drawn = [lengths.draw(random) for _ in range(20_000)]
    assert statistics.mean(drawn) == pytest.approx(mean, abs=0.001 + 4 * deviation / 20_000**0.5)
    assert statistics.stdev(drawn) == pytest.approx(deviation, rel=0.05, abs=0.001)


def test_a_length_is_never_below_one() -> None:
    """A draw below one token is one."""
    random = Random(1)  # noqa: S311 - reproducible, nothing secret
    assert min(Lengths("normal", 1, 1000).draw(random) for _ in range(500)) == 1
    assert max(Lengths("lognormal", 1, 1e6).draw(random) for _ in range(500)) <= 10_000_000


def test_prefixes_are_shared_in_turn() -> None:
    """Every prompt begins with one of the prefixes and goes on alone; its answer's length is drawn too."""
    made = list(prompts(read_synthetic("synthetic:in=100,out=5..9,prefix=40,prefixes=3"), 12, 7))
    heads = [" ".join(each.text.split(" ")[:40]) for each in made]
    assert len(set(heads)) == 3
    assert heads[0] == heads[3] != heads[1]
    assert len({each.text for each in made}) == 12
    assert {words(each.text) for each in made} == {100}
    assert all(each.max_tokens is not None and 5 <= each.max_tokens <= 9 for each in made)


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("synthetic:in=1024", Synthetic(Lengths("fixed", 1024))),
        (
            "synthetic:in=lognormal(1024,0.5),out=normal(256,64)",
            Synthetic(Lengths("lognormal", 1024, 0.5), Lengths("normal", 256, 64)),
        ),
        (
            "synthetic: in = 10..20 , out=uniform( 3, 4 )",
            Synthetic(Lengths("uniform", 10, 20), Lengths("uniform", 3, 4)),
        ),
        ("synthetic:in=8,prefix=4,prefixes=2,seed=0", Synthetic(Lengths("fixed", 8), None, 4, 2, 0)),
    ],
)
def test_what_is_asked_for_is_read(spec: str, asked: Synthetic) -> None:
    """The lengths are one number, a range or a distribution."""
    assert is_synthetic(spec)
    assert read_synthetic(spec) == asked


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("synthetic", "'in' is missing"),
        ("synthetic:", "'in' is missing"),
        ("synthetic:out=5", "'in' is missing"),
        ("synthetic:in=", "'in' has no value"),
        ("synthetic:in", "'in' has no value"),
        ("synthetic:in=0", "'in': '0' must be a whole number, 1 or more"),
        ("synthetic:in=-5", "must be a whole number"),
        ("synthetic:in=1.5", "must be a whole number"),
        ("synthetic:in=nan", "must be a whole number"),
        ("synthetic:in=99999999999", "must be a whole number"),
        ("synthetic:in=9..3", "9 is more than 3"),
        ("synthetic:in=normal(nan,1)", "'nan' must be a number"),
        ("synthetic:in=normal(5,inf)", "'inf' must be a number"),
        ("synthetic:in=normal(5,-1)", "-1 must be 0 or more"),
        ("synthetic:in=lognormal(0,1)", "0 must be between 1 and"),
        ("synthetic:in=normal(5)", "must be a whole number"),
        ("synthetic:in=normal(5,1", "must be a whole number"),
        ("synthetic:in=zipf(5,1)", "must be a whole number"),
        ("synthetic:in=5,in=6", "'in' is there twice"),
        ("synthetic:in=5,inn=6", "unknown key 'inn'"),
        ("synthetic:inputs=5", "'in' is missing"),
        ("synthetic:in=5,prefixes=0", "'prefixes': '0' must be a whole number, 1 or more"),
        ("synthetic:in=5,seed=x", "'seed': 'x' must be"),
    ],
)
def test_a_wrong_form_is_one_line(spec: str, says: str) -> None:
    """What isn't understood is one line that says what is, and how it is written."""
    with pytest.raises(WrongUseError) as error:
        read_synthetic(spec)
    assert says in str(error.value)
    assert "write synthetic:in=LENGTHS" in str(error.value)
    assert "\n" not in str(error.value)
