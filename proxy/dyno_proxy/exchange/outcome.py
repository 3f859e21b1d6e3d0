"""Decides how an exchange ended, from what broke it and what the response said. Pure."""

from typing import Final, Literal

from dyno_proxy.outcomes import Ending, OtherName
from dyno_proxy.readers import Content

_StatusOutcome = Literal["http_error", "rate_limited", "auth"]

_OF_STATUS: Final[dict[int, _StatusOutcome]] = {401: "auth", 403: "auth", 429: "rate_limited"}
_OURS_TO_SAY: Final = ("client_cancelled", "rejected")  # the proxy decides on these, whatever the status is


def exchange_outcome(
    content: Content,
    status: int | None,
    broken: Ending | None,
    *,
    complete: bool,
    done: bool,
    judged: bool,
    strange: bool,
) -> Ending:
    """The outcome, and its error.type.

    `broken`: what ended the exchange early. `complete`: the body ended by HTTP's rules. `done`: its `[DONE]` came, or
    what the API has in its place. `judged`: the body is an answer that had to be read and could be read. `strange`:
    something in the body isn't of its API.
    """
    if broken is not None and (broken[0] in _OURS_TO_SAY or status is None or status < 400):
        if broken[0] == "rejected" or status is None or status >= 400:
            return broken
        # What the endpoint said before counts. An SDK may leave once it has read an error. It may also leave once it
        # has read its API's own end, before the frame that ends the body: then it has the whole answer.
        if content.error_type is None and not (broken[0] == "client_cancelled" and done and content.finished):
            return broken
    elif status is None:
        return "truncated", "no_response"
    elif status >= 400:
        of_status: _StatusOutcome = _OF_STATUS.get(status, "http_error")
        return of_status, OtherName(str(status))
    elif not complete and content.error_type is None:
        return "truncated", "connection_closed"
    if content.error_type is not None:
        return "stream_error", content.error_type
    if content.finished or not judged:
        return "ok", None
    if content.broken_off:
        return "truncated", "json_broken_off"
    # A stream of nothing but pings and `[DONE]` counts as a cut-off answer.
    if strange and not content.readable:
        return "stream_error", "not_the_api"
    return "truncated", "no_finish_reason"
