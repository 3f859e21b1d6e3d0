"""How many tokens and seconds a simulated answer takes, drawn by seed. Pure.

    latency = fixed part + seconds per token × output tokens

Each draw has a random stream of its own, made from the seed and from what is drawn. So a request's figures don't
depend on the order of the requests or on their number.
"""

import hashlib
import random
from typing import Final

# Output tokens: mean 80, standard deviation 22, never outside these bounds (a stretched beta distribution).
SHORTEST_TOKENS: Final = 30
LONGEST_TOKENS: Final = 150
_BETA: Final = (2.5, 3.5)
# Two models don't answer a prompt with exactly the same length. This noise's standard deviation, in tokens.
_LENGTH_NOISE_TOKENS: Final = 3.0

# This share of the fixed part is always spent; the rest is gamma-distributed. So the times are positive and their mean
# is the fixed part. A wide spread skews them to the right; with a narrow one they are nearly normal.
_FLOOR_SHARE: Final = 0.3


def random_stream(*key: str | int) -> random.Random:
    """Random numbers that depend on nothing but the key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest))  # noqa: S311 - reproducible on purpose, and no secret


def draw_output_tokens(seed: int, endpoint: str, prompt: str, occurrence: int) -> int:
    """An answer's length: a length of the prompt, which all endpoints share, plus a little noise."""
    share = random_stream(seed, "length", prompt).betavariate(*_BETA)
    length = SHORTEST_TOKENS + share * (LONGEST_TOKENS - SHORTEST_TOKENS)
    noise = random_stream(seed, "length", endpoint, prompt, occurrence).gauss(0.0, _LENGTH_NOISE_TOKENS)
    return min(max(round(length + noise), SHORTEST_TOKENS), LONGEST_TOKENS)


def draw_fixed_s(fixed_s: float, spread_s: float, stream: random.Random) -> float:
    """The seconds before the first token, with mean `fixed_s` and standard deviation `spread_s`."""
    if spread_s == 0 or fixed_s == 0:
        return fixed_s
    floor_s = _FLOOR_SHARE * fixed_s
    mean_s = fixed_s - floor_s
    # A gamma distribution of shape k and scale θ has mean kθ and variance kθ².
    return floor_s + stream.gammavariate((mean_s / spread_s) ** 2, spread_s**2 / mean_s)
