"""Sends spans by the SDK's exporter for OTLP over gRPC, and hears what the endpoint answers.

As over HTTP, each call is one try. The exporter keeps the answer to itself, so its stub is wrapped: a contract test
checks that it still has one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # it ships none
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan

from .answers import of_code
from .delivery import Answer, Kind


class GrpcEndpoint:
    """One endpoint. The SDK reads its variables from the process's environment when this is made."""

    def __init__(self, certificates: tuple[str | None, str | None, str | None]) -> None:
        """`certificates`: files of the authorities, the client's certificate and its key.

        The SDK looks at the client's only where there are authorities.
        """
        authorities, own, key = (None if file is None else Path(file).read_bytes() for file in certificates)
        credentials = None
        if authorities or own:
            credentials = grpc.ssl_channel_credentials(authorities, key or own, own)
        self._exporter = _Exporter(credentials=credentials, retryable_error_codes=[grpc.StatusCode.OK])

    def send(self, spans: Sequence[ReadableSpan]) -> Answer:
        """Send the spans once."""
        self._exporter.answer = Answer(Kind.BAD, "it can't be encoded, or is too long to be sent")
        try:
            self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  # the encoder's: it must cost no more than the span
            return Answer(Kind.BAD, f"{type(error).__name__}: {error}")
        return self._exporter.answer


class _Exporter(OTLPSpanExporter):
    answer = Answer(Kind.AGAIN)

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client: Any = _Stub(self._client, self)


class _Stub:
    """Notes what each call returns or raises."""

    def __init__(self, stub: Any, exporter: _Exporter) -> None:
        self._stub = stub
        self._exporter = exporter

    def Export(self, **call: Any) -> Any:  # noqa: N802  # gRPC's name
        try:
            response = self._stub.Export(**call)
        except grpc.RpcError as error:
            self._exporter.answer = of_code(error.code().name, error.details() or "")
            raise
        partial = response.partial_success
        self._exporter.answer = Answer(Kind.ACCEPTED, partial.error_message, rejected=partial.rejected_spans)
        return response
