"""Whether an endpoint's first answer says that no further one would come. Pure."""

from typing import Final

from .client import Answer, Endpoint

# The statuses that mean the configuration is wrong. A 429 or a 500 may pass.
_STOPPING: Final = (401, 403, 404, 405)
# The proxy's own words for what never reached the endpoint.
_UNREACHED: Final = (
    *("connection refused", "name not resolved", "connect failed", "connect timeout", "tls certificate", "tls at"),
    *("the endpoint's token", "proxy unreachable", "proxy authentication", "proxy refused", "proxy protocol error"),
)
_ADDED_PATHS: Final = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")


def why_not(endpoint: Endpoint, answer: Answer) -> str | None:
    """Why the run should stop, with the mend, as one line; None if the endpoint may be measured."""
    if answer.error is None:
        return None
    path = next((path for path in _ADDED_PATHS if endpoint.url.rstrip("/").endswith(path)), None)
    ours = answer.status in (502, 504) and any(words in answer.error.lower() for words in _UNREACHED)
    if not (answer.timed_out or ours or answer.status in _STOPPING or (path and answer.status is not None)):
        return None
    mend = f"correct [endpoints.{endpoint.name}] in dyno.toml"
    if path is not None:
        mend = f"its url must end before {path}, which is added to each request"
    elif answer.timed_out:
        mend = "if its model has to be loaded first, give it longer with --preflight SECONDS"
    elif answer.status in (401, 403):
        mend = f"check [endpoints.{endpoint.name}.token] in dyno.toml"
    elif answer.status in (404, 405):
        mend = f"check url and model of [endpoints.{endpoint.name}] in dyno.toml; the url usually ends in /v1"
    return f"endpoint '{endpoint.name}' at {endpoint.url}: {answer.error}; {mend}"
