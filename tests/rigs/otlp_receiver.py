"""An OTLP receiver over HTTP, in a thread: it keeps what it was sent, can be told how to answer, and can go away."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from rigs.network import free_port


class Reply(NamedTuple):
    """What it answers. `status` 0: it takes the spans, and the connection ends without an answer."""

    status: int = 200
    text: str = ""
    rejected: int = 0
    headers: tuple[tuple[str, str], ...] = ()


def accept(_spans: list[Span]) -> Reply:
    return Reply()


class OtlpReceiver:
    """Spans that were answered with 200 count as taken; all that came are in `came`, in their order."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.behave: Callable[[list[Span]], Reply] = accept
        self.resources: list[ResourceSpans] = []
        self.taken: list[Span] = []
        self.came: list[Span] = []
        self.requests = 0
        self.heads: list[dict[str, str]] = []
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen at the same address as before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # its name there
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver._take(self, body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_arguments: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Go away: connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def ids(self) -> list[str]:
        """The span ids that were taken."""
        return [span.span_id.hex() for span in self.taken]

    def _take(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        gone = self._server is None
        request = ExportTraceServiceRequest.FromString(body)
        spans = [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]
        self.requests += 1
        self.heads.append(dict(handler.headers.items()))
        self.came += spans
        reply = self.behave(spans)
        handler.close_connection = True
        if reply.status in (0, 200):
            self.resources += request.resource_spans
            self.taken += spans
        if gone or reply.status == 0:
            return
        content = reply.text.encode()
        kind = "text/plain"
        if reply.status == 200:
            answer = ExportTraceServiceResponse()
            if reply.rejected:
                answer.partial_success.rejected_spans = reply.rejected
            content, kind = answer.SerializeToString(), "application/x-protobuf"
        handler.send_response(reply.status)
        handler.send_header("Content-Type", kind)
        for name, value in reply.headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """One that listens until the block ends."""
    receiver = OtlpReceiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
