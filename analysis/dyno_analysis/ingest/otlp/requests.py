"""Which spans are requests to a model, and under which operation. Pure.

Gateways put the model's name on spans that aren't requests too: LiteLLM does so on its HTTP, key check, Redis and
Postgres spans. So a model's name alone makes a request only of a span that says nothing else of itself.
"""

from collections.abc import Mapping
from typing import Final

from .span import OtlpSpan

OPENINFERENCE_KIND: Final = "openinference.span.kind"
OPENINFERENCE_OPERATIONS: Final = {"LLM": "chat", "EMBEDDING": "embeddings"}
# OpenLLMetry's operations from before the conventions named them, Envoy's names of OpenInference spans, and LiteLLM's
# call types, whose asynchronous forms begin with an 'a'.
OPERATIONS: Final = {
    "completion": "text_completion",
    "Completion": "text_completion",
    "embedding": "embeddings",
    "acompletion": "chat",
    "chat_completion": "chat",
    "chat.completions": "chat",
    "atext_completion": "text_completion",
    "aembedding": "embeddings",
    "responses": "chat",
    "aresponses": "chat",
    "anthropic_messages": "chat",
    "agenerate_content": "generate_content",
    "generate_content_stream": "generate_content",
    "agenerate_content_stream": "generate_content",
}
# Operations that aren't requests to a model, though they may contain one.
_NOT_REQUESTS: Final = frozenset(
    ("execute_tool", "create_agent", "invoke_agent", "invoke_workflow", "plan", "retrieval", "tokenize", "vectordb")
)
_NAMES_A_MODEL: Final = "gen_ai.request.model"
# A span without an operation is a request to a model if it has one of these attributes: only an answer brings them.
_ANSWERED: Final = ("gen_ai.response.model", "llm.request.type", "gen_ai.latency.e2e", "gen_ai.response.finish_reasons")
_USAGE: Final = (
    *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),
    *("llm.token_count.completion", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    *("llm.usage.prompt_tokens", "llm.token_count.prompt", "gen_ai.usage.total_tokens", "llm.usage.total_tokens"),
)
# What spans of other work say of themselves. LiteLLM's own services (redis, postgres, auth, router) have 'service'.
_OTHER_WORK: Final = ("db.", "rpc.", "messaging.", "faas.", "aws.s3.", "aws.dynamodb.")
_SERVICES: Final = frozenset(
    ("redis", "postgres", "auth", "router", "self", "litellm", "proxy_pre_call", "batch_write_to_db")
)
_HTTP: Final = ("http.request.method", "http.method", "http.route", "http.response.status_code", "http.status_code")
_OBSERVATION: Final = "langfuse.observation.type"
_OBSERVATIONS: Final = ("generation", "embedding")


def is_request(span: OtlpSpan) -> bool:
    """Whether the span is a request to a model, as far as it says itself."""
    attributes = span.attributes
    if is_other_work(attributes):
        return False
    operation = attributes.get("gen_ai.operation.name")
    if operation is not None:
        return operation not in _NOT_REQUESTS
    kind = attributes.get(OPENINFERENCE_KIND)
    if kind is not None:
        return kind in OPENINFERENCE_OPERATIONS
    if attributes.get(_OBSERVATION, "generation") not in _OBSERVATIONS:
        return False
    if any(mark in attributes for mark in (*_ANSWERED, *_USAGE)):
        return True
    return _NAMES_A_MODEL in attributes and not any(mark in attributes for mark in _HTTP)


def names_a_model_only(span: OtlpSpan) -> bool:
    """Whether the model's name is all that speaks for a request; another span of its trace may speak louder."""
    attributes = span.attributes
    marks = ("gen_ai.operation.name", OPENINFERENCE_KIND, *_ANSWERED, *_USAGE)
    return not any(mark in attributes for mark in marks)


def has_usage(attributes: Mapping[str, object]) -> bool:
    """Whether the span says how many tokens the request took."""
    return any(attributes.get(name) is not None for name in _USAGE)


def is_other_work(attributes: Mapping[str, object]) -> bool:
    """Whether the span is of a database, a queue, another procedure, or a service inside a gateway."""
    if has_usage(attributes):
        return False
    service = attributes.get("service")
    if isinstance(service, str) and ("call_type" in attributes or service in _SERVICES):
        return True
    return any(name.startswith(_OTHER_WORK) for name in attributes)


def operation_of(span: OtlpSpan, said: object) -> object:
    """The operation by the GenAI conventions' name; `said` is what the span calls it, or None."""
    if said is None:
        said = OPENINFERENCE_OPERATIONS.get(str(span.attributes.get(OPENINFERENCE_KIND)))
        return OPERATIONS.get(span.name, said) if said == "chat" else said
    if not isinstance(said, str):
        return said
    if said == "completion" and "litellm" in (span.scope.lower(), str(span.resource.get("service.name")).lower()):
        return "chat"  # LiteLLM's completion() is a chat; its text_completion() is the other
    return OPERATIONS.get(said, said)
