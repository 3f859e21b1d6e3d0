"""What the tests of the export by OTLP share."""

import os
from collections.abc import Iterator

import pytest

from rigs.otlp_receiver import OtlpReceiver, otlp_receiver


@pytest.fixture
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_… variables of the person who runs the tests are removed."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """Listens for OTLP over HTTP, and sets OTEL_EXPORTER_OTLP_ENDPOINT to its address."""
    with otlp_receiver() as each:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", each.url)
        yield each
