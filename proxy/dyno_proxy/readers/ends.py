"""What a finish reason says: nothing, that the engine gave up, or how the answer ended. Pure."""

import re
from typing import Final

# The usual ones, which nobody need look at more closely
USUAL: Final = frozenset(("stop", "length", "tool_calls", "function_call", "content_filter", "end_turn", "max_tokens"))
_NO_REASON: Final = frozenset(("", "null", "none"))
# vLLM and SGLang say `abort`, TensorRT-LLM `cancelled` and `timeout`, DeepSeek `insufficient_system_resource`.
_GAVE_UP: Final = re.compile(
    r"abort|error|cancel|fail|time[ _-]?(?:d[ _-]?)?out|interrupt|preempt|insufficient_system_resource|not_finished",
    re.IGNORECASE,
)


def reason_said(reason: object) -> str | None:
    """The finish reason as a text; None for an empty one, for the text `null`, and for what is no reason at all.

    Some versions of SGLang, Ollama and KoboldCpp put an empty one, or that text, into every chunk. SGLang's own API
    has an object with the reason as its `type`.
    """
    if isinstance(reason, dict):
        reason = reason.get("type")
    if not isinstance(reason, str) or reason.strip().lower() in _NO_REASON:
        return None
    return reason


def gave_up(reason: str) -> bool:
    """Whether the engine says by its finish reason that it gave up. Then there is no whole answer."""
    return _GAVE_UP.search(reason) is not None
