"""A response's plan: every write and its time are decided before the first byte is sent. Pure.

Simulated answers and scripts both become a `Plan`, and `frame` turns it into the bytes that go on the wire. So a
script decides every byte, including those that break HTTP's rules.
"""

from http import HTTPStatus
from typing import Final, Literal, NamedTuple

# How the body's end is told.
# chunked: each write is one HTTP chunk. length: Content-Length counts all that is sent, unless the headers have one.
# close: the body ends with the connection. raw: the plan's own headers and sends say it. bare: there is no head.
Framing = Literal["chunked", "length", "close", "raw", "bare"]
# How the response ends.
# complete: whole. close, reset: the connection ends early, by FIN or by RST. stall: nothing more is sent.
End = Literal["complete", "close", "reset", "stall"]

SERVER: Final = "dyno-simulate"
_PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}


class Send(NamedTuple):
    """One write, due `at_s` seconds after the request was received."""

    at_s: float
    data: bytes


class Plan(NamedTuple):
    """A response. Times are seconds since the request was received; `end_at_s` is when `end` happens."""

    status: int
    headers: tuple[tuple[str, str], ...]
    framing: Framing
    sends: tuple[Send, ...]
    head_at_s: float
    end_at_s: float
    end: End = "complete"
    reason: str | None = None  # None: HTTP's own phrase for the status

    def scaled(self, factor: float) -> "Plan":
        """The same plan with all its times multiplied."""
        return self._replace(
            sends=tuple(Send(send.at_s * factor, send.data) for send in self.sends),
            head_at_s=self.head_at_s * factor,
            end_at_s=self.end_at_s * factor,
        )


class Framed(NamedTuple):
    """A plan as bytes. `keep_alive`: the connection may carry another request afterwards."""

    writes: list[Send]
    end: End
    end_at_s: float
    keep_alive: bool


def frame(plan: Plan, *, head_request: bool, http10: bool) -> Framed:
    """The plan as writes of bytes. If the head and the first write are due at the same time, they are one write."""
    framing = plan.framing
    if framing == "chunked" and http10:
        framing = "close"
    end: End = "close" if plan.end == "complete" and framing in ("close", "bare") else plan.end
    bodyless = head_request or plan.status in (204, 304) or plan.status < 200
    writes = [] if framing == "bare" else [Send(plan.head_at_s, head_bytes(plan, framing, bodyless=bodyless))]
    if bodyless and framing != "bare":
        keep = end == "complete" or framing == "close"
        return Framed(writes, "complete" if keep else end, plan.end_at_s, keep)
    for send in plan.sends:
        data = b"%x\r\n%b\r\n" % (len(send.data), send.data) if framing == "chunked" and send.data else send.data
        writes.append(Send(send.at_s, data))
    if framing == "chunked" and end == "complete":
        writes.append(Send(plan.end_at_s, b"0\r\n\r\n"))
    return Framed(_merge_ends(writes), end, plan.end_at_s, end == "complete")


def head_bytes(plan: Plan, framing: Framing, *, bodyless: bool) -> bytes:
    """The response's head. Framing headers are added unless the plan has its own."""
    given = {name.lower() for name, _ in plan.headers}
    headers = [] if "server" in given else [("Server", SERVER)]
    headers += plan.headers
    no_length = plan.status in (204, 304) or plan.status < 200
    if framing == "length" and "content-length" not in given and not no_length:
        headers.append(("Content-Length", str(sum(len(send.data) for send in plan.sends))))
    elif framing == "chunked" and "transfer-encoding" not in given and not bodyless:
        headers.append(("Transfer-Encoding", "chunked"))
    reason = _PHRASES.get(plan.status, "") if plan.reason is None else plan.reason
    lines = [f"HTTP/1.1 {plan.status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _merge_ends(writes: list[Send]) -> list[Send]:
    """The writes, but the head is joined to the first one, and the terminator to the last chunk, if due together."""
    if len(writes) > 1 and writes[0].at_s == writes[1].at_s:
        writes[:2] = [Send(writes[0].at_s, writes[0].data + writes[1].data)]
    if len(writes) > 1 and writes[-1].data == b"0\r\n\r\n" and writes[-1].at_s == writes[-2].at_s:
        writes[-2:] = [Send(writes[-2].at_s, writes[-2].data + writes[-1].data)]
    return writes
