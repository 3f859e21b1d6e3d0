"""The endpoints that can be simulated. Every time here is an assumption for a simulator, not a measurement.

For Metis and Sophia the constants of latency = fixed + per token × tokens are assumed, and so is the latency's spread.
A part of that spread comes from the answers' lengths; `spread_s` is the rest. The other profiles have round figures of
a plausible order. Each time can be changed by a flag of `dyno simulate`.
"""

from dataclasses import dataclass
from typing import Final

from .vendors import Cerebras, LlamaCpp, SambaNova, SophiaVllm
from .wire import Wire


@dataclass(frozen=True, slots=True)
class Profile:
    """How one simulated endpoint answers: its JSON (`wire`), its times in seconds, its lengths in tokens."""

    name: str
    model: str  # the one that /models lists; a request may name any
    wire: Wire
    fixed_s: float  # mean time before the first token
    per_token_s: float
    spread_s: float  # standard deviation of the fixed part
    reasoning_share: float  # share of a chat answer's output tokens that are reasoning
    template_tokens: int  # what the chat template adds to a prompt
    output_tokens: int | None = None  # every answer's length; None: drawn for each prompt
    per_prompt_token_s: float = 0.0  # added to the fixed part for each token of the prompt
    batch: int | None = None  # answers written at once; further requests wait in a queue. None: any number
    slowing: float = 0.0  # a token takes so much longer, as a share, for each further answer that is being written


# gpt-oss writes its reasoning before its answer, and its chat template is long.
_REASONING: Final = 0.4
_TEMPLATE: Final = 68

# fmt: off
PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile("metis", "gpt-oss-120b", SambaNova(), 4.8, 0.0027, 0.304, _REASONING, _TEMPLATE),
        # Sophia's template differs: it adds two tokens more to a prompt.
        Profile("sophia", "openai/gpt-oss-120b", SophiaVllm(), 1.06, 0.0068, 0.765, _REASONING, _TEMPLATE + 2),
        Profile("cerebras", "gpt-oss-120b", Cerebras(), 0.25, 0.0005, 0.05, _REASONING, _TEMPLATE),
        Profile("llamacpp", "simulated.gguf", LlamaCpp(), 0.15, 0.012, 0.02, 0.0, 12),
        Profile("openai", "gpt-simulated", Wire(), 0.5, 0.008, 0.15, 0.0, 7),
    )
}
# fmt: on
