"""What a simulated answer takes, in tokens and seconds, drawn by seed. Pure.

    latency = fixed part + seconds per token × output tokens

Each draw has a random stream of its own, made of the seed and of what it is drawn for, so neither the order of
requests nor their number changes another request's figures.
"""

import hashlib
import random
from typing import Final

# Output tokens: 80 on average, standard deviation 22, never outside the bounds (a stretched beta distribution).
SHORTEST_TOKENS: Final = 30
LONGEST_TOKENS: Final = 150
_BETA: Final = (2.5, 3.5)
# Two models never answer one prompt at exactly the same length; standard deviation in tokens.
_LENGTH_NOISE_TOKENS: Final = 3.0

# This share of the fixed part is always spent; the rest is gamma-distributed. So times are positive, skewed to the
# right where the spread is wide, nearly normal where it is narrow, and their mean stays the fixed part.
_FLOOR_SHARE: Final = 0.3


def random_stream(*key: str | int) -> random.Random:
    """Random numbers that depend on nothing but the key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest))  # noqa: S311 - reproducible on purpose, and no secret


def draw_output_tokens(seed: int, endpoint: str, prompt: str, occurrence: int) -> int:
    """An answer's length: the prompt's own, which all endpoints share, and a little noise."""
    share = random_stream(seed, "length", prompt).betavariate(*_BETA)
    length = SHORTEST_TOKENS + share * (LONGEST_TOKENS - SHORTEST_TOKENS)
    noise = random_stream(seed, "length", endpoint, prompt, occurrence).gauss(0.0, _LENGTH_NOISE_TOKENS)
    return min(max(round(length + noise), SHORTEST_TOKENS), LONGEST_TOKENS)


def draw_fixed_s(fixed_s: float, spread_s: float, stream: random.Random) -> float:
    """The part before the first token, in seconds: of mean `fixed_s` and standard deviation `spread_s`."""
    if spread_s == 0 or fixed_s == 0:
        return fixed_s
    floor_s = _FLOOR_SHARE * fixed_s
    mean_s = fixed_s - floor_s
    # A gamma distribution of shape k and scale θ has mean kθ and variance kθ².
    return floor_s + stream.gammavariate((mean_s / spread_s) ** 2, spread_s**2 / mean_s)
