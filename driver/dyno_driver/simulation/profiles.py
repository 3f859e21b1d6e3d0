"""The endpoints that can be simulated. Every time here is an assumption for a simulator, not a measurement.

Metis and Sophia follow latency = fixed + per token with constants assumed for them; `spread_s` is what the lengths of
the answers leave of the spread assumed. The others are round figures of a plausible order. Each is a flag of
`dyno simulate`.
"""

from dataclasses import dataclass
from typing import Final

from .vendors import Cerebras, LlamaCpp, SambaNova, SophiaVllm
from .wire import Wire


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    model: str  # what /models lists; a request may name any
    wire: Wire
    fixed_s: float  # before the first token, mean
    per_token_s: float
    spread_s: float  # standard deviation of the fixed part
    reasoning_share: float  # of a chat answer's output tokens
    template_tokens: int  # what the chat template adds to a prompt
    output_tokens: int | None = None  # every answer's length; None: drawn for each prompt


# gpt-oss writes its reasoning before its answer, and its chat template is long.
_REASONING: Final = 0.4
_TEMPLATE: Final = 68

# fmt: off
PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile("metis", "gpt-oss-120b", SambaNova(), 4.8, 0.0027, 0.304, _REASONING, _TEMPLATE),
        # The same prompt counts two tokens more here: another template.
        Profile("sophia", "openai/gpt-oss-120b", SophiaVllm(), 1.06, 0.0068, 0.765, _REASONING, _TEMPLATE + 2),
        Profile("cerebras", "gpt-oss-120b", Cerebras(), 0.25, 0.0005, 0.05, _REASONING, _TEMPLATE),
        Profile("llamacpp", "simulated.gguf", LlamaCpp(), 0.15, 0.012, 0.02, 0.0, 12),
        Profile("openai", "gpt-simulated", Wire(), 0.5, 0.008, 0.15, 0.0, 7),
    )
}
# fmt: on
