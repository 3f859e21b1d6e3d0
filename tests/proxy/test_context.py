import pytest

from dyno_proxy.exchange.trace_context import read_baggage, read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(f"00-{TRACE}-{SPAN}-01", True), (f"00-{TRACE}-{SPAN}-00", False), (f"cc-{TRACE}-{SPAN}-01-more", True)],
)
def test_valid_traceparents(header: str, sampled: bool) -> None:
    """A client's span becomes the parent of ours, with its sampled flag.

    Later versions of the header may have more fields.
    """
    assert read_traceparent(header) == (int(TRACE, 16), int(SPAN, 16), sampled)


@pytest.mark.parametrize(
    "header",
    [None, "", "junk", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
     f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more"],
)  # fmt: skip
def test_invalid_traceparents_are_ignored(header: str | None) -> None:
    """A malformed header starts a new trace, as the specification asks."""
    assert read_traceparent(header) is None


@pytest.mark.parametrize(
    ("headers", "tags"),
    [
        (["dyno.run.id=r1,dyno.repeat=2"], {"dyno.run.id": "r1", "dyno.repeat": 2}),
        ([" dyno.prompt.id = a%20b%2Cc ;p=1 , other=x"], {"dyno.prompt.id": "a b,c"}),
        (["dyno.warmup=true", "dyno.warmup=false"], {"dyno.warmup": False}),
        (["dyno.send_lag_s=0.25,dyno.due_at_unix_us=17"], {"dyno.send_lag_s": 0.25, "dyno.due_at_unix_us": 17}),
        (["dyno.repeat=two,dyno.warmup=maybe,dyno.send_lag_s=,=,,"], {}),
        (["dyno.outcome=ok,user.id=7"], {}),
    ],
)
def test_baggage(headers: list[str], tags: dict[str, object]) -> None:
    """Only our own tags are taken, each in its type. Everything else in the baggage is ignored."""
    assert read_baggage(headers) == tags
