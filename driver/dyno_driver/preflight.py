"""Whether an endpoint's first answer says that no further one would come. Pure."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .client import Answer, Endpoint

# The statuses that mean the configuration is wrong. A 429 or a 500 may pass.
_STOPPING: Final = (401, 403, 404, 405)
# The proxy's own error types for what never reached the endpoint, and won't the next time.
_UNREACHED: Final = frozenset(
    (
        *("connection_refused", "name_not_resolved", "connect_failed", "connect_timeout", "tls_certificate", "tls"),
        *("proxy_unreachable", "proxy_authentication", "proxy_refused", "proxy_protocol_error", "token_unavailable"),
    )
)
_ADDED_PATHS: Final = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")


def why_not(endpoint: "Endpoint", answer: "Answer") -> str | None:
    """Why the run should stop, with the mend, as one line; None if the endpoint may be measured."""
    if answer.error is None:
        return None
    path = next((path for path in _ADDED_PATHS if endpoint.url.rstrip("/").endswith(path)), None)
    if not (
        answer.timed_out
        or answer.proxys_code in _UNREACHED
        or answer.status in _STOPPING
        or (path and answer.status is not None)
    ):
        return None
    mend = f"correct [endpoints.{endpoint.name}] in dyno.toml"
    if path is not None:
        mend = f"its url must end before {path}, which is added to each request"
    elif answer.timed_out:
        mend = "if its model has to be loaded first, give it longer with --preflight SECONDS"
    elif answer.status in (401, 403) or answer.proxys_code == "token_unavailable":
        mend = f"check [endpoints.{endpoint.name}.token] in dyno.toml"
    elif answer.status in (404, 405):
        mend = f"check url and model of [endpoints.{endpoint.name}] in dyno.toml; the url usually ends in /v1"
    return f"endpoint '{endpoint.name}' at {endpoint.url}: {answer.error}; {mend}"
