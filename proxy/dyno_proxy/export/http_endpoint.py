"""Sends spans by the SDK's exporter for OTLP over HTTP, and hears what the endpoint answers.

The exporter logs an answer and tries again by itself, for some seconds. Here each call is one try, whose answer says
what to do: for hours, if need be, while spans wait in the span files.
"""

import os
import re
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Final

import requests
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan

from .answers import of_status
from .delivery import Answer, Kind

_PROTOBUF: Final = "application/x-protobuf"
_ANSWER_CHARACTERS: Final = 4096
_FAILED: Final = 599  # a status that the SDK doesn't try again by itself
_CREDENTIALS: Final = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)


class HttpEndpoint:
    """One endpoint. The SDK reads its variables from the process's environment when this is made."""

    def __init__(self) -> None:
        self._heard = _Heard(_session())
        self._exporter = OTLPSpanExporter(session=self._heard)

    def send(self, spans: Sequence[ReadableSpan]) -> Answer:
        """Send the spans once."""
        self._heard.answer = Answer(Kind.BAD, "it can't be encoded, or is too long to be sent")
        self._exporter.export(spans)
        return self._heard.answer


class _Heard(requests.Session):
    """Notes each answer, and gives the SDK none that it would try again."""

    def __init__(self, session: requests.Session) -> None:
        super().__init__()
        self._session = session
        self.answer = Answer(Kind.AGAIN)

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        self._session.verify, self._session.cert = self.verify, self.cert
        try:
            response = self._try(*arguments, **options)
        except Exception as error:  # noqa: BLE001  # whatever it is, spans wait, and the log says it
            self.answer = Answer(Kind.AGAIN, _in_words(error))
            raise RuntimeError("it is tried later") from None
        self.answer = _answer(response)
        if self.answer.kind is not Kind.ACCEPTED:
            response.status_code = _FAILED
        return response

    def _try(self, *arguments: Any, **options: Any) -> requests.Response:
        try:
            return self._session.request(*arguments, **options)
        except requests.exceptions.Timeout:
            raise
        except requests.exceptions.ConnectionError:  # an idle connection may have been closed just now
            return self._session.request(*arguments, **options)


def _answer(response: requests.Response) -> Answer:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    text, rejected = "", 0
    if kind == _PROTOBUF:
        try:
            if response.ok:
                partial = ExportTraceServiceResponse.FromString(response.content).partial_success
                text, rejected = partial.error_message, partial.rejected_spans
            else:
                text = Status.FromString(response.content).message
        except DecodeError:
            text = ""
    elif not response.ok:
        text = response.text[:_ANSWER_CHARACTERS]
    if response.is_redirect:
        text = f"it leads to {response.headers.get('Location')}; set that address"
    return of_status(
        response.status_code, text, retry_after_s=_seconds(response.headers.get("Retry-After")), rejected=rejected
    )


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and re.fullmatch(r"\d{1,6}", retry_after) else 0.0


def _in_words(error: Exception) -> str:
    """What went wrong, without the names of classes and the address that `requests` puts around it."""
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    text = str(error)
    if "certificate" in text.lower() or isinstance(error, requests.exceptions.SSLError):
        found = re.search(r"certificate verify failed: ([^()]+)", text)
        return f"TLS: {found[1].strip() if found else 'it failed'}"
    if found := re.search(r"\[Errno -?\d+\] ([^'\")]+)", text):
        return found[1].strip().lower()
    if isinstance(error, requests.exceptions.ConnectionError):
        return "the connection ended"
    return f"{type(error).__name__}"


def _session() -> requests.Session:
    """The user's own, where the SDK's variable names a provider of one."""
    for variable in _CREDENTIALS:
        if name := os.environ.get(variable):
            for found in entry_points(group="opentelemetry_otlp_credential_provider", name=name):
                session: requests.Session = found.load()()
                return session
    return requests.Session()
