"""delivery.py: a span that is refused costs no other, and what the endpoint doesn't take now is sent again."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.export.answers import of_code, of_status, without
from dyno_proxy.export.delivery import Answer, Delivery, Kind
from dyno_proxy.export.waits import Waits
from dyno_proxy.telemetry.otlp_settings import header_values

Sent = Callable[[Sequence[Any]], Answer]
ACCEPTED = Answer(Kind.ACCEPTED)


def refusing(poison: set[int]) -> Sent:
    """An endpoint that refuses each batch with one of these in it. Spans are numbers here."""
    return lambda spans: Answer(Kind.BAD, "400") if poison & {*spans} else ACCEPTED


@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=4))
def test_only_the_refused_ones_are_lost(count: int, poison: set[int]) -> None:
    """Whatever spans of a batch an endpoint refuses: all others arrive, in their order, if it takes any."""
    taken: list[int] = []

    def send(spans: Sequence[Any]) -> Answer:
        answer = refusing(poison)(spans)
        if answer.kind is Kind.ACCEPTED:
            taken.extend(spans)
        return answer

    delivery = Delivery(send)
    before: Any = [-1]
    assert delivery.deliver(before).taken == [True]
    spans: Any = list(range(count))
    delivered = delivery.deliver(spans)
    assert delivered.stopped is None
    assert delivered.taken == [span not in poison for span in spans]
    assert taken == [-1, *(span for span in spans if span not in poison)]


@given(st.integers(1, 300))
def test_an_endpoint_that_refuses_everything_gets_nothing_dropped(count: int) -> None:
    """Until it has taken something, the fault isn't a span's: all wait, and it isn't asked hundreds of times."""
    tries: list[int] = []

    def send(spans: Sequence[Any]) -> Answer:
        tries.append(len(spans))
        return Answer(Kind.BAD, "400: no")

    spans: Any = list(range(count))
    delivered = Delivery(send).deliver(spans)
    assert delivered.taken == []
    assert delivered.stopped is not None
    assert len(tries) <= 20


@pytest.mark.parametrize("kind", [Kind.AGAIN, Kind.FORBIDDEN])
def test_what_comes_before_a_failure_is_taken(kind: Kind) -> None:
    """A batch is halved, its first half is taken, and then the endpoint goes away."""
    answers = iter([ACCEPTED, Answer(Kind.BAD), ACCEPTED, Answer(kind, "away")])
    delivery = Delivery(lambda _spans: next(answers))
    spans: Any = list(range(4))
    delivery.deliver(spans)
    delivered = delivery.deliver(spans)
    assert delivered.taken == [True, True]
    assert delivered.stopped == Answer(kind, "away")


def test_partial_success_counts() -> None:
    """The endpoint says how many of the spans it took it has rejected, not which."""
    spans: Any = list(range(5))
    delivered = Delivery(lambda _spans: Answer(Kind.ACCEPTED, rejected=2)).deliver(spans)
    assert (delivered.taken, delivered.rejected) == ([True] * 5, 2)


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((200, 202, 204), Kind.ACCEPTED),
        ((301, 302, 308, 401, 402, 403, 404, 405, 406, 407, 410, 415), Kind.FORBIDDEN),
        ((400, 413, 422), Kind.BAD),
        ((408, 425, 429, 500, 501, 502, 503, 504, 599), Kind.AGAIN),
    ],
)
def test_statuses(statuses: tuple[int, ...], kind: Kind) -> None:
    """What each of HTTP's statuses means. A redirect isn't followed, so nothing has arrived."""
    assert {of_status(status, "").kind for status in statuses} == {kind}


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        (("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"), Kind.FORBIDDEN),
        (("INVALID_ARGUMENT",), Kind.BAD),
        (("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "ABORTED", "INTERNAL"), Kind.AGAIN),
    ],
)
def test_codes(codes: tuple[str, ...], kind: Kind) -> None:
    """What each of gRPC's codes means."""
    assert {of_code(code, "").kind for code in codes} == {kind}


def test_a_message_that_is_too_long_is_halved() -> None:
    """A receiver says so by a code that else means that it is busy."""
    text = "grpc: received message larger than max (5000000 vs. 4194304)"
    assert of_code("RESOURCE_EXHAUSTED", text).kind is Kind.BAD


def test_texts_are_short_and_have_a_hint() -> None:
    """The log's line says the status, what the endpoint says, and what to set."""
    assert of_status(404, "<html>\nnot found\x1b[31m" + "x" * 1000).text.startswith("status 404: <html> not found[31mx")
    assert of_status(404, "").text == "status 404; the path of OTLP over HTTP ends in /v1/traces"
    assert of_status(401, "no key").text == "status 401: no key; set OTEL_EXPORTER_OTLP_HEADERS"


def test_the_log_repeats_no_secret() -> None:
    """An endpoint may answer with the very header that it refuses."""
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret-key,x-tenant=a"}
    answer = of_status(401, "no such key: s3cret-key, 'Bearer s3cret-key'")
    assert "s3cret" not in without(header_values(environ), answer).text
    assert without(header_values({}), answer) == answer


def test_the_pauses() -> None:
    """They double from half a second to half a minute; a Retry-After is heeded; where somebody has to mend, slowly."""
    waits, found = Waits(), []
    for _ in range(9):
        waits.failed(100.0)
        found.append(waits.pause_s(100.0))
    assert found == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    waits.worked()
    assert waits.pause_s(100.0) == 0.0
    waits.failed(100.0, least_s=7.0)
    assert waits.pause_s(100.0) == 7.0
    waits.failed(100.0, least_s=1e9)
    assert waits.pause_s(100.0) == 300.0
    waits.worked()
    waits.failed(100.0, slow=True)
    assert waits.pause_s(101.0) == 29.0
